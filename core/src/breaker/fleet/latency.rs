//! A histogram of latencies with buckets of a quarter octave: a median that is at most 19 % too high.

use crate::time::Span;

/// Buckets: four per octave from 1 us on; the last one holds all above 2^23 us (8 s).
pub(crate) const BUCKETS: usize = 96;

/// The bucket of a latency.
pub(crate) const fn bucket_of(took: Span) -> usize {
    let micros = if took.as_micros() == 0 { 1 } else { took.as_micros() };
    let octave = micros.ilog2() as usize;
    let quarter = if octave >= 2 { ((micros >> (octave - 2)) & 3) as usize } else { 0 };
    let bucket = octave * 4 + quarter;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The largest latency of a bucket.
pub(crate) const fn top_of(bucket: usize) -> Span {
    let (octave, quarter) = (bucket / 4, bucket as u64 % 4);
    if octave < 2 {
        return Span::from_micros((2 << octave) - 1);
    }
    Span::from_micros(((5 + quarter) << (octave - 2)) - 1)
}

/// The median of what the buckets hold: the top of the bucket that contains it.
pub(crate) fn median(buckets: &[u64; BUCKETS]) -> Option<Span> {
    let total: u64 = buckets.iter().sum();
    let half = total.div_ceil(2);
    let mut below = 0;
    let middle = buckets.iter().position(|count| {
        below += count;
        total > 0 && below >= half
    });
    middle.map(top_of)
}

/// What a target's calls usually take, learned while all is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Typical {
    buckets: [u64; BUCKETS],
    halved: u64,
}

/// One reporter cannot decide what is typical: this much of a delta counts.
const MOST_PER_DELTA: u64 = 16;
/// Fewer samples than this say nothing.
const LEAST_SAMPLES: u64 = 100;
/// Old samples lose half their weight in this time, so that a slow drift is followed and an outage is not.
const HALF_LIFE_MICROS: u64 = 60_000_000;

impl Typical {
    pub(crate) const fn new() -> Typical {
        Typical { buckets: [0; BUCKETS], halved: 0 }
    }

    /// Learns that about half of `calls` successes took `median`.
    pub(crate) fn learn(&mut self, now_micros: u64, median: Span, calls: u64) {
        let age = now_micros.saturating_sub(self.halved) / HALF_LIFE_MICROS;
        if age > 0 {
            let shift = u32::try_from(age.min(63)).unwrap_or(63);
            for count in &mut self.buckets {
                *count >>= shift;
            }
            self.halved = now_micros;
        }
        if let Some(count) = self.buckets.get_mut(bucket_of(median)) {
            *count += calls.min(MOST_PER_DELTA);
        }
    }

    /// The median, once enough is known.
    pub(crate) fn median(&self) -> Option<Span> {
        let known: u64 = self.buckets.iter().sum();
        if known < LEAST_SAMPLES { None } else { median(&self.buckets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_in_its_bucket_and_buckets_are_narrow() {
        for micros in (1..2_000).chain((2_000..16_000_000).step_by(997)) {
            let bucket = bucket_of(Span::from_micros(micros));
            assert!(bucket == BUCKETS - 1 || top_of(bucket).as_micros() >= micros, "{micros}");
            assert!(bucket == 0 || top_of(bucket - 1).as_micros() < micros, "{micros}");
        }
        assert_eq!(bucket_of(Span::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_is_typical_before_enough_is_known() {
        let mut typical = Typical::new();
        for _ in 0..6 {
            typical.learn(0, Span::from_millis(10), 16);
        }
        assert_eq!(typical.median(), None);
        typical.learn(0, Span::from_millis(10), 16);
        let median = typical.median().unwrap();
        assert!(median >= Span::from_millis(10) && median < Span::from_millis(12), "{median}");
    }

    #[test]
    fn one_large_reporter_does_not_decide_and_old_samples_fade() {
        let mut typical = Typical::new();
        typical.learn(0, Span::from_secs(1), 1_000_000);
        for _ in 0..10 {
            typical.learn(0, Span::from_millis(1), 16);
        }
        assert!(typical.median().unwrap() < Span::from_millis(2));
        for minute in 1..12 {
            for _ in 0..10 {
                typical.learn(minute * HALF_LIFE_MICROS, Span::from_millis(50), 16);
            }
        }
        assert!(typical.median().unwrap() >= Span::from_millis(50));
    }
}
