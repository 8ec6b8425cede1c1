//! How full a bucket is: whole units in use, and what has been earned towards the next one.

use super::Rate;
use crate::time::{Span, Time};

/// The stored state of both buckets, exact to `1 / per` of a unit.
///
/// `used - credit / per` units are in use at `at`. Every number is at most `2^53 - 1` as long as it was
/// written by [`Limit::step`](super::Limit::step).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level {
    /// When the other numbers were true.
    pub at: Time,
    /// Whole units in use; a unit that has come back in part still counts as one.
    pub used: u64,
    /// Scaled units (`1 / per` of a unit) that have come back towards the next whole one, `0..per`; zero
    /// when nothing is in use.
    pub credit: u64,
    /// [`Rate::per`] of the rate under which `credit` was written, in microseconds. Under a rate with
    /// another one the credit is dropped: less than one unit, never in the caller's favour.
    pub per: u64,
}

impl Level {
    /// Nothing in use.
    pub(super) const fn empty(rate: Rate, now: Time) -> Level {
        Level { at: now, used: 0, credit: 0, per: rate.per() }
    }

    /// What is still in use at `now`, or at `self.at` if the clock went backwards. The result holds under
    /// `rate`, and the methods below expect that.
    pub(super) fn drained(&self, rate: Rate, now: Time) -> Level {
        let at = now.max(self.at);
        let kept = if self.per == rate.per() && self.credit < self.per { self.credit } else { 0 };
        let elapsed = (at - self.at).as_micros();
        let earned = u128::from(elapsed) * u128::from(rate.count()) + u128::from(kept);
        let (whole, credit) = (earned / u128::from(rate.per()), earned % u128::from(rate.per()));
        match self.used.checked_sub(narrow(whole)) {
            None | Some(0) => Level::empty(rate, at),
            Some(used) => Level { at, used, credit: narrow(credit), per: rate.per() },
        }
    }

    /// Microseconds from `now` until at most `units` are in use, rounded up; zero if that is so already.
    pub(super) fn until(&self, rate: Rate, units: u64, now: Time) -> u128 {
        if self.used <= units {
            return 0;
        }
        let missing = u128::from(self.used - units) * u128::from(rate.per()) - u128::from(self.credit);
        u128::from((self.at - now).as_micros()) + missing.div_ceil(u128::from(rate.count()))
    }

    /// With `units` more in use.
    pub(super) const fn charged(&self, units: u64) -> Level {
        Level { used: self.used.saturating_add(units), ..*self }
    }

    /// With `units` fewer in use; never fewer than none.
    pub(super) const fn refunded(&self, units: u64) -> Level {
        match self.used.saturating_sub(units) {
            0 => Level { used: 0, credit: 0, ..*self },
            used => Level { used, ..*self },
        }
    }

    /// The first instant at which nothing is in use; [`Time::MAX`] if that lies beyond all time.
    pub(super) fn emptied(&self, rate: Rate) -> Time {
        self.at + Span::from_wide(self.drained(rate, self.at).until(rate, 0, self.at))
    }
}

/// A wide number that the caller knows to fit; saturates rather than wraps for garbage.
pub(super) fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_per_ten() -> Rate {
        Rate::new(3, Span::from_micros(10)).unwrap()
    }

    fn level(at: u64, used: u64, credit: u64) -> Level {
        Level { at: Time::from_micros(at), used, credit, per: 10 }
    }

    #[test]
    fn refill_is_exact_over_any_number_of_steps() {
        let mut level = level(0, 100, 0);
        for now in 1..=10 {
            level = level.drained(three_per_ten(), Time::from_micros(now));
        }
        assert_eq!((level.used, level.credit), (97, 0));
    }

    #[test]
    fn part_of_a_unit_is_remembered() {
        assert_eq!(level(0, 5, 0).drained(three_per_ten(), Time::from_micros(5)), level(5, 4, 5));
    }

    #[test]
    fn an_empty_level_has_no_credit() {
        assert_eq!(level(0, 1, 9).drained(three_per_ten(), Time::from_micros(1)), level(1, 0, 0));
        assert_eq!(level(0, 1, 9).refunded(7), level(0, 0, 0));
    }

    #[test]
    fn waiting_rounds_up_and_counts_credit() {
        let now = Time::EPOCH;
        assert_eq!(level(0, 1, 0).until(three_per_ten(), 0, now), 4);
        assert_eq!(level(0, 1, 1).until(three_per_ten(), 0, now), 3);
        assert_eq!(level(0, 1, 1).until(three_per_ten(), 1, now), 0);
        assert_eq!(level(7, 1, 1).until(three_per_ten(), 0, now), 10, "a clock behind waits for its own lag");
    }

    #[test]
    fn credit_of_another_rate_is_dropped() {
        let slower = Rate::new(1, Span::from_micros(20)).unwrap();
        let drained = level(0, 2, 9).drained(slower, Time::from_micros(1));
        assert_eq!((drained.used, drained.credit, drained.per), (2, 1, 20));
    }

    #[test]
    fn garbage_never_panics() {
        let worst = Level { at: Time::MAX, used: u64::MAX, credit: u64::MAX, per: 0 };
        for rate in [three_per_ten(), Rate::new(1, Span::from_secs(366 * 86_400)).unwrap()] {
            assert_eq!(worst.drained(rate, Time::EPOCH).used, u64::MAX);
            assert_eq!(worst.emptied(rate), Time::MAX);
            assert_eq!(worst.charged(u64::MAX).used, u64::MAX);
        }
    }
}
