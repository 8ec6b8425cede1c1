//! Circuit breakers: stop calling a target that fails, and try it again with a few probes.
//!
//! [`CircuitBreaker`] is a cheap handle; clones share one breaker. Its state machine is
//! [`tollgate_core::breaker`]; this module gives it a clock, permits that come back by themselves, events and
//! names. It starts no task and takes no lock while closed.

mod builder;
mod events;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod permit;
mod registry;

use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use tokio::sync::watch;
use tollgate_core::breaker as core;
use tollgate_core::time::{Span, Time};

pub use builder::{CircuitBreakerBuilder, CircuitBreakerConfig, Recovery, SlidingWindow, Wait};
pub use events::{
    EventListener, FleetGate, FleetJoin, FleetMember, FleetOutcome, FleetTicket, FleetVerdict, LocalBreaker,
    Reason, Transition,
};
pub use metrics::CircuitBreakerMetrics;
#[cfg(feature = "otel")]
pub use otel::TransitionCounter;
pub use permit::Permit;
pub use registry::{CircuitBreakerRegistry, RegistryBuilder};

use permit::{Admitted, Borrowed};

use crate::classify::{AnyError, Classify, Outcome, Verdict};
use crate::clock::{Clock, duration, span};
use crate::config::{ConfigError, Rolls};
use crate::error::Error;
use crate::state::State;

/// A circuit breaker for one target. Clones are handles to the same breaker.
#[derive(Clone, Debug)]
pub struct CircuitBreaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    core: core::Breaker,
    clock: Arc<dyn Clock>,
    state: watch::Sender<State>,
    listeners: Vec<Arc<dyn EventListener>>,
    /// Held while listeners are told, so that they hear one change at a time, in order.
    telling: Mutex<()>,
    fleet: Option<Arc<dyn FleetGate>>,
    rolls: Rolls,
    /// See [`CircuitBreakerConfig::open_on_hint`].
    open_on_hint: bool,
}

/// Why a call may not be sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("circuit breaker {name} is {state}")]
#[non_exhaustive]
pub struct CircuitOpen {
    /// The breaker's name.
    pub name: Arc<str>,
    /// What it is doing.
    pub state: State,
    /// When it will let a call pass, if that is known.
    pub retry_after: Option<Duration>,
}

impl<E> From<CircuitOpen> for Error<E> {
    fn from(open: CircuitOpen) -> Error<E> {
        Error::circuit_open(open.name, open.state, open.retry_after)
    }
}

impl CircuitBreaker {
    /// Sets up a breaker; `name` is for errors, logs and metrics.
    pub fn builder(name: impl Into<Arc<str>>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(name.into(), CircuitBreakerConfig::default())
    }

    /// A breaker as a configuration file describes it.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that makes no sense.
    pub fn from_config(
        name: impl Into<Arc<str>>,
        config: CircuitBreakerConfig,
    ) -> Result<CircuitBreaker, ConfigError> {
        CircuitBreakerBuilder::new(name.into(), config).build()
    }

