//! Counters that many threads write and one reads out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::super::latency::{BUCKETS, bucket_of, median};
use super::super::wire::Counts;
use crate::time::Span;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Success,
    Failure,
    SlowSuccess,
    SlowFailure,
    Ignored,
    NotPermitted,
}

/// One set of counters.
#[derive(Debug, Default)]
pub(super) struct CountSet {
    success: AtomicU64,
    failure: AtomicU64,
    slow_success: AtomicU64,
    slow_failure: AtomicU64,
    ignored: AtomicU64,
    not_permitted: AtomicU64,
}

impl CountSet {
    pub(super) fn add(&self, kind: Kind) {
        let counter = match kind {
            Kind::Success => &self.success,
            Kind::Failure => &self.failure,
            Kind::SlowSuccess => &self.slow_success,
            Kind::SlowFailure => &self.slow_failure,
            Kind::Ignored => &self.ignored,
            Kind::NotPermitted => &self.not_permitted,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn read(&self, read: impl Fn(&AtomicU64) -> u64) -> Counts {
        Counts {
            success: read(&self.success),
            failure: read(&self.failure),
            slow_success: read(&self.slow_success),
            slow_failure: read(&self.slow_failure),
            ignored: read(&self.ignored),
            not_permitted: read(&self.not_permitted),
        }
    }

    pub(super) fn peek(&self) -> Counts {
        self.read(|counter| counter.load(Relaxed))
    }

    /// Reads and clears: each count is read out exactly once.
    pub(super) fn take(&self) -> Counts {
        self.read(|counter| if counter.load(Relaxed) == 0 { 0 } else { counter.swap(0, Relaxed) })
    }
}

/// Latencies of successes.
#[derive(Debug)]
pub(super) struct Latencies([AtomicU32; BUCKETS]);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Latencies {
    pub(super) fn add(&self, took: Span) {
        if let Some(bucket) = self.0.get(bucket_of(took)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// The median, and starts anew.
    pub(super) fn take_median(&self) -> Option<Span> {
        let mut buckets = [0; BUCKETS];
        for (count, bucket) in buckets.iter_mut().zip(&self.0) {
            *count = if bucket.load(Relaxed) == 0 { 0 } else { bucket.swap(0, Relaxed).into() };
        }
        median(&buckets)
    }
}
