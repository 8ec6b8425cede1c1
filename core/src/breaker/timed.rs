//! The window of the last seconds: a ring of buckets, each stamped with its tick.
//!
//! A counter and the tick that it is of share one word, so that a writer of a newer tick starts the bucket
//! anew in the same step in which it counts. Nobody has to turn the ring.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Counts;
use super::stripe::{Apart, STRIPES, mine};
use super::window::Sample;
use crate::time::{Span, Time};

/// Bits of a word that hold the count; the others hold the tick. For any width of a tick in microseconds both
/// fit: all ticks until [`Time::MAX`], and 1 024 calls per microsecond, more than a thread can make.
pub(super) const fn count_bits(width: u64) -> u32 {
    10 + width.ilog2()
}

/// Counters in one [`Apart`].
const LINE: usize = 16;

/// Next to a settled tick: it holds until something bad is recorded.
const CLEAN: u64 = 1;

const fn settled(tick: u64) -> u64 {
    (tick + 1) << 1
}

/// One counter of one bucket.
#[derive(Debug, Default)]
struct Stamped(AtomicU64);

impl Stamped {
    /// Counts one at `tick`. A clock that went back counts into the newest bucket.
    #[inline]
    fn add_one(&self, tick: u64, bits: u32) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let next = if word >> bits < tick { tick << bits | 1 } else { word + 1 };
            // sequentially consistent, as the sums are: of two writers, one sees both outcomes and judges
            match self.0.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// The count, if its bucket is `oldest` or newer.
    #[inline]
    fn count(&self, oldest: u64, bits: u32) -> u64 {
        let word = self.0.load(Ordering::SeqCst);
        if word >> bits >= oldest { word & ((1 << bits) - 1) } else { 0 }
    }
}

#[derive(Debug)]
pub(super) struct Timed {
    /// Ticks are counted from here.
    origin: Time,
    /// Microseconds in a bucket.
    width: u64,
    bits: u32,
    buckets: u64,
    /// Outcomes that are no failures, per stripe and bucket.
    passed: Box<[Apart<[Stamped; LINE]>]>,
    /// Lines of one stripe.
    lines: usize,
    failures: Box<[Stamped]>,
    slow: Box<[Stamped]>,
    /// A tick in which no success can break a rule, because the window held the minimum already or
    /// ([`CLEAN`]) nothing bad; zero for none.
    settled: Apart<AtomicU64>,
}

impl Timed {
    pub(super) fn new(origin: Time, length: Span, buckets: u32) -> Timed {
        let size = usize::try_from(buckets).unwrap_or(1);
        let lines = size.div_ceil(LINE);
        let stamps = || (0..size).map(|_| Stamped::default()).collect();
        let width = (length.as_micros() / u64::from(buckets)).max(1);
        Timed {
            origin,
            width,
            bits: count_bits(width),
            buckets: u64::from(buckets),
            passed: (0..STRIPES * lines).map(|_| Apart::default()).collect(),
            lines,
            failures: stamps(),
            slow: stamps(),
            settled: Apart::default(),
        }
    }

    #[inline]
    pub(super) fn tick(&self, now: Time) -> u64 {
        (now - self.origin).as_micros() / self.width
    }

    pub(super) const fn buckets(&self) -> u64 {
        self.buckets
    }

    /// The oldest tick in the window at `tick`.
    const fn oldest(&self, tick: u64) -> u64 {
        (tick + 1).saturating_sub(self.buckets)
    }

    /// How many full windows lie between.
    pub(super) fn turns(&self, since: Time, now: Time) -> u64 {
        (now - since).as_micros() / self.width / self.buckets
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the number of buckets, at most 64")]
    fn index(&self, tick: u64) -> usize {
        (tick % self.buckets) as usize
    }

    /// Counts an outcome; whether it may break a rule.
    #[inline]
    pub(super) fn record(&self, tick: u64, sample: &Sample) -> bool {
        let index = self.index(tick);
        if !sample.failed {
            let line = mine() * self.lines + index / LINE;
            if let Some(bucket) = self.passed.get(line).and_then(|line| line.0.get(index % LINE)) {
                bucket.add_one(tick, self.bits);
            }
            if !sample.slow {
                return self.settled.0.load(Ordering::SeqCst) & !CLEAN != settled(tick);
            }
        }
        let bad = [(sample.slow, &self.slow), (sample.failed, &self.failures)];
        for (_, buckets) in bad.iter().filter(|(counts, _)| *counts) {
            if let Some(bucket) = buckets.get(index) {
                bucket.add_one(tick, self.bits);
            }
        }
        if self.settled.0.load(Ordering::SeqCst) & CLEAN != 0 {
            self.settled.0.store(0, Ordering::SeqCst);
        }
        true
    }

    pub(super) fn counts(&self, tick: u64) -> Counts {
        let oldest = self.oldest(tick);
        let sum = |stamps: &[Stamped]| stamps.iter().map(|stamp| stamp.count(oldest, self.bits)).sum();
        let (failures, slow): (u64, u64) = (sum(&self.failures), sum(&self.slow));
        let passed: u64 = self.passed.iter().map(|line| sum(&line.0)).sum();
        Counts { calls: passed + failures, failures, slow, overdue: 0 }
    }

    fn is_clean(&self, tick: u64) -> bool {
        let oldest = self.oldest(tick);
        let mut bad = self.failures.iter().chain(&self.slow);
        bad.all(|stamp| stamp.count(oldest, self.bits) == 0)
    }

    /// Whether nothing bad is in the window. Then nothing is to be judged until something is.
    pub(super) fn settle_clean(&self, tick: u64) -> bool {
        if !self.is_clean(tick) {
            return false;
        }
        // marked, then looked again: either we see what is bad, or its writer sees our mark and takes it off
        self.settled.0.store(settled(tick) | CLEAN, Ordering::SeqCst);
        let clean = self.is_clean(tick);
        if !clean {
            self.settled.0.store(0, Ordering::SeqCst);
        }
        clean
    }

    /// The window holds the minimum. Until the next tick more calls can only come, and successes only make
    /// the rates better.
    pub(super) fn settle(&self, tick: u64) {
        self.settled.0.store(settled(tick), Ordering::SeqCst);
    }

    pub(super) fn clear(&self) {
        let lines = self.passed.iter().flat_map(|line| &line.0);
        for Stamped(word) in lines.chain(&self.failures).chain(&self.slow) {
            word.store(0, Ordering::Relaxed);
        }
        self.settled.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MAX_MICROS;

    #[test]
    fn a_new_tick_starts_the_bucket_anew() {
        let stamp = Stamped(AtomicU64::new(7 << 20 | 3));
        assert_eq!((stamp.count(7, 20), stamp.count(8, 20)), (3, 0));
        stamp.add_one(8, 20);
        assert_eq!(stamp.count(8, 20), 1);
    }

    #[test]
    fn a_clock_that_went_back_counts_into_the_newest_bucket() {
        let stamp = Stamped(AtomicU64::new(100 << 20 | 2));
        stamp.add_one(3, 20);
        assert_eq!((stamp.count(0, 20), stamp.count(100, 20), stamp.count(101, 20)), (3, 3, 0));
    }

    #[test]
    fn ticks_and_counts_fit_for_every_width() {
        for width in [1, 2, 3, 999, 1_000, 1_000_000, 86_400_000_000, MAX_MICROS] {
            let bits = count_bits(width);
            let last = MAX_MICROS / width;
            assert_eq!(last << bits >> bits, last, "width {width}");
            assert!(1_u64 << bits > width * 512, "width {width}");
        }
    }
}