    fn from_builder(builder: CircuitBreakerBuilder) -> Result<CircuitBreaker, ConfigError> {
        let member = builder.member();
        let CircuitBreakerBuilder { name, config, clock, seed, listeners, fleet, initial } = builder;
        let open_on_hint = config.open_on_hint;
        let core = core::Breaker::new(config.compile(initial)?, seed, clock.now())?;
        let (state, _) = watch::channel(events::state(initial));
        let (telling, rolls) = (Mutex::new(()), Rolls::new(seed));
        let fleet = fleet.map(|fleet| fleet.join(member)).transpose()?;
        let inner = Inner { name, core, clock, state, listeners, telling, fleet, rolls, open_on_hint };
        let breaker = CircuitBreaker(Arc::new(inner));
        if let Some(gate) = &breaker.0.fleet {
            gate.attach(LocalBreaker::of(&breaker));
        }
        Ok(breaker)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    pub(crate) fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// Asks leave for one call. Never waits.
    ///
    /// # Errors
    /// [`CircuitOpen`] if the call must not be sent.
    pub fn try_acquire(&self) -> Result<Permit, CircuitOpen> {
        self.admit().map(|admitted| Permit::new(self.clone(), admitted))
    }

    fn admit(&self) -> Result<Admitted, CircuitOpen> {
        let now = self.now();
        let admitted = match &self.0.fleet {
            None => self.admit_locally(now).map(|local| Admitted::new(now, Some(local), None)),
            Some(gate) => self.admit_both(&**gate, now),
        };
        self.publish();
        admitted
    }

    fn admit_locally(&self, now: Time) -> Result<core::Permit, CircuitOpen> {
        self.0
            .core
            .admit(now)
            .map_err(|refused| self.refusal(events::state(refused.mode), refused.retry_after.map(duration)))
    }

    /// The fleet first; then the local breaker, which a probe of the fleet does not have to pass, unless it was
    /// opened by hand.
    fn admit_both(&self, gate: &dyn FleetGate, now: Time) -> Result<Admitted, CircuitOpen> {
        match gate.admit(now, self.0.rolls.next()) {
            FleetVerdict::Local(ticket) | FleetVerdict::Pass(ticket) => match self.admit_locally(now) {
                Ok(local) => Ok(Admitted::new(now, Some(local), Some((ticket, false)))),
                Err(open) => {
                    gate.forget(now, ticket);
                    Err(open)
                }
            },
            FleetVerdict::Probe(ticket) => match self.0.core.admit(now) {
                Err(order) if order.mode == core::Mode::ForcedOpen => {
                    gate.forget(now, ticket);
                    Err(self.refusal(State::ForcedOpen, order.retry_after.map(duration)))
                }
                local => Ok(Admitted::new(now, local.ok(), Some((ticket, true)))),
            },
            // who has switched this breaker off by hand wants no call rejected
            FleetVerdict::Refuse { .. } | FleetVerdict::Seed { .. } if self.is_off(now) => {
                self.admit_locally(now).map(|local| Admitted::new(now, Some(local), None))
            }
            FleetVerdict::Refuse { retry_after, .. } => {
                // no wait at all: nobody knows how long it takes
                let known = (!retry_after.is_zero()).then(|| duration(retry_after));
                Err(self.refusal(gate.state(), known))
            }
            FleetVerdict::Seed { open_for } => {
                // a gate that knows this breaker has opened it already, and told it how often it has opened
                if self.0.core.mode(now) != core::Mode::Open {
                    self.0.core.open_for(now, open_for, Reason::Fleet);
                }
                Err(self.refusal(State::Open, Some(duration(open_for))))
            }
        }
    }

    fn is_off(&self, now: Time) -> bool {
        matches!(self.0.core.mode(now), core::Mode::Disabled | core::Mode::MetricsOnly)
    }

    fn refusal(&self, state: State, retry_after: Option<Duration>) -> CircuitOpen {
        CircuitOpen { name: self.0.name.clone(), state, retry_after }
    }

    /// Awaits `call` if it may be sent; every error of it is a failure.
    ///
    /// # Errors
    /// [`Error::CircuitOpen`] without polling `call`, else its own as [`Error::Inner`].
    pub async fn call<T, E, F>(&self, call: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.call_with(&AnyError, call).await
    }

    /// The same, with `classifier` to tell failures of the target from other results. Dropped before its
    /// end, the call says nothing, but that it was slow if it was by then.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_with<T, E, F, C>(&self, classifier: &C, call: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let permit = Borrowed::new(self, self.admit()?);
        let result = call.await;
        permit.settle(&classifier.classify(result.as_ref()));
        result.map_err(Error::Inner)
    }

    /// What it is doing at this moment.
    #[must_use]
    pub fn state(&self) -> State {
        let state = events::state(self.0.core.mode(self.now()));
        self.publish();
        state
    }

    /// Everything that it counts.
    #[must_use]
    pub fn metrics(&self) -> CircuitBreakerMetrics {
        let snapshot = self.0.core.snapshot(self.now());
        self.publish();
        CircuitBreakerMetrics::of(&snapshot)
    }

    /// Its state as a value to wait on. A breaker changes when it is called: one that nobody calls stays open.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Rejects every call, until `ttl` is over or somebody resets it. A forgotten order is an outage: give a
    /// `ttl` if you can.
    pub fn force_open(&self, reason: &str, ttl: Option<Duration>) {
        self.0.core.force_open(self.now(), manual(reason, ttl));
        self.publish();
    }

    /// Lets every call pass and judges none, until `ttl` is over or somebody resets it.
    pub fn disable(&self, reason: &str, ttl: Option<Duration>) {
        self.0.core.disable(self.now(), manual(reason, ttl));
        self.publish();
    }

