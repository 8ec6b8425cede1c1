//! Leaky bucket: requests leave at a rate and wait for their turn in a bounded queue.

use super::level::narrow;
use super::{Ask, Cost, Level, LimitError, Rate, Retry, State, Step, Verdict};
use crate::time::{Span, Time};

/// Largest queue, in requests.
const MAX_QUEUE: u64 = 10_000_000;

/// A shaper: tells each admitted request how long to wait, so that requests leave at a steady rate.
///
/// Units leave at `now + wait`. Without refunds and changes of the rate, any closed interval of length `d`
/// sees the departure of at most `1 + floor(((d + 1us) * count - 1) / per)` units of cost 1: real-valued
/// departures are `per / count` apart, and each is rounded up to a whole microsecond. A cost above 1 leaves
/// as a whole and holds up the next by its full length. A refund gives a place back at the end of the queue:
/// the next request gets the last turn that was given out, whoever it was given to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeakyBucket {
    rate: Rate,
    queue: u64,
}

impl LeakyBucket {
    /// Units leave at `rate`; `queue` of them may wait, `0..=10_000_000`, besides the one that leaves.
    ///
    /// # Errors
    /// [`LimitError::Queue`] if the queue is out of range.
    pub fn new(rate: Rate, queue: u64) -> Result<LeakyBucket, LimitError> {
        if queue <= MAX_QUEUE { Ok(LeakyBucket { rate, queue }) } else { Err(LimitError::Queue(queue)) }
    }

    /// How fast units leave.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// How many units may wait.
    #[must_use]
    pub const fn queue(&self) -> u64 {
        self.queue
    }

    pub(super) fn step(&self, state: Option<&State>, now: Time, ask: Ask) -> Step {
        let level = match state {
            Some(State::LeakyBucket(level)) => level.drained(self.rate, now),
            _ => Level::empty(self.rate, now),
        };
        let arrival = Arrival { now, patience: ask.patience };
        match ask.cost {
            Cost::Take(units) => self.take(&level, arrival, units),
            Cost::Refund(units) => self.refund(&level, arrival, units),
        }
    }

    pub(super) fn expires(&self, state: &State) -> Time {
        match state {
            State::LeakyBucket(level) => level.emptied(self.rate),
            _ => Time::EPOCH,
        }
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.queue + 1
    }

    fn take(&self, level: &Level, arrival: Arrival, units: u64) -> Step {
        let after = level.charged(units);
        let wait = level.until(self.rate, 0, arrival.now);
        if after.used <= self.capacity() && Span::from_wide(wait) <= arrival.patience {
            let state = (units > 0).then_some(State::LeakyBucket(after));
            let verdict = Verdict { wait: Span::from_wide(wait), ..self.admitted(level, &after, arrival) };
            return Step { verdict, state };
        }
        let retry_after = match self.capacity().checked_sub(units) {
            Some(room) => {
                let place = level.until(self.rate, room, arrival.now);
                let turn = wait.saturating_sub(u128::from(arrival.patience.as_micros()));
                Retry::After(Span::from_wide(place.max(turn)))
            }
            None => Retry::Never,
        };
        let verdict = Verdict { allowed: false, retry_after, ..self.admitted(level, level, arrival) };
        Step { verdict, state: None }
    }

    fn refund(&self, level: &Level, arrival: Arrival, units: u64) -> Step {
        let after = level.refunded(units);
        let state = (after.used < level.used).then_some(State::LeakyBucket(after));
        Step { verdict: self.admitted(level, &after, arrival), state }
    }

    fn admitted(&self, before: &Level, after: &Level, arrival: Arrival) -> Verdict {
        Verdict {
            allowed: true,
            limit: self.capacity(),
            remaining: self.remaining(after, arrival),
            used_before: before.used,
            used: after.used,
            retry_after: Retry::After(Span::ZERO),
            reset_after: Span::from_wide(after.until(self.rate, 0, arrival.now)),
            wait: Span::ZERO,
        }
    }

    /// Free places, or fewer if the patience would run out before they are taken.
    fn remaining(&self, level: &Level, arrival: Arrival) -> u64 {
        let places = self.capacity().saturating_sub(level.used);
        if arrival.patience == Span::MAX {
            return places;
        }
        // The request that finds `backlog` units waits (backlog * per - credit) / count, rounded up.
        let lag = level.at - arrival.now;
        let bearable = if lag <= arrival.patience {
            let scaled = u128::from((arrival.patience - lag).as_micros()) * u128::from(self.rate.count());
            narrow((scaled + u128::from(level.credit)) / u128::from(self.rate.per()))
        } else {
            0
        };
        match bearable.checked_sub(level.used) {
            Some(further) => places.min(further.saturating_add(1)),
            None => 0,
        }
    }
}

/// When a request comes and how long it can bear to wait.
#[derive(Clone, Copy)]
struct Arrival {
    now: Time,
    patience: Span,
}
