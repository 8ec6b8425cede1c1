//! What the client has done, as plain counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::decision::{Decision, DecisionSource};
use super::error::LimiterError;

/// A counter that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
struct BySource {
    allowed: Counter,
    refused: Counter,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    decisions: [BySource; DecisionSource::ALL.len()],
    invalid: Counter,
    unsupported: Counter,
    not_ready: Counter,
    shed: Counter,
    overloaded: Counter,
    late: Counter,
    suspended: Counter,
    unavailable: Counter,
    pub(super) connects: Counter,
    pub(super) connect_failures: Counter,
    pub(super) resolve_failures: Counter,
    pub(super) leases: Counter,
    pub(super) leased: Counter,
    pub(super) returned: Counter,
}

impl Counters {
    pub(super) fn decided(&self, decision: &Decision) {
        let by = &self.decisions[decision.source.index()];
        if decision.allowed { by.allowed.add(1) } else { by.refused.add(1) }
    }

    pub(super) fn failed(&self, error: &LimiterError) {
        let counter = match error {
            LimiterError::Invalid(_) => &self.invalid,
            LimiterError::Unsupported(_) => &self.unsupported,
            LimiterError::NotReady(_) => &self.not_ready,
            LimiterError::Shed { .. } => &self.shed,
            LimiterError::Overloaded { .. } => &self.overloaded,
            LimiterError::DeadlineExceeded => &self.late,
            LimiterError::Suspended { .. } => &self.suspended,
            LimiterError::Unavailable { .. } => &self.unavailable,
        };
        counter.add(1);
    }

    pub(super) fn snapshot(&self) -> LimiterMetrics {
        let decisions = DecisionSource::ALL.map(|source| {
            let by = &self.decisions[source.index()];
            DecisionCount { source, allowed: by.allowed.get(), refused: by.refused.get() }
        });
        LimiterMetrics {
            decisions,
            errors: [
                ("invalid", self.invalid.get()),
                ("unsupported", self.unsupported.get()),
                ("not_ready", self.not_ready.get()),
                ("shed", self.shed.get()),
                ("overloaded", self.overloaded.get()),
                ("deadline_exceeded", self.late.get()),
                ("suspended", self.suspended.get()),
                ("unavailable", self.unavailable.get()),
            ],
            connects: self.connects.get(),
            connect_failures: self.connect_failures.get(),
            resolve_failures: self.resolve_failures.get(),
            leases: self.leases.get(),
            leased_tokens: self.leased.get(),
            returned_tokens: self.returned.get(),
        }
    }
}

/// Decisions of one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DecisionCount {
    /// Where they came from.
    pub source: DecisionSource,
    /// How many let the request go on.
    pub allowed: u64,
    /// How many did not.
    pub refused: u64,
}

/// What a client has done since it was made.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LimiterMetrics {
    /// Decisions by source, in the order of [`DecisionSource::ALL`].
    pub decisions: [DecisionCount; DecisionSource::ALL.len()],
    /// Questions without a decision of the limiter, by the name of the reason.
    pub errors: [(&'static str, u64); 8],
    /// Attempts to connect.
    pub connects: u64,
    /// Attempts that failed.
    pub connect_failures: u64,
    /// Look-ups of the replicas that failed.
    pub resolve_failures: u64,
    /// Leases that were granted.
    pub leases: u64,
    /// Tokens in them.
    pub leased_tokens: u64,
    /// Tokens that were given back.
    pub returned_tokens: u64,
}

impl LimiterMetrics {
    /// Decisions that came from `source`.
    #[must_use]
    pub const fn from_source(&self, source: DecisionSource) -> u64 {
        let count = self.decisions[source.index()];
        count.allowed + count.refused
    }
}
