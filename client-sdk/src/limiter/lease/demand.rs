//! How many tokens to buy.

use tollgate_core::time::{Span, Time};

/// Smallest purchase.
const FEW: u64 = 8;
/// A purchase should last this long, or two round trips, whichever is longer: at most some 20 purchases per
/// second and key.
const LAST: Span = Span::from_millis(100);

/// Follows how fast tokens are spent.
#[derive(Debug)]
pub(super) struct Demand {
    /// When tokens were bought last.
    since: Time,
    /// What had been asked for by then.
    asked: u64,
    /// What was wanted last.
    want: u64,
    /// How long a purchase takes; the slowest counts at once, faster ones slowly.
    round_trip: Span,
}

impl Demand {
    pub(super) const fn new() -> Demand {
        Demand { since: Time::EPOCH, asked: 0, want: FEW, round_trip: Span::ZERO }
    }

    /// How many to buy now, given how many have been asked for so far: what two round trips take; twice the last
    /// purchase if that did not last; half of it if it lasted for long.
    pub(super) fn want(&mut self, now: Time, asked: u64, most: u64) -> u64 {
        let first = self.since == Time::EPOCH;
        // of a key that is bought for the first time it is known what it was asked in about a second
        let lasted = if first { Span::SECOND } else { now - self.since };
        let lasted = lasted.max(Span::MICRO);
        let span = LAST.max(Span::from_micros(self.round_trip.as_micros().saturating_mul(2)));
        let spent = asked.saturating_sub(self.asked);
        let needed = u128::from(spent) * u128::from(span.as_micros()) / u128::from(lasted.as_micros());
        let needed = u64::try_from(needed).unwrap_or(u64::MAX);
        let least = if lasted < LAST { self.want.saturating_mul(2) } else { self.want / 2 };
        (self.since, self.asked) = (now, asked);
        self.want = needed.max(least).clamp(FEW, most.max(1)).min(most);
        self.want
    }

    /// What came of a purchase: `short` if the limit had no more.
    pub(super) fn bought(&mut self, granted: u64, short: bool, round_trip: Span) {
        if short {
            self.want = granted.max(1);
        }
        let slower = Span::from_micros((self.round_trip.as_micros() * 7 + round_trip.as_micros()) / 8);
        self.round_trip = round_trip.max(slower);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::EPOCH + Span::from_secs(1_000) + Span::from_millis(millis)
    }

    #[test]
    fn a_hot_key_buys_twice_as_much_until_a_purchase_lasts() {
        let mut demand = Demand::new();
        assert_eq!(demand.want(at(0), 200, 100_000), 20, "a tenth of a second");
        assert_eq!(demand.want(at(10), 220, 100_000), 200, "what a tenth of a second takes");
        assert_eq!(demand.want(at(50), 221, 100_000), 400, "it did not last");
        assert_eq!(demand.want(at(60), 222, 500), 500, "the most");
    }

    #[test]
    fn a_key_that_cools_buys_half_as_much_each_time() {
        let mut demand = Demand::new();
        assert_eq!(demand.want(at(0), 4_000, 100_000), 400);
        assert_eq!(demand.want(at(1_000), 4_001, 100_000), 200);
        assert_eq!(demand.want(at(2_000), 4_002, 100_000), 100);
        assert_eq!(demand.want(at(60_000), 4_003, 100_000), 50);
    }

    #[test]
    fn near_the_limit_it_asks_for_what_there_is() {
        let mut demand = Demand::new();
        demand.want(at(0), 4_000, 100_000);
        demand.bought(30, true, Span::from_millis(1));
        assert_eq!(demand.want(at(1_000), 4_000, 100_000), 15);
    }

    #[test]
    fn slow_purchases_are_larger() {
        let mut demand = Demand::new();
        demand.want(at(0), 0, 100_000);
        demand.bought(8, false, Span::from_millis(200));
        assert_eq!(demand.want(at(1_000), 1_000, 100_000), 400, "two round trips at 1000 a second");
    }
}
