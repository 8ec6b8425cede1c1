//! How long OPEN lasts.

use super::Wait;
use crate::load::random::SplitMix64;
use crate::time::Span;

/// More openings in a row than this make no difference to any wait.
const MAX_ATTEMPTS: u32 = 10_000;

impl Wait {
    /// The wait of the `attempt`-th opening in a row (from 1), before the spread.
    pub(super) fn steady(&self, attempt: u32) -> Span {
        // in 2^-20 microseconds, so that small bases grow too
        let cap = u128::from(self.cap.as_micros()) << 20;
        let mut wait = u128::from(self.base.as_micros()) << 20;
        for _ in 1..attempt.min(MAX_ATTEMPTS) {
            if wait >= cap || self.multiplier == 1_000 {
                break;
            }
            wait = wait * u128::from(self.multiplier) / 1_000;
        }
        Span::from_wide(wait.min(cap) >> 20)
    }

    /// The same, spread by the jitter.
    pub(super) fn spread(&self, attempt: u32, random: &mut SplitMix64) -> Span {
        let wait = u128::from(self.steady(attempt).as_micros());
        let (num, den) = (u128::from(self.jitter.numerator()), u128::from(self.jitter.denominator()));
        let (low, high) = (wait * (den - num) / den, wait * (den + num) / den);
        // 64 random bits, scaled to the width
        let width = high - low + 1;
        Span::from_wide(low + ((u128::from(random.next_u64()) * width) >> 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Ratio;

    #[test]
    fn waits_grow_to_the_cap_and_stay() {
        let wait = Wait::default();
        let millis = |attempt| wait.steady(attempt).as_micros() / 1_000;
        assert_eq!((millis(1), millis(2), millis(3)), (5_000, 7_500, 11_250));
        assert_eq!((millis(8), millis(u32::MAX)), (60_000, 60_000));
        let flat = Wait { multiplier: 1_000, ..wait };
        assert_eq!(flat.steady(u32::MAX), wait.base);
        let tiny = Wait { base: Span::MICRO, multiplier: 1_001, ..wait };
        assert!(tiny.steady(5_000) > Span::from_micros(100));
        let endless = Wait { base: Span::MAX, cap: Span::MAX, multiplier: 10_000, ..wait };
        assert_eq!(endless.steady(9), Span::MAX);
    }

    #[test]
    fn the_spread_covers_its_range_and_not_more() {
        let wait = Wait { base: Span::from_micros(10), jitter: Ratio::HALF, ..Wait::default() };
        let mut random = SplitMix64::new(1);
        let mut seen = [false; 32];
        for _ in 0..1_000 {
            seen[usize::try_from(wait.spread(1, &mut random).as_micros()).unwrap()] = true;
        }
        assert_eq!(seen.iter().position(|seen| *seen), Some(5));
        assert_eq!(seen.iter().rposition(|seen| *seen), Some(15));
        assert_eq!(seen.iter().filter(|seen| **seen).count(), 11);
        let exact = Wait { jitter: Ratio::percent(0).unwrap(), ..wait };
        assert_eq!(exact.spread(1, &mut random), Span::from_micros(10));
        let endless = Wait { base: Span::MAX, cap: Span::MAX, ..wait };
        assert!(endless.spread(9, &mut random) > Span::from_secs(1));
    }
}
