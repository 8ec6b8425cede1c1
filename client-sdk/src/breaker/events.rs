//! Who is told when a breaker changes.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tollgate_core::breaker as core;
use tollgate_core::breaker::fleet::OutcomeKind;
use tollgate_core::time::{Span, Time};

pub use tollgate_core::breaker::Reason;
pub use tollgate_core::breaker::fleet::{FleetVerdict, Outcome as FleetOutcome, Ticket as FleetTicket};

use super::{CircuitBreaker, Inner};
use crate::classify::{Outcome, Verdict};
use crate::clock::{Clock, span};
use crate::config::ConfigError;
use crate::state::State;

/// One change of a breaker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transition {
    /// The breaker's name.
    pub name: Arc<str>,
    /// The state before.
    pub from: State,
    /// The state after. From metrics-only to metrics-only, this is a breaker that would have opened.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// The count of changes, with this one.
    pub epoch: u32,
}

impl Transition {
    pub(super) fn of(name: Arc<str>, transition: core::Transition) -> Transition {
        let core::Transition { from, to, reason, epoch, .. } = transition;
        Transition { name, from: state(from), to: state(to), reason, epoch }
    }

    /// Whether this breaker would have opened, but only measures.
    #[must_use]
    pub fn would_have_tripped(&self) -> bool {
        self.from == State::MetricsOnly && self.to == State::MetricsOnly
    }

    pub(super) fn log(&self) {
        let (name, from, to, reason) = (&*self.name, self.from, self.to, &self.reason);
        match to {
            State::Open => tracing::warn!(name, %from, %to, ?reason, "circuit breaker opened"),
            State::MetricsOnly if self.would_have_tripped() => {
                tracing::warn!(name, ?reason, "circuit breaker would have opened");
            }
            _ => tracing::info!(name, %from, %to, ?reason, "circuit breaker changed"),
        }
    }
}

pub(super) const fn state(mode: core::Mode) -> State {
    match mode {
        core::Mode::Closed => State::Closed,
        core::Mode::Open => State::Open,
        core::Mode::HalfOpen => State::HalfOpen,
        core::Mode::Recovering => State::Recovering,
        core::Mode::ForcedOpen => State::ForcedOpen,
        core::Mode::Disabled => State::Disabled,
        core::Mode::MetricsOnly => State::MetricsOnly,
    }
}

/// Is told of every change, exactly once and in order, by the thread whose call caused or noticed it.
///
/// It is called outside of the breaker's own locks; a slow listener delays that one call. To wait for a
/// change in a task, see [`CircuitBreaker::subscribe`](super::CircuitBreaker::subscribe).
pub trait EventListener: Send + Sync + 'static {
    /// The breaker has changed.
    fn on_transition(&self, transition: &Transition);
}

impl<F: Fn(&Transition) + Send + Sync + 'static> EventListener for F {
    fn on_transition(&self, transition: &Transition) {
        self(transition);
    }
}

impl fmt::Debug for dyn EventListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventListener")
    }
}

/// A breaker that the whole fleet shares, asked before the local one. It answers from memory: the guarded
/// call never waits for it. [`FleetView`](tollgate_core::breaker::fleet::FleetView) is the memory of one.
pub trait FleetGate: fmt::Debug + Send + Sync + 'static {
    /// Whether a call may be sent; `roll` is uniform over all `u32`.
    fn admit(&self, now: Time, roll: u32) -> FleetVerdict;

    /// A call that was admitted has ended.
    fn record(&self, now: Time, ticket: FleetTicket, outcome: FleetOutcome);

    /// A call that was admitted is not sent, since the local breaker refused it: a probe goes back to the
    /// fleet, and the call counts as one that was not permitted.
    fn forget(&self, now: Time, ticket: FleetTicket);

    /// What the fleet's breaker is doing, for the errors of refused calls.
    fn state(&self) -> State;

    /// A local breaker that asks this gate was built: what the fleet does may open or reset it.
    fn attach(&self, _local: LocalBreaker) {}
}

/// A local breaker as its gate sees it. Does not keep it alive.
#[derive(Clone, Debug)]
pub struct LocalBreaker(Weak<Inner>);

impl LocalBreaker {
    pub(super) fn of(breaker: &CircuitBreaker) -> LocalBreaker {
        LocalBreaker(Arc::downgrade(&breaker.0))
    }

    /// The breaker; `None` if nobody uses it any more.
    #[must_use]
    pub fn upgrade(&self) -> Option<CircuitBreaker> {
        self.0.upgrade().map(CircuitBreaker)
    }
}

/// What a gate has to know of the local breaker that it is for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FleetMember {
    /// Where the breaker learns the time.
    pub clock: Arc<dyn Clock>,
    /// How long it stays open first.
    pub base_wait: Duration,
    /// Calls that take longer are slow, unless the fleet says otherwise.
    pub slow_after: Option<Duration>,
    /// For the gate's jitter.
    pub seed: u64,
}

/// Gives a breaker its gate when it is built.
pub trait FleetJoin: fmt::Debug + Send + Sync + 'static {
    /// The gate.
    ///
    /// # Errors
    /// There can be none: [`ConfigError`] names the field and its range.
    fn join(&self, member: FleetMember) -> Result<Arc<dyn FleetGate>, ConfigError>;
}

impl<G: FleetGate> FleetJoin for Arc<G> {
    fn join(&self, _: FleetMember) -> Result<Arc<dyn FleetGate>, ConfigError> {
        Ok(self.clone())
    }
}

/// How a call ended, for the fleet. A target that asks for less has failed a probe; other calls of that kind
/// say nothing of its health.
pub(super) fn fleet_outcome(verdict: &Verdict, probe: bool, took: Span) -> FleetOutcome {
    let kind = match verdict.outcome {
        Outcome::Success => OutcomeKind::Success,
        Outcome::Failure => OutcomeKind::Failure,
        Outcome::Throttled { .. } if probe => OutcomeKind::Failure,
        Outcome::Throttled { .. } | Outcome::Ignored => OutcomeKind::Ignored,
    };
    FleetOutcome { kind, took, hint: verdict.hint.after.map(span) }
}
