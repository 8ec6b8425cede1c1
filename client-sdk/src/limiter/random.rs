//! Random numbers that need not be secret: jitter, choices of the balancer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tollgate_core::load::ewma::choose_two;
use tollgate_core::load::random::mix64;

/// Step of splitmix64's sequence: the golden ratio (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator that many callers share: splitmix64 with its state in an atomic.
#[derive(Debug)]
pub(super) struct Random(AtomicU64);

impl Random {
    pub(super) fn seeded(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    /// Seeded by the process: no two clients share their jitter.
    pub(super) fn new() -> Random {
        use std::hash::{BuildHasher, RandomState};
        Random::seeded(RandomState::new().hash_one(STEP))
    }

    pub(super) fn roll(&self) -> u64 {
        mix64(self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP))
    }

    /// 32 random bits, as the core takes them.
    pub(super) fn roll_u32(&self) -> u32 {
        let [a, b, c, d, ..] = self.roll().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Two different numbers below `count`; `None` below two.
    pub(super) fn two_of(&self, count: usize) -> Option<(usize, usize)> {
        choose_two(count, (self.roll_u32(), self.roll_u32()))
    }

    /// A part of `span`: 0 to all of it.
    pub(super) fn part_of(&self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let wide = (u128::from(self.roll()) * (u128::from(micros) + 1)) >> 64;
        Duration::from_micros(u64::try_from(wide).unwrap_or(micros))
    }

    /// `span` less or more a part of a fifth of it.
    pub(super) fn around(&self, span: Duration) -> Duration {
        span.mul_f64(0.8) + self.part_of(span.mul_f64(0.4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_within_their_span() {
        let random = Random::seeded(7);
        let second = Duration::from_secs(1);
        assert!((0..1_000).all(|_| random.part_of(second) <= second));
        let around = |_| random.around(second);
        assert!((0..1_000).map(around).all(|it| it.as_millis() >= 800 && it.as_millis() <= 1_200));
        assert_eq!(random.part_of(Duration::ZERO), Duration::ZERO);
    }
}
