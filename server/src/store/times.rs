//! How long calls took: a histogram of fixed size, four buckets to each doubling.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets to each doubling: a figure is at most a quarter too high.
const STEPS: u64 = 4;
/// Up to 2^25 µs, 33 s.
const BUCKETS: usize = 100;

/// Counts calls by how long they took.
#[derive(Debug)]
pub struct Recorder([AtomicU64; BUCKETS]);

/// What was counted up to some moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Times([u64; BUCKETS]);

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Default for Times {
    fn default() -> Times {
        Times([0; BUCKETS])
    }
}

impl Recorder {
    /// Counts one call.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(1, Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Times {
        Times(array::from_fn(|bucket| self.0[bucket].load(Relaxed)))
    }
}

impl Times {
    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Times) -> Times {
        Times(array::from_fn(|bucket| self.0[bucket].saturating_sub(before.0[bucket])))
    }

    /// Calls.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time in microseconds that `percent` of the calls did not exceed, rounded up to the end of its bucket;
    /// `None` without calls.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let count = self.count();
        let rank = (count * percent.min(100)).div_ceil(100).max(1);
        let mut passed = 0;
        let found = self.0.iter().position(|calls| {
            passed += calls;
            passed >= rank
        });
        found.filter(|_| count > 0).map(end)
    }
}

/// 0 to 3 µs have buckets of their own; from then on each doubling has four.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return usize::try_from(micros).unwrap_or_default();
    }
    let doubling = u64::from(micros.ilog2());
    let step = (micros >> (doubling - 2)) - STEPS;
    let bucket = (doubling - 1) * STEPS + step;
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest time of a bucket, in microseconds.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let (doubling, step) = (bucket / STEPS + 1, bucket % STEPS);
    ((STEPS + step + 1) << (doubling - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket_and_buckets_are_narrow() {
        let mut before = 0;
        for micros in (0..10_000).chain((10_000..33_000_000).step_by(999)) {
            let bucket = bucket(micros);
            assert!(bucket >= before && micros <= end(bucket), "{micros}");
            assert!(bucket == 0 || end(bucket - 1) < micros, "{micros}");
            assert!(end(bucket) <= micros + micros / 4, "{micros} {}", end(bucket));
            before = bucket;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_came_since() {
        let recorder = Recorder::default();
        recorder.record(Duration::from_secs(9));
        let before = recorder.read();
        (0..98).for_each(|_| recorder.record(Duration::from_micros(100)));
        (0..2).for_each(|_| recorder.record(Duration::from_millis(20)));
        let since = recorder.read().since(&before);
        assert_eq!(since.count(), 100);
        assert_eq!(since.percentile(50), Some(111));
        assert_eq!(since.percentile(98), Some(111));
        assert_eq!(since.percentile(99), Some(20_479));
        assert_eq!(Times::default().percentile(50), None);
    }
}
