//! The way to the limiter: its replicas, the choice among them, and the gate before all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tollgate_core::load::OutOfRange;
use tollgate_core::time::Time;
use tollgate_proto::tollgate::v1::{
    CheckResponse, LeaseRequest, LeaseResponse, ReturnLeaseRequest, ReturnLeaseResponse,
};

use super::balance::{Members, Pick, Route};
use super::builder::Settings;
use super::endpoint::{Endpoint, Shared};
use super::error::{ConfigError, LimiterError};
use super::fault::Fault;
use super::gate::Gate;
use super::metrics::Counters;
use super::random::Random;
use super::request::Ask;
use super::resolve::{Member, Resolve};
use crate::clock::Clock;

/// When replicas fail they are not looked up more often than this.
const REFRESH_APART: Duration = Duration::from_secs(5);
/// Longest time for a look-up.
const RESOLVE: Duration = Duration::from_secs(5);
/// How often one question is asked at most.
const ATTEMPTS: u32 = 5;

/// The way to the limiter.
#[derive(Debug)]
pub(super) struct LimiterChannel {
    members: ArcSwap<Members>,
    resolver: Box<dyn Resolve>,
    /// Somebody has asked.
    started: AtomicBool,
    /// The replicas have been looked up once.
    resolved: AtomicBool,
    gate: Gate,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl LimiterChannel {
    pub(super) fn new(
        resolver: Box<dyn Resolve>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        counters: Arc<Counters>,
    ) -> Result<Arc<LimiterChannel>, ConfigError> {
        let wrong = |error: &dyn std::fmt::Display| ConfigError::new("target", error.to_string());
        let random = Random::new();
        let gate = Gate::new(random.roll(), clock.now()).map_err(|error| wrong(&error))?;
        let none = Members::new(Vec::new()).map_err(|error| wrong(&error))?;
        let shared = Shared {
            settings,
            counters,
            clock,
            random,
            changed: watch::Sender::new(()),
            unreachable: Notify::new(),
        };
        let channel = LimiterChannel {
            members: ArcSwap::from_pointee(none),
            resolver,
            started: AtomicBool::new(false),
            resolved: AtomicBool::new(false),
            gate,
            shared: Arc::new(shared),
            stop: CancellationToken::new(),
        };
        if let Some(members) = channel.resolver.fixed() {
            channel.replace(members).map_err(|error| wrong(&error))?;
        }
        Ok(Arc::new(channel))
    }

    pub(super) fn random(&self) -> &Random {
        &self.shared.random
    }

    /// Ends every connection.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// Decides one question.
    pub(super) async fn check(
        self: &Arc<Self>,
        ask: &Ask,
        route: Route,
    ) -> Result<CheckResponse, LimiterError> {
        let deadline = Instant::now() + ask.deadline;
        let repeatable = ask.repeatable();
        self.asked(route, deadline, repeatable, |endpoint| {
            let wire = ask.wire.clone();
            async move { endpoint.check(wire, deadline).await }
        })
        .await
    }

    /// Asks for tokens.
    pub(super) async fn lease(
        self: &Arc<Self>,
        request: &LeaseRequest,
        (key, timeout): (u64, Duration),
    ) -> Result<LeaseResponse, LimiterError> {
        let deadline = Instant::now() + timeout;
        let ask = |endpoint: Arc<Endpoint>| lease(endpoint, request.clone(), deadline);
        self.asked(Route::Owner(key), deadline, false, ask).await
    }

    /// Gives tokens back. Twice counts once, so it is tried again.
    pub(super) async fn give_back(
        self: &Arc<Self>,
        request: &ReturnLeaseRequest,
        (key, timeout): (u64, Duration),
    ) -> Result<ReturnLeaseResponse, LimiterError> {
        let deadline = Instant::now() + timeout;
        let ask = |endpoint: Arc<Endpoint>| give_back(endpoint, request.clone(), deadline);
        self.asked(Route::Owner(key), deadline, true, ask).await
    }

    /// Passes the gate and asks one replica after another, until one has seen the question.
    async fn asked<T, F>(
        self: &Arc<Self>,
        route: Route,
        deadline: Instant,
        repeatable: bool,
        ask: impl Fn(Arc<Endpoint>) -> F,
    ) -> Result<T, LimiterError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        if self.stop.is_cancelled() {
            return Err(LimiterError::unavailable("the client is closed"));
        }
        let leave = self.gate.admit(&*self.shared.clock)?;
        self.start();
        let mut attempts = Attempts { left: ATTEMPTS, repeatable };
        let outcome = loop {
            let endpoint = match self.next(route, deadline).await {
                Ok(endpoint) => endpoint,
                Err(fault) => break Err(fault),
            };
            let began = self.shared.clock.now();
            let outcome = ask(endpoint.clone()).await;
            self.observe(&endpoint, began, &outcome);
            match outcome {
                Err(fault) if attempts.again_after(&fault) => {}
                outcome => break outcome,
            }
        };
        leave.settle(outcome.as_ref().map_or_else(Fault::is_failure, |_| Some(false)));
        outcome.map_err(LimiterError::from)
    }

