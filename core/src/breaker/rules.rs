//! When counts are too bad.

use super::{Config, Ratio, Reason};
use crate::time::Span;

/// What is in a window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Calls that ended, in success or failure.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that were slow, failed or not.
    pub slow: u64,
    /// Calls in flight for longer than the slow duration, if those are watched.
    pub overdue: u64,
}

/// A share as it was measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many were bad.
    pub part: u64,
    /// Of how many; above zero.
    pub of: u64,
}

impl Rate {
    /// As a number in `0.0..=1.0`.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.part as f64 / self.of as f64
    }
}

/// The rules for outcomes in a window.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) failure_rate: Option<Ratio>,
    pub(super) slow_rate: Option<Ratio>,
    failures: u64,
    consecutive: u32,
    /// Longer calls are slow.
    slow_above: Span,
    pub(super) minimum: u64,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Rules {
        Rules {
            failure_rate: config.failure_rate,
            slow_rate: config.slow.map(|slow| slow.rate),
            failures: config.failures.map_or(u64::MAX, u64::from),
            consecutive: config.consecutive.unwrap_or(u32::MAX),
            slow_above: config.slow.map_or(Span::MAX, |slow| slow.duration),
            minimum: u64::from(config.minimum_calls),
        }
    }

    pub(super) fn is_slow(&self, duration: Span) -> bool {
        duration > self.slow_above
    }

    /// The share of failures among `counts`, if there are enough.
    pub(super) fn failure_rate(&self, counts: &Counts) -> Option<Rate> {
        (counts.calls >= self.minimum).then_some(Rate { part: counts.failures, of: counts.calls })
    }

    /// The share of slow calls, with those that will be.
    pub(super) fn slow_rate(&self, counts: &Counts) -> Option<Rate> {
        let calls = counts.calls + counts.overdue;
        (calls >= self.minimum).then_some(Rate { part: counts.slow + counts.overdue, of: calls })
    }

    /// Why `counts`, and `run` failures in a row, open a breaker.
    pub(super) fn broken(&self, counts: &Counts, run: u32) -> Option<Reason> {
        let Counts { calls, failures, slow, overdue } = *counts;
        let reached = |limit: Option<Ratio>, rate: Option<Rate>| {
            limit.zip(rate).is_some_and(|(limit, rate)| limit.reached(rate.part, rate.of))
        };
        if reached(self.failure_rate, self.failure_rate(counts)) {
            return Some(Reason::FailureRate { failures, calls });
        }
        if reached(self.slow_rate, self.slow_rate(counts)) {
            return Some(Reason::SlowRate { slow, overdue, calls });
        }
        if failures >= self.failures {
            return Some(Reason::Failures { failures, calls });
        }
        (run >= self.consecutive).then_some(Reason::Consecutive { failures: run })
    }
}
