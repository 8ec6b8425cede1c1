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