    /// The next replica to ask; waits for one that is about to come up.
    async fn next(&self, route: Route, deadline: Instant) -> Result<Arc<Endpoint>, Fault> {
        if let Pick::Use(endpoint) = self.pick(route) {
            return Ok(endpoint);
        }
        let mut changed = self.shared.changed.subscribe();
        loop {
            match self.pick(route) {
                Pick::Use(endpoint) => return Ok(endpoint),
                Pick::Nobody if self.resolved.load(Relaxed) => {
                    return Err(Fault::not_sent("no replica can be reached"));
                }
                Pick::Wait | Pick::Nobody => {}
            }
            // the sender lives as long as this channel
            if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                return Err(Fault::not_sent("no replica was connected in time"));
            }
        }
    }

    fn pick(&self, route: Route) -> Pick {
        let members = self.members.load();
        members.endpoints().iter().for_each(Endpoint::start);
        members.pick(route, self.shared.clock.now(), &self.shared.random)
    }

    fn observe<T>(&self, endpoint: &Endpoint, began: Time, outcome: &Result<T, Fault>) {
        let now = self.shared.clock.now();
        match outcome {
            Ok(_) | Err(Fault::Answered(_)) => endpoint.answered(now, now - began),
            Err(Fault::Lost(_) | Fault::Late) => {
                if endpoint.failed(now) {
                    let pool = self.members.load().pool(now);
                    endpoint.outlier.eject(now, pool, self.shared.random.roll_u32());
                }
            }
            // that it is not connected is known without this
            Err(Fault::NotSent(_) | Fault::Overloaded { .. }) => {}
        }
    }

    fn start(self: &Arc<Self>) {
        if self.started.load(Relaxed) || self.started.swap(true, Relaxed) {
            return;
        }
        if self.resolver.fixed().is_none() {
            tokio::spawn(self.clone().follow());
        }
    }

    /// Looks the replicas up, now and again, until the client is closed.
    async fn follow(self: Arc<Self>) {
        loop {
            self.look_up().await;
            let at_once = async {
                tokio::time::sleep(REFRESH_APART).await;
                self.shared.unreachable.notified().await;
            };
            tokio::select! {
                () = tokio::time::sleep(self.shared.random.around(self.shared.settings.refresh)) => {}
                () = at_once => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn look_up(&self) {
        let error = match tokio::time::timeout(RESOLVE, self.resolver.resolve()).await {
            Ok(Ok(members)) if !members.is_empty() => match self.replace(members) {
                Ok(()) => return,
                Err(error) => error.to_string(),
            },
            Ok(Ok(_)) => "no addresses".into(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 5 s".into(),
        };
        tracing::warn!(%error, "the limiter's replicas cannot be looked up; those that are known stay");
        self.shared.counters.resolve_failures.add(1);
        self.resolved.store(true, Relaxed);
        self.shared.changed.send_replace(());
    }

    /// Keeps who is still there, with their connections; lets go who is not.
    fn replace(&self, found: Vec<Member>) -> Result<(), OutOfRange> {
        let old = self.members.load_full();
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(found.len());
        for member in found {
            if endpoints.iter().any(|known| known.member.address == member.address) {
                continue;
            }
            let known = old.endpoints().iter().find(|known| known.member == member).cloned();
            let make = || Endpoint::new(member, self.stop.child_token(), self.shared.clone());
            endpoints.push(known.map_or_else(make, Ok)?);
        }
        let new = Arc::new(Members::new(endpoints)?);
        if self.started.load(Relaxed) {
            new.endpoints().iter().for_each(Endpoint::start);
        }
        self.members.store(new.clone());
        let kept = |old: &Arc<Endpoint>| new.endpoints().iter().any(|member| Arc::ptr_eq(member, old));
        old.endpoints().iter().filter(|old| !kept(old)).for_each(|gone| gone.stop());
        self.resolved.store(true, Relaxed);
        self.shared.changed.send_replace(());
        Ok(())
    }
}

async fn lease(at: Arc<Endpoint>, request: LeaseRequest, deadline: Instant) -> Result<LeaseResponse, Fault> {
    at.call(async move |mut stub| stub.lease(request).await, deadline).await
}

async fn give_back(
    at: Arc<Endpoint>,
    request: ReturnLeaseRequest,
    deadline: Instant,
) -> Result<ReturnLeaseResponse, Fault> {
    at.call(async move |mut stub| stub.return_lease(request).await, deadline).await
}

/// How often one question may still be asked.
struct Attempts {
    left: u32,
    repeatable: bool,
}

impl Attempts {
    /// Whether to ask again after `fault`: always if the question has not been seen, once if it may have been
    /// and may be repeated. An endpoint with either fault is no longer up, so another one is asked, or the same
    /// after it has been connected again.
    fn again_after(&mut self, fault: &Fault) -> bool {
        self.left = self.left.saturating_sub(1);
        let again = match fault {
            Fault::NotSent(_) => true,
            Fault::Lost(_) => std::mem::take(&mut self.repeatable),
            _ => false,
        };
        again && self.left > 0
    }
}
