//! Token bucket: a burst at once, refilled at a rate.

use super::{Ask, Cost, Level, LimitError, Rate, Retry, State, Step, Verdict};
use crate::time::{Span, Time};

/// Largest burst, in tokens.
const MAX_BURST: u64 = 10_000_000;

/// Admits a request while tokens are left; tokens come back at a rate, up to a burst.
///
/// Any interval of length `d` holds at most `burst + floor(rate * d)` units. What a key remembers is the
/// tokens *taken*, so that changing the burst of a running limit never refills anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenBucket {
    rate: Rate,
    burst: u64,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, `1..=10_000_000`, refilled at `rate`.
    ///
    /// # Errors
    /// [`LimitError::Burst`] if the burst is out of range.
    pub fn new(rate: Rate, burst: u64) -> Result<TokenBucket, LimitError> {
        if (1..=MAX_BURST).contains(&burst) {
            Ok(TokenBucket { rate, burst })
        } else {
            Err(LimitError::Burst(burst))
        }
    }

    /// How fast tokens come back.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Tokens in a full bucket.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    pub(super) fn step(&self, state: Option<&State>, now: Time, ask: Ask) -> Step {
        let level = match state {
            Some(State::TokenBucket(level)) => level.drained(self.rate, now),
            _ => Level::empty(self.rate, now),
        };
        match ask.cost {
            Cost::Take(units) => self.take(&level, now, units),
            Cost::Refund(units) => self.refund(&level, now, units),
        }
    }

    pub(super) fn expires(&self, state: &State) -> Time {
        match state {
            State::TokenBucket(level) => level.emptied(self.rate),
            _ => Time::EPOCH,
        }
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.burst
    }

    fn take(&self, level: &Level, now: Time, units: u64) -> Step {
        let after = level.charged(units);
        if after.used <= self.burst {
            let state = (units > 0).then_some(State::TokenBucket(after));
            return Step { verdict: self.admitted(level, &after, now), state };
        }
        let retry_after = match self.burst.checked_sub(units) {
            Some(room) => Retry::After(Span::from_wide(level.until(self.rate, room, now))),
            None => Retry::Never,
        };
        let verdict = Verdict { allowed: false, retry_after, ..self.admitted(level, level, now) };
        Step { verdict, state: None }
    }

    fn refund(&self, level: &Level, now: Time, units: u64) -> Step {
        let after = level.refunded(units);
        let state = (after.used < level.used).then_some(State::TokenBucket(after));
        Step { verdict: self.admitted(level, &after, now), state }
    }

    fn admitted(&self, before: &Level, after: &Level, now: Time) -> Verdict {
        Verdict {
            allowed: true,
            limit: self.burst,
            remaining: self.burst.saturating_sub(after.used),
            used_before: before.used,
            used: after.used,
            retry_after: Retry::After(Span::ZERO),
            reset_after: Span::from_wide(after.until(self.rate, 0, now)),
            wait: Span::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Limit;

    fn bucket(count: u64, per: Span, burst: u64) -> Limit {
        Limit::TokenBucket(TokenBucket::new(Rate::new(count, per).unwrap(), burst).unwrap())
    }

    fn level(at: u64, used: u64, credit: u64, per: u64) -> State {
        State::TokenBucket(Level { at: Time::from_micros(at), used, credit, per })
    }

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_no_more() {
        let limit = bucket(3, Span::from_micros(10), 5);
        let step = limit.step(None, at(100), Ask::take(5));
        assert!(step.verdict.allowed);
        assert_eq!(step.state, Some(level(100, 5, 0, 10)));
        assert_eq!(step.verdict.reset_after, Span::from_micros(17), "50 / 3, rounded up");
        let refused = limit.step(step.state.as_ref(), at(100), Ask::take(2));
        assert_eq!((refused.verdict.allowed, refused.state), (false, None));
        assert_eq!(refused.verdict.retry_after, Retry::After(Span::from_micros(7)), "20 / 3, rounded up");
    }

    #[test]
    fn a_burst_of_one_still_limits() {
        let limit = bucket(1, Span::SECOND, 1);
        let mut state = None;
        let mut admitted = 0;
        for micros in (0..10_000_000).step_by(10_000) {
            let step = limit.step(state.as_ref(), at(micros), Ask::take(1));
            admitted += u64::from(step.verdict.allowed);
            state = step.state.or(state);
        }
        assert_eq!(admitted, 10);
    }

    #[test]
    fn more_than_the_burst_is_never_admitted_and_locks_nobody_out() {
        let limit = bucket(1, Span::SECOND, 10);
        let step = limit.step(None, at(0), Ask::take(11));
        assert_eq!((step.verdict.retry_after, &step.state), (Retry::Never, &None));
        assert!(limit.step(None, at(0), Ask::take(10)).verdict.allowed);
    }

    #[test]
    fn the_fastest_and_the_slowest_rate_are_exact() {
        let fast = bucket(10_000_000, Span::SECOND, 100);
        let refused = fast.step(Some(&level(0, 100, 0, 1)), at(0), Ask::take(11)).verdict;
        assert_eq!(refused.retry_after, Retry::After(Span::from_micros(2)));
        let year = 366 * 86_400_000_000;
        let slow = bucket(1, Span::from_micros(year), 1);
        assert!(!slow.step(Some(&level(0, 1, 0, year)), at(year - 1), Ask::take(1)).verdict.allowed);
        assert!(slow.step(Some(&level(0, 1, 0, year)), at(year), Ask::take(1)).verdict.allowed);
    }

    #[test]
    fn a_lowered_burst_is_paid_off_and_a_raised_one_refills_nothing() {
        let (large, small) = (bucket(1, Span::SECOND, 10), bucket(1, Span::SECOND, 2));
        let empty = level(0, 10, 0, 1_000_000);
        let peek = small.step(Some(&empty), at(0), Ask::peek()).verdict;
        assert_eq!((peek.allowed, peek.remaining), (false, 0));
        assert_eq!(peek.retry_after, Retry::After(Span::from_secs(8)));
        let refused = small.step(Some(&empty), at(0), Ask::take(1));
        assert_eq!((refused.verdict.retry_after, refused.state), (Retry::After(Span::from_secs(9)), None));
        assert!(!large.step(Some(&empty), at(999_999), Ask::take(1)).verdict.allowed);
    }

    #[test]
    fn a_refund_never_makes_more_than_a_full_bucket() {
        let limit = bucket(1, Span::SECOND, 10);
        let step = limit.step(Some(&level(0, 3, 5, 1_000_000)), at(0), Ask::refund(u64::MAX));
        assert_eq!(step.state, Some(level(0, 0, 0, 1_000_000)));
        assert_eq!(step.verdict.remaining, 10);
        assert_eq!(limit.step(None, at(0), Ask::refund(1)).state, None);
    }

    #[test]
    fn a_clock_that_went_backwards_brings_nothing() {
        let limit = bucket(1, Span::SECOND, 1);
        let refused = limit.step(Some(&level(5_000_000, 1, 0, 1_000_000)), at(0), Ask::take(1)).verdict;
        assert_eq!(refused.retry_after, Retry::After(Span::from_secs(6)));
    }

    #[test]
    fn the_burst_is_bounded() {
        let rate = Rate::new(1, Span::SECOND).unwrap();
        assert_eq!(TokenBucket::new(rate, 0), Err(LimitError::Burst(0)));
        assert_eq!(TokenBucket::new(rate, 10_000_001), Err(LimitError::Burst(10_000_001)));
    }
}
