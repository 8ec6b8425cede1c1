//! The handle that breakers share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;
use tokio::sync::mpsc::{self, UnboundedSender};
use tollgate_core::breaker::fleet::ReporterId;
use tollgate_proto::tollgate::v1 as proto;
use tollgate_proto::tollgate::v1::circuit_breakers_client::CircuitBreakersClient;
use tonic::transport::Channel;

use super::builder::FleetClientBuilder;
use super::gate::Gate;
use super::key::FleetKey;
use super::link::{Link, Notice};
use super::stats::{FleetStats, Stats};
use crate::breaker::FleetMember;
use crate::clock::wall_clock;
use crate::config::{ConfigError, seed};
use crate::secure::Authed;

/// Takes part in the circuits of a fleet. Clones are handles to one client, which has one task and one
/// connection however many breakers join it.
#[derive(Clone, Debug)]
pub struct FleetClient(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) service: CircuitBreakersClient<Authed>,
    pub(super) reporter: proto::Reporter,
    circuits: Mutex<HashMap<FleetKey, Weak<Gate>, RandomState>>,
    most: usize,
    last: AtomicU64,
    /// The task ends when there is none left.
    notices: UnboundedSender<Notice>,
    stats: Arc<Stats>,
}

impl FleetClient {
    /// Sets up a client of the server at `address`, such as `http://tollgate:8081`.
    pub fn builder(address: impl Into<String>) -> FleetClientBuilder {
        FleetClientBuilder::to(address.into())
    }

    /// Sets up a client that uses a channel which exists already. It should keep its connection alive
    /// (`http2_keep_alive_interval`, `keep_alive_while_idle`), so that a server that vanishes is noticed.
    pub fn on(channel: Channel) -> FleetClientBuilder {
        FleetClientBuilder::on(channel)
    }

    pub(super) fn start(
        builder: FleetClientBuilder,
        channel: Channel,
        runtime: &tokio::runtime::Handle,
    ) -> FleetClient {
        let (notices, inbox) = mpsc::unbounded_channel();
        let stats = Arc::new(Stats::default());
        let FleetClientBuilder { transport, reporter, zone, most, security, .. } = builder;
        let service = CircuitBreakersClient::with_interceptor(channel, security.token);
        let incarnation = wall_clock().as_micros();
        let reporter = proto::Reporter { id: reporter, incarnation, zone };
        let link = Link::new((service.clone(), transport), reporter.clone(), inbox, stats.clone(), seed());
        runtime.spawn(link.run());
        FleetClient(Arc::new(Inner {
            service,
            reporter,
            circuits: Mutex::default(),
            most,
            last: AtomicU64::new(0),
            notices,
            stats,
        }))
    }

    /// As the server knows this process.
    #[must_use]
    pub fn reporter(&self) -> &[u8] {
        &self.0.reporter.id
    }

    /// What the client's task has done.
    #[must_use]
    pub fn stats(&self) -> FleetStats {
        self.0.stats.read()
    }

    /// Circuits that breakers use.
    #[must_use]
    pub fn circuits(&self) -> usize {
        self.0.circuits().len()
    }
}

impl Inner {
    fn circuits(&self) -> MutexGuard<'_, HashMap<FleetKey, Weak<Gate>, RandomState>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reporter_id(&self) -> ReporterId {
        let bytes = self.reporter.id.iter().take(8);
        ReporterId(bytes.fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }

    pub(super) fn tell(&self, notice: Notice) {
        // fails only if the runtime has ended, and the task with it
        let _ended = self.notices.send(notice);
    }

    pub(super) fn gate(&self, key: &FleetKey) -> Option<Arc<Gate>> {
        self.circuits().get(key).and_then(Weak::upgrade)
    }

    /// The circuit of `key`, which is made if nobody uses it yet.
    pub(super) fn join(
        self: &Arc<Inner>,
        key: &FleetKey,
        member: FleetMember,
    ) -> Result<Arc<Gate>, ConfigError> {
        let mut circuits = self.circuits();
        if let Some(gate) = circuits.get(key).and_then(Weak::upgrade) {
            return Ok(gate);
        }
        if circuits.len() >= self.most && !circuits.contains_key(key) {
            let field = "fleet client: circuits";
            return Err(ConfigError::range(field, "at most max_circuits", &(circuits.len() + 1)));
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let gate = Arc::new(Gate::new(self.clone(), number, key.clone(), member));
        circuits.insert(key.clone(), Arc::downgrade(&gate));
        drop(circuits);
        self.tell(Notice::Born(Arc::downgrade(&gate)));
        Ok(gate)
    }

    /// The circuit of that number is dropped.
    pub(super) fn forget(&self, key: &FleetKey, number: u64) {
        let mut circuits = self.circuits();
        // another one may have been made under the same name meanwhile
        if circuits.get(key).is_some_and(|gate| gate.strong_count() == 0) {
            circuits.remove(key);
        }
        drop(circuits);
        self.tell(Notice::Gone(number));
    }
}