    /// Lets every call pass and tells listeners when it would have opened, until `ttl` is over or somebody
    /// resets it.
    pub fn metrics_only(&self, reason: &str, ttl: Option<Duration>) {
        self.0.core.metrics_only(self.now(), manual(reason, ttl));
        self.publish();
    }

    /// Closed, with nothing remembered.
    pub fn reset(&self, reason: &str) {
        // refused only with a TTL, and there is none
        let done = self.0.core.reset(self.now(), manual(reason, None));
        debug_assert!(done.is_ok());
        self.publish();
    }

    /// Opens for `wait`, for a cause outside of this process' calls. Does nothing to a state that was set by
    /// hand, and returns `false` then.
    pub fn open_for(&self, wait: Duration, reason: Reason) -> bool {
        let opened = self.0.core.open_for(self.now(), span(wait), reason);
        self.publish();
        opened
    }

    fn is_slow(&self, took: Span) -> bool {
        self.0.core.config().slow.is_some_and(|slow| took > slow.duration)
    }

    fn answered(&self, local: Option<&mut core::Permit>) {
        if let Some(permit) = local {
            self.0.core.answered(permit);
        }
    }

    /// Whether the call was a probe of the fleet; the local breaker knows its own.
    fn pass_probe(
        &self,
        local: Option<&mut core::Permit>,
        fleet: Option<&mut (FleetTicket, bool)>,
        took: Span,
    ) -> bool {
        let now = self.now();
        if let Some(permit) = local {
            self.0.core.pass_probe(permit, now, took);
        }
        let passed = match (fleet, &self.0.fleet) {
            (Some((ticket, probe)), Some(gate)) if *probe => {
                gate.record(now, *ticket, events::fleet_outcome(&Verdict::SUCCESS, true, took));
                (*ticket, *probe) = (ticket.after_probe(), false);
                true
            }
            _ => false,
        };
        self.publish();
        passed
    }

    /// The same, as the latest of `openings` in a row: the waits go on growing from there.
    pub(crate) fn open_again(&self, wait: Duration, openings: u32, reason: Reason) -> bool {
        let opened = self.0.core.open_again(self.now(), span(wait), openings, reason);
        self.publish();
        opened
    }

    /// The end of a call that was admitted: `took` until the head of its response.
    fn finish(
        &self,
        local: Option<core::Permit>,
        fleet: Option<(FleetTicket, bool)>,
        (now, took): (Time, Span),
        verdict: &Verdict,
    ) {
        if let Some(permit) = local {
            self.0.core.record_after(permit, now, outcome(verdict, self.0.open_on_hint), took);
        }
        if let (Some((ticket, probe)), Some(gate)) = (fleet, &self.0.fleet) {
            gate.record(now, ticket, events::fleet_outcome(verdict, probe, took));
        }
        self.publish();
    }

    /// Tells what has changed. One thread tells at a time. A thread that finds another one at it leaves:
    /// that one looks again after it has let go of the lock.
    fn publish(&self) {
        while self.0.core.has_transitions() {
            let _telling = match self.0.telling.try_lock() {
                Ok(telling) => telling,
                // a listener has panicked; the others are told on
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while let Some(transition) = self.0.core.take_transition() {
                let transition = Transition::of(self.0.name.clone(), transition);
                transition.log();
                self.0.state.send_replace(transition.to);
                self.0.listeners.iter().for_each(|listener| listener.on_transition(&transition));
            }
        }
    }
}

fn manual(reason: &str, ttl: Option<Duration>) -> core::Manual {
    core::Manual { reason: reason.into(), actor: "this process".into(), ttl: ttl.map(span) }
}

fn outcome(verdict: &Verdict, open_on_hint: bool) -> core::Outcome {
    match (verdict.outcome, verdict.hint.after) {
        (Outcome::Success, _) => core::Outcome::Success,
        (Outcome::Failure, Some(after)) => core::Outcome::Unavailable { retry_after: span(after) },
        (Outcome::Failure, None) => core::Outcome::Failure,
        (Outcome::Throttled { retry_after }, _) => {
            core::Outcome::Throttled { retry_after: retry_after.filter(|_| open_on_hint).map(span) }
        }
        (Outcome::Ignored, _) => core::Outcome::Ignored,
    }
}

#[cfg(test)]
mod tests;
