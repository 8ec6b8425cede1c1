//! One replica of the limiter: its connection, its stream, how it does.
//!
//! A task of the endpoint connects; questions never do. tonic's lazy channel would dial once for every
//! question that finds it disconnected, without a pause between attempts. So each channel here is given one
//! connection and no second one, and a new channel is made by the task, after a pause of full jitter that
//! doubles from 50 ms to 5 s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tollgate_core::load::OutOfRange;
use tollgate_core::load::ewma::{EwmaConfig, PeakEwma};
use tollgate_core::load::outlier::{Outlier, OutlierConfig};
use tollgate_core::load::random::hash_bytes;
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1::rate_limiter_client::RateLimiterClient as Stub;
use tollgate_proto::tollgate::v1::{CheckRequest, CheckResponse};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::builder::{Settings, Transport};
use super::fault::Fault;
use super::metrics::Counters;
use super::random::Random;
use super::resolve::Member;
use super::stream::Lane;
use super::wire;
use crate::clock::Clock;
use crate::secure::Authed;

/// Longest time for a connection and its stream to be there.
const CONNECT: Duration = Duration::from_secs(1);
/// The shortest upper end of a pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longer than any queue.
const ANY_WAIT: Duration = Duration::from_secs(366 * 86_400);
/// A connection that lived for less is not replaced at once.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// What all endpoints of a client share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Random,
    /// Told whenever an endpoint comes up or goes down.
    pub(super) changed: watch::Sender<()>,
    /// Told when an endpoint cannot be connected to: its address may have changed.
    pub(super) unreachable: Notify,
}

/// What there is to ask an endpoint with.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each replica, behind a pointer")]
enum Link {
    /// Nobody has asked yet.
    Idle,
    /// The first attempt is under way, or the first one after a connection was lost.
    Connecting,
    Up(Up),
    /// The last attempt failed; there will be others.
    Down,
}

#[derive(Clone, Debug)]
struct Up {
    stub: Stub<Authed>,
    /// `None` if every check is a call of its own.
    lane: Option<Lane>,
}

/// Whether an endpoint can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// Yes.
    Up,
    /// Perhaps soon.
    Soon,
    /// No.
    Down,
}

/// One replica.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) member: Member,
    /// The same number in every process.
    pub(super) id: u64,
    /// Of the present connection: what was before says little about it.
    ewma: ArcSwap<PeakEwma>,
    /// The present connection has answered something.
    heard: AtomicBool,
    pub(super) outlier: Outlier,
    link: ArcSwap<Link>,
    started: AtomicBool,
    in_flight: AtomicU32,
    /// The connection is gone.
    lost: Arc<Notify>,
    stop: CancellationToken,
    shared: Arc<Shared>,
}

/// One question in flight.
struct InFlight<'e>(&'e AtomicU32);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Endpoint {
    pub(super) fn new(
        member: Member,
        stop: CancellationToken,
        shared: Arc<Shared>,
    ) -> Result<Arc<Endpoint>, OutOfRange> {
        let now = shared.clock.now();
        Ok(Arc::new(Endpoint {
            id: hash_bytes(member.address.as_bytes()),
            member,
            ewma: ArcSwap::from_pointee(PeakEwma::new(&EwmaConfig::default(), now)?),
            heard: AtomicBool::new(false),
            outlier: Outlier::new(OutlierConfig::default(), now)?,
            link: ArcSwap::from_pointee(Link::Idle),
            started: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            lost: Arc::new(Notify::new()),
            stop,
            shared,
        }))
    }

    /// Begins to connect, if nobody has asked before.
    pub(super) fn start(self: &Arc<Endpoint>) {
        if !self.started.load(Relaxed) && !self.started.swap(true, Relaxed) {
            self.link.store(Arc::new(Link::Connecting));
            tokio::spawn(self.clone().keep());
        }
    }

