//! An exact rate: whole units per whole microseconds, in lowest terms.

use super::{LimitError, MAX_COUNT};
use crate::time::Span;

/// Fastest rate: units per second.
const FASTEST: u128 = 10_000_000;
/// Slowest rate: one unit in this many microseconds, 366 days.
const SLOWEST: u128 = Rate::SLOWEST_PERIOD.as_micros() as u128;

/// `count` units per `per` microseconds, in lowest terms.
///
/// A bucket counts in units of `1 / per` of a token: each microsecond brings exactly `count` of them, so
/// that no rate is rounded, neither 10 000 000 per second (10 in each microsecond) nor 1 per year.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rate {
    count: u64,
    per: u64,
}

impl Rate {
    /// What the slowest rate takes for one unit: 366 days.
    pub(super) const SLOWEST_PERIOD: Span = Span::from_secs(366 * 86_400);

    /// `count` units in each `per`, reduced by their greatest common divisor.
    ///
    /// # Errors
    /// [`LimitError::Rate`] below 1 unit per 366 days, above 10 000 000 per second, or if the reduced count
    /// is above [`MAX_COUNT`] (which needs a span of more than 28 years).
    pub fn new(count: u64, per: Span) -> Result<Rate, LimitError> {
        let micros = per.as_micros();
        let too_fast = u128::from(count) * 1_000_000 > u128::from(micros) * FASTEST;
        let too_slow = u128::from(micros) > u128::from(count) * SLOWEST;
        if count == 0 || too_fast || too_slow {
            return Err(LimitError::Rate { count, per });
        }
        let divisor = greatest_common_divisor(count, micros);
        let rate = Rate { count: count / divisor, per: micros / divisor };
        if rate.count > MAX_COUNT { Err(LimitError::Rate { count, per }) } else { Ok(rate) }
    }

    /// Units per [`Rate::per`], in lowest terms: `1..=2^53 - 1`.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count
    }

    /// Microseconds in which [`Rate::count`] units come, in lowest terms: `1..=2^53 - 1`.
    #[must_use]
    pub const fn per(self) -> u64 {
        self.per
    }
}

/// Euclid's algorithm; both are at least 1 (a per of zero is too fast for any count).
const fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Span = Span::from_secs(366 * 86_400);

    #[test]
    fn a_rate_is_kept_in_lowest_terms() {
        let rate = Rate::new(1_000, Span::from_secs(3_600)).unwrap();
        assert_eq!((rate.count(), rate.per()), (1, 3_600_000));
        assert_eq!(rate, Rate::new(2, Span::from_millis(7_200)).unwrap());
    }

    #[test]
    fn both_ends_of_the_range_are_valid_and_one_more_is_not() {
        let fastest = Rate::new(10_000_000, Span::SECOND).unwrap();
        assert_eq!((fastest.count(), fastest.per()), (10, 1));
        assert!(Rate::new(10_000_001, Span::SECOND).is_err());
        assert!(Rate::new(1, YEAR).is_ok());
        assert!(Rate::new(1, YEAR + Span::MICRO).is_err());
        assert!(Rate::new(2, YEAR + YEAR).is_ok());
    }

    #[test]
    fn nothing_per_second_and_anything_per_nothing_are_errors() {
        assert_eq!(Rate::new(0, Span::SECOND), Err(LimitError::Rate { count: 0, per: Span::SECOND }));
        assert!(Rate::new(1, Span::ZERO).is_err());
        assert!(Rate::new(0, Span::ZERO).is_err());
        assert!(Rate::new(u64::MAX, Span::MAX).is_err());
    }

    #[test]
    fn a_reduced_count_fits_into_a_double() {
        assert!(Rate::new(MAX_COUNT + 1, Span::MAX).is_err());
        assert!(Rate::new(MAX_COUNT - 1, Span::MAX).is_ok());
    }
}
