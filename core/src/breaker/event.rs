//! What goes in and out: permits, outcomes, refusals, transitions and their reasons.

use std::sync::Arc;

use thiserror::Error;

use super::Mode;
use crate::time::{Span, Time};

/// Leave for one call. Hand it back with its outcome: [`Breaker::record`](super::Breaker::record).
///
/// It cannot be copied, so that a call is counted once. A permit that never comes back costs a probe of
/// HALF_OPEN until its TTL, and nothing in CLOSED.
///
/// ```compile_fail,E0382
/// # use tollgate_core::breaker::{Breaker, Config, Outcome};
/// # use tollgate_core::time::Time;
/// let breaker = Breaker::new(Config::default(), 1, Time::EPOCH).unwrap();
/// let permit = breaker.admit(Time::EPOCH).unwrap();
/// breaker.record(permit, Time::EPOCH, Outcome::Success);
/// breaker.record(permit, Time::EPOCH, Outcome::Success); // the permit is spent
/// ```
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a call that is not recorded teaches the breaker nothing"]
pub struct Permit {
    pub(super) started: Time,
    pub(super) epoch: u32,
    /// Which probe, and which holder of it; zero outside HALF_OPEN.
    pub(super) slot: u16,
    pub(super) serial: u16,
    /// It is no longer watched as a call that may hang.
    pub(super) answered: bool,
    /// It was a probe, which has passed: see [`Breaker::pass_probe`](super::Breaker::pass_probe).
    pub(super) passed: bool,
}

impl Permit {
    pub(super) const fn new(epoch: u32, started: Time) -> Permit {
        Permit { started, epoch, slot: 0, serial: 0, answered: false, passed: false }
    }

    /// When the call was admitted.
    #[must_use]
    pub const fn started(&self) -> Time {
        self.started
    }

    /// The count of transitions at that time.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }
}

/// A call that was not admitted.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the circuit breaker is {mode:?}")]
pub struct Refused {
    /// Why.
    pub mode: Mode,
    /// When a call can be admitted if nobody else comes first; `None` if that depends on others.
    pub retry_after: Option<Span>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The target answered; also with "not found" and the like.
    Success,
    /// The target failed.
    Failure,
    /// The target failed and said when it would be back. A wait that the failure causes is at least so long.
    Unavailable {
        /// From now.
        retry_after: Span,
    },
    /// The target is alive and refuses load. Counts in no rate; with a hint it opens the breaker for so long,
    /// and as a probe it has failed.
    Throttled {
        /// From now.
        retry_after: Option<Span>,
    },
    /// Says nothing about the target, such as a call that its caller gave up. Gives its permit back.
    Ignored,
}

impl Outcome {
    pub(super) const fn hint(self) -> Option<Span> {
        match self {
            Outcome::Unavailable { retry_after } => Some(retry_after),
            Outcome::Throttled { retry_after } => retry_after,
            _ => None,
        }
    }
}

/// Who set a mode by hand, and for how long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manual {
    /// Why, for other people.
    pub reason: Arc<str>,
    /// Who.
    pub actor: Arc<str>,
    /// The mode ends by itself after this, in CLOSED; `None` if only another order ends it. Only for modes
    /// that last.
    pub ttl: Option<Span>,
}

/// An order by hand that makes no sense.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ManualError {
    /// Probes are for a breaker that refuses calls.
    #[error("a breaker that is {0:?} cannot be set to HalfOpen by hand")]
    HalfOpen(Mode),
    /// Closing and resetting are done at once.
    #[error("ttl must not be given: this order has no end")]
    Ttl,
}

/// Why a breaker changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It was made so.
    Initial,
    /// Too large a share of failures.
    FailureRate {
        /// Failures in the window.
        failures: u64,
        /// Calls in the window.
        calls: u64,
    },
    /// Too many failures in the window.
    Failures {
        /// How many.
        failures: u64,
        /// Calls in the window.
        calls: u64,
    },
    /// Too large a share of slow calls.
    SlowRate {
        /// Slow calls in the window.
        slow: u64,
        /// Calls in flight for longer than the slow duration.
        overdue: u64,
        /// Calls in the window that ended.
        calls: u64,
    },
    /// Too many failures in a row.
    Consecutive {
        /// How many.
        failures: u32,
    },
    /// The breaker that all instances share.
    Fleet,
    /// A person, by one of the orders of this breaker.
    Manual(Manual),
    /// The TTL of an order is over.
    ManualOver,
    /// The target asked not to be called.
    Hint {
        /// For how long.
        wait: Span,
    },
    /// OPEN has lasted long enough.
    WaitOver,
    /// Enough probes succeeded.
    ProbesPassed {
        /// Probes that failed.
        failures: u64,
        /// Probes that were slow.
        slow: u64,
        /// Probes that were counted.
        calls: u64,
    },
    /// Too many probes failed or were slow.
    ProbesFailed {
        /// Probes that failed.
        failures: u64,
        /// Probes that were slow.
        slow: u64,
        /// Probes that were counted.
        calls: u64,
    },
    /// HALF_OPEN lasted too long without a verdict.
    MaxWait,
    /// The ramp has reached all calls.
    Recovered,
}

/// One change of mode. From METRICS_ONLY to METRICS_ONLY it says what would have opened the breaker, once
/// per excursion above a threshold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// When.
    pub at: Time,
    /// The mode before.
    pub from: Mode,
    /// The mode after.
    pub to: Mode,
    /// Why.
    pub reason: Reason,
    /// The count of transitions, with this one.
    pub epoch: u32,
}
