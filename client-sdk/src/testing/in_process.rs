//! A limiter inside the process: the real algorithms, rules given in code, no store, no configuration.

mod decide;
mod lease;
mod rpc;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tollgate_core::limit::{Limit, State};
use tollgate_core::rules::{
    Accuracy, BuildError, Charge, Defaults, DescriptorSpec, DomainSpec, Key, Matcher, OnFailure, Quota,
    RuleSpec,
};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1::CheckResponse;
use tollgate_proto::tollgate::v1::rate_limiter_server::RateLimiterServer;
use tonic::transport::Server;

use crate::clock::{Clock, SystemClock};
use lease::Granted;
use rpc::Rpc;

/// How long an answer is remembered by its idempotency key.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many are.
const REMEMBERED_ANSWERS: u64 = 10_000;
/// Counters that are kept before the ones at rest are dropped.
const COUNTERS: usize = 100_000;

/// Gives the rules of an [`InProcessLimiter`].
#[derive(Debug)]
pub struct InProcessLimiterBuilder {
    domains: Vec<DomainSpec>,
    clock: Arc<dyn Clock>,
    latency: Duration,
}

impl InProcessLimiterBuilder {
    /// Limits the requests in `domain` whose descriptor has these entries, each `key` (every value has a counter
    /// of its own) or `key=value`. A refusal by one limit charges none.
    #[must_use]
    pub fn limit(mut self, domain: &str, path: &[&str], limit: Limit) -> Self {
        let rule = RuleSpec {
            limit: Some(limit),
            quota: Quota::default(),
            name: String::new(),
            replaces: Vec::new(),
            on_failure: OnFailure::Error,
            accuracy: Accuracy::Auto,
            max_hold: Span::MAX,
        };
        if !self.domains.iter().any(|known| known.name == domain) {
            let charge = Charge::AllOrNothing;
            self.domains.push(DomainSpec { name: domain.into(), charge, ..DomainSpec::default() });
        }
        if let Some(found) = self.domains.iter_mut().find(|known| known.name == domain) {
            insert(&mut found.descriptors, path, rule);
        }
        self
    }

    /// Where it learns the time; the process' monotonic clock if not set.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Answers each message only after this long.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The limiter.
    ///
    /// # Errors
    /// A path that is there twice.
    pub fn build(self) -> Result<InProcessLimiter, BuildError> {
        Ok(InProcessLimiter(Arc::new(Inner {
            matcher: Matcher::build(self.domains, Defaults::default())?,
            clock: self.clock,
            latency: self.latency,
            states: Mutex::default(),
            answers: Cache::builder().max_capacity(REMEMBERED_ANSWERS).time_to_live(REMEMBERED).build(),
            admitted: AtomicU64::new(0),
            questions: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            purchases: AtomicU64::new(0),
        })))
    }
}

fn insert(siblings: &mut Vec<DescriptorSpec>, path: &[&str], rule: RuleSpec) {
    let Some((first, rest)) = path.split_first() else { return };
    let (key, value) = first.split_once('=').unwrap_or((first, ""));
    let place = siblings.iter().position(|known| known.key == key && known.value == value);
    let place = place.unwrap_or_else(|| {
        siblings.push(DescriptorSpec { key: key.into(), value: value.into(), ..DescriptorSpec::default() });
        siblings.len() - 1
    });
    let Some(node) = siblings.get_mut(place) else { return };
    if rest.is_empty() {
        node.rule = Some(rule);
    } else {
        insert(&mut node.descriptors, rest, rule);
    }
}

/// A limiter inside the process: decides with the algorithms of the service. Clones share their counters.
///
/// Fixed windows are leased until they end; other limits are not leased.
#[derive(Clone, Debug)]
pub struct InProcessLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    matcher: Matcher,
    clock: Arc<dyn Clock>,
    latency: Duration,
    states: Mutex<States>,
    answers: Cache<Vec<u8>, CheckResponse>,
    admitted: AtomicU64,
    questions: AtomicU64,
    messages: AtomicU64,
    purchases: AtomicU64,
}

#[derive(Debug, Default)]
struct States {
    /// With the instant at which they may be forgotten.
    counters: HashMap<Key, (State, Time)>,
    leases: HashMap<u64, Granted>,
    next_lease: u64,
}

impl States {
    fn put(&mut self, now: Time, key: Key, state: State, limit: &Limit) {
        if self.counters.len() >= COUNTERS {
            self.counters.retain(|_, (_, expires)| *expires > now);
        }
        let expires = limit.expires(&state);
        self.counters.insert(key, (state, expires));
    }
}

impl InProcessLimiter {
    /// Begins without rules.
    #[must_use]
    pub fn builder() -> InProcessLimiterBuilder {
        InProcessLimiterBuilder { domains: Vec::new(), clock: Arc::new(SystemClock), latency: Duration::ZERO }
    }

    /// Serves it on a free port of the loopback address, until the returned value is dropped. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub async fn serve(&self) -> io::Result<ServedLimiter> {
        self.serve_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves it on `address`.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub async fn serve_on(&self, address: SocketAddr) -> io::Result<ServedLimiter> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let service = RateLimiterServer::new(Rpc { limiter: self.clone(), stop: stop.clone() });
        let serving = Server::builder()
            .tcp_nodelay(true)
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        Ok(ServedLimiter { address, stop, task: tokio::spawn(serving) })
    }

    /// Units that were charged, by checks and leases, less what was given back.
    #[must_use]
    pub fn charged(&self) -> u64 {
        self.0.admitted.load(Relaxed)
    }

    /// Questions that were asked.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.0.questions.load(Relaxed)
    }

    /// Messages in which they came.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.0.messages.load(Relaxed)
    }

    /// Requests for leases.
    #[must_use]
    pub fn purchases(&self) -> u64 {
        self.0.purchases.load(Relaxed)
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A limiter that is served; dropped, it stops.
#[derive(Debug)]
pub struct ServedLimiter {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl ServedLimiter {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client is given to find it.
    #[must_use]
    pub fn target(&self) -> String {
        format!("static:{}", self.address)
    }

    /// Ends gracefully: connections are told to go away, streams end, and the port is closed when this returns.
    pub async fn shut_down(mut self) {
        self.stop.cancel();
        // the outcome is that it has ended
        let _ = (&mut self.task).await;
    }
}

impl Drop for ServedLimiter {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
