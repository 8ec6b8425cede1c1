//! What a breaker counts.

use std::time::Duration;

use tollgate_core::breaker::Snapshot;

use super::Reason;
use crate::clock::duration;
use crate::state::State;

/// A breaker at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CircuitBreakerMetrics {
    /// What it does with calls.
    pub state: State,
    /// Why it does that.
    pub reason: Reason,
    /// How often it has changed.
    pub epoch: u32,
    /// Calls in the window that have ended.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that were slow, failed or not.
    pub slow: u64,
    /// Calls in flight for longer than the slow duration, if that is watched.
    pub overdue: u64,
    /// `0.0..=1.0`; `None` with too few calls.
    pub failure_rate: Option<f64>,
    /// `0.0..=1.0`; `None` with too few calls.
    pub slow_rate: Option<f64>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Half-open: probes that can still be taken.
    pub permits_left: Option<u32>,
    /// Calls rejected so far.
    pub not_permitted: u64,
    /// Results that came too late to count: the state in which their call began is over.
    pub late_results_dropped: u64,
    /// Until it changes by itself or lets a probe pass.
    pub remaining: Option<Duration>,
}

impl CircuitBreakerMetrics {
    pub(super) fn of(snapshot: &Snapshot) -> CircuitBreakerMetrics {
        let counts = snapshot.counts;
        CircuitBreakerMetrics {
            state: super::events::state(snapshot.mode),
            reason: snapshot.reason.clone(),
            epoch: snapshot.epoch,
            calls: counts.calls,
            failures: counts.failures,
            slow: counts.slow,
            overdue: counts.overdue,
            failure_rate: snapshot.failure_rate.map(|rate| rate.as_f64()),
            slow_rate: snapshot.slow_rate.map(|rate| rate.as_f64()),
            consecutive_failures: snapshot.consecutive,
            permits_left: snapshot.permits_left.map(u32::from),
            not_permitted: snapshot.not_permitted,
            late_results_dropped: snapshot.late,
            remaining: snapshot.remaining.map(duration),
        }
    }
}