    /// Ends the connection, once what is in flight has been answered or a second has passed.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn reach(&self) -> Reach {
        match **self.link.load() {
            Link::Up(_) => Reach::Up,
            Link::Idle | Link::Connecting => Reach::Soon,
            Link::Down => Reach::Down,
        }
    }

    /// What a further question is expected to take; for comparing. A connection that has not answered yet is
    /// asked one question before all others, since nothing else tells how it does.
    pub(super) fn load(&self, now: Time) -> f64 {
        let in_flight = self.in_flight.load(Relaxed);
        if in_flight == 0 && !self.heard.load(Relaxed) {
            return 0.0;
        }
        self.ewma.load().load(now, in_flight)
    }

    /// An answer came after `rtt`.
    pub(super) fn answered(&self, now: Time, rtt: Span) {
        self.ewma.load().observe(now, rtt);
        self.heard.store(true, Relaxed);
        // a call that went well ejects nobody
        let _ = self.outlier.record(now, true);
    }

    /// No answer came. Whether the endpoint should be ejected.
    pub(super) fn failed(&self, now: Time) -> bool {
        self.ewma.load().penalize(now, Span::ZERO);
        self.heard.store(true, Relaxed);
        self.outlier.record(now, false)
    }

    /// Asks one question.
    pub(super) async fn check(&self, check: CheckRequest, deadline: Instant) -> Result<CheckResponse, Fault> {
        let (link, up) = self.up()?;
        let _counted = self.counted();
        let patience = deadline.saturating_duration_since(Instant::now());
        let check = CheckRequest {
            // without a longest wait, the deadline would be taken for it
            max_wait: check.max_wait.or(Some(wire::to_wire(ANY_WAIT))),
            // a check in a stream has no deadline of its own
            timeout: up.lane.is_some().then(|| wire::to_wire(patience)),
            ..check
        };
        let answer = async {
            match &up.lane {
                Some(lane) => lane.ask(check).await,
                None => unary(up.stub.clone(), check, deadline).await,
            }
        };
        let answer = tokio::time::timeout_at(deadline, answer).await.unwrap_or(Err(Fault::Late));
        answer.inspect_err(|fault| self.doubt(&link, fault))
    }

    /// A call of its own, whatever the checks do.
    pub(super) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(Stub<Authed>) -> Result<tonic::Response<T>, Status>,
        deadline: Instant,
    ) -> Result<T, Fault> {
        let (link, up) = self.up()?;
        let _counted = self.counted();
        let answer = async { call(up.stub).await.map_err(|status| Fault::of_status(&status)) };
        let answer = tokio::time::timeout_at(deadline, answer).await.unwrap_or(Err(Fault::Late));
        answer.map(tonic::Response::into_inner).inspect_err(|fault| self.doubt(&link, fault))
    }

    /// Takes a link that could not send out of use before its own task finds out.
    fn doubt(&self, link: &Arc<Link>, fault: &Fault) {
        if matches!(fault, Fault::NotSent(_)) {
            self.link.compare_and_swap(link, Arc::new(Link::Connecting));
        }
    }

    fn up(&self) -> Result<(Arc<Link>, Up), Fault> {
        let link = self.link.load_full();
        match &*link {
            Link::Up(up) => {
                let up = up.clone();
                Ok((link, up))
            }
            _ => Err(Fault::not_sent("not connected")),
        }
    }

    fn counted(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(&self.in_flight)
    }

    /// Offers a new connection.
    fn offer(&self, up: Up) {
        self.heard.store(false, Relaxed);
        // the default settings are in range
        if let Ok(fresh) = PeakEwma::new(&EwmaConfig::default(), self.shared.clock.now()) {
            self.ewma.store(Arc::new(fresh));
        }
        self.set(Link::Up(up));
    }

    fn set(&self, link: Link) {
        self.link.store(Arc::new(link));
        self.shared.changed.send_replace(());
    }

    /// Keeps a connection until the endpoint is stopped.
    async fn keep(self: Arc<Endpoint>) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            failures = if self.serve().await { 0 } else { failures + 1 };
            if failures == 0 {
                continue;
            }
            let longest = PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(self.shared.random.part_of(longest)) => {}
                () = self.stop.cancelled() => {}
            }
        }
        self.set(Link::Down);
    }

    /// One connection, from its beginning to its end. Whether the next one may follow at once.
    async fn serve(&self) -> bool {
        self.shared.counters.connects.add(1);
        let opened = tokio::select! {
            opened = tokio::time::timeout(CONNECT, self.open()) => opened,
            () = self.stop.cancelled() => return false,
        };
        let error = match opened {
            Ok(Ok(opened)) => {
                let began = Instant::now();
                let answered = self.run(opened).await;
                return answered && began.elapsed() >= SHORT_LIVED;
            }
            Ok(Err(error)) => error,
            Err(_) => "no connection within a second".into(),
        };
        tracing::debug!(endpoint = %self.member.address, %error, "the limiter cannot be reached");
        self.shared.counters.connect_failures.add(1);
        self.set(Link::Down);
        self.shared.unreachable.notify_one();
        false
    }

    async fn open(&self) -> Result<Opened, String> {
        let token = self.shared.settings.security.token.clone();
        let stub = Stub::with_interceptor(self.connect().await?, token);
        if self.shared.settings.transport == Transport::Unary {
            return Ok(Opened { stub, stream: None });
        }
        let (lane, outbound) = Lane::new(self.shared.settings.coalesce);
        match stub.clone().check_stream(outbound).await {
            Ok(inbound) => Ok(Opened { stub, stream: Some((lane, inbound.into_inner())) }),
            // an older server
            Err(status) if status.code() == Code::Unimplemented => Ok(Opened { stub, stream: None }),
            Err(status) => Err(status.to_string()),
        }
    }

    async fn connect(&self) -> Result<Channel, String> {
        let (member, security) = (&self.member, &self.shared.settings.security);
        let connected = security.connect(&member.address, &member.authority).await;
        let io = connected.map_err(|error| error.to_string())?;
        let origin = format!("{}://{}", security.scheme(), member.authority);
        let origin: http::Uri = origin.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        // the connection is there already, encrypted or not
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", member.authority))
            .map_err(|error| error.to_string())?
            .origin(origin)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        let (mut io, lost) = (Some(io), self.lost.clone());
        let connector = tower::service_fn(move |_| {
            let io = io.take();
            if io.is_none() {
                lost.notify_one();
            }
            let gone = std::io::Error::new(std::io::ErrorKind::NotConnected, "the connection is gone");
            std::future::ready(io.map(TokioIo::new).ok_or(gone))
        });
        endpoint.connect_with_connector(connector).await.map_err(|error| error.to_string())
    }

    /// Lets the connection be used until it ends. Whether it was of any use.
    async fn run(&self, opened: Opened) -> bool {
        let Opened { stub, stream } = opened;
        let Some((lane, inbound)) = stream else {
            self.offer(Up { stub, lane: None });
            tokio::select! {
                () = self.lost.notified() => {}
                () = self.stop.cancelled() => {}
            }
            self.set(Link::Connecting);
            return true;
        };
        self.offer(Up { stub, lane: Some(lane.clone()) });
        let leave = async {
            self.stop.cancelled().await;
            self.set(Link::Down);
        };
        let stop = CancellationToken::new();
        let serve = lane.serve(inbound, &stop);
        tokio::pin!(serve, leave);
        let answered = tokio::select! {
            answered = &mut serve => answered,
            () = &mut leave => {
                stop.cancel();
                serve.await
            }
        };
        // whoever asks now goes elsewhere, or waits for the next connection
        self.set(Link::Connecting);
        answered
    }
}

struct Opened {
    stub: Stub<Authed>,
    stream: Option<(Lane, tonic::Streaming<tollgate_proto::tollgate::v1::CheckStreamResponse>)>,
}

async fn unary(
    mut stub: Stub<Authed>,
    check: CheckRequest,
    deadline: Instant,
) -> Result<CheckResponse, Fault> {
    let mut request = Request::new(check);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    let answer = stub.check(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Fault::of_status(&status))
}
