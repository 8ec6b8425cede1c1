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
        if after.used <= self.capacity() && arrival.overdue(wait) == 0 {
            let state = (units > 0).then_some(State::LeakyBucket(after));
            let verdict = Verdict { wait: Span::from_wide(wait), ..self.admitted(level, &after, arrival) };
            return Step { verdict, state };
        }
        let retry_after = match self.capacity().checked_sub(units) {
            Some(room) => {
                let place = level.until(self.rate, room, arrival.now);
                Retry::After(Span::from_wide(place.max(arrival.overdue(wait))))
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

/// When a request comes and how long it can bear to wait; [`Span::MAX`] is for ever.
#[derive(Clone, Copy)]
struct Arrival {
    now: Time,
    patience: Span,
}

impl Arrival {
    /// By how many microseconds a wait is longer than what can be borne.
    fn overdue(self, wait: u128) -> u128 {
        match self.patience {
            Span::MAX => 0,
            patience => wait.saturating_sub(u128::from(patience.as_micros())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Limit;

    /// Leaves 3 per 10us.
    fn bucket(queue: u64) -> Limit {
        Limit::LeakyBucket(LeakyBucket::new(Rate::new(3, Span::from_micros(10)).unwrap(), queue).unwrap())
    }

    fn backlog(at: u64, used: u64, credit: u64) -> State {
        State::LeakyBucket(Level { at: Time::from_micros(at), used, credit, per: 10 })
    }

    fn patient(units: u64, patience: u64) -> Ask {
        Ask { patience: Span::from_micros(patience), ..Ask::take(units) }
    }

    #[test]
    fn requests_of_one_instant_leave_one_after_the_other() {
        let mut state = None;
        let mut waits = Vec::new();
        for _ in 0..4 {
            let step = bucket(3).step(state.as_ref(), Time::EPOCH, Ask::take(1));
            waits.push(step.verdict.wait.as_micros());
            state = step.state;
        }
        assert_eq!(waits, [0, 4, 7, 10]);
        let refused = bucket(3).step(state.as_ref(), Time::EPOCH, Ask::take(1));
        assert_eq!(refused.verdict.retry_after, Retry::After(Span::from_micros(4)));
        assert_eq!((refused.verdict.wait, refused.state), (Span::ZERO, None));
    }

    #[test]
    fn without_a_queue_only_one_leaves_at_a_time() {
        assert!(bucket(0).step(None, Time::EPOCH, patient(1, 0)).verdict.allowed);
        let state = backlog(0, 1, 0);
        assert!(!bucket(0).step(Some(&state), Time::from_micros(3), Ask::take(1)).verdict.allowed);
        assert!(bucket(0).step(Some(&state), Time::from_micros(4), patient(1, 0)).verdict.allowed);
        assert_eq!(bucket(0).step(None, Time::EPOCH, Ask::take(2)).verdict.retry_after, Retry::Never);
    }

    #[test]
    fn who_cannot_wait_is_told_when_the_queue_is_short_enough() {
        let state = backlog(0, 3, 0);
        let refused = bucket(9).step(Some(&state), Time::EPOCH, patient(1, 9)).verdict;
        assert_eq!((refused.allowed, refused.retry_after), (false, Retry::After(Span::from_micros(1))));
        assert!(!bucket(9).step(Some(&state), Time::EPOCH, patient(0, 9)).verdict.allowed);
        let admitted = bucket(9).step(Some(&state), Time::from_micros(1), patient(1, 9)).verdict;
        assert_eq!((admitted.allowed, admitted.wait), (true, Span::from_micros(9)));
    }

    #[test]
    fn remaining_counts_only_turns_that_can_be_waited_for() {
        let remaining = |patience| bucket(9).step(None, Time::EPOCH, patient(1, patience)).verdict.remaining;
        assert_eq!([remaining(3), remaining(4), remaining(6), remaining(7)], [0, 1, 1, 2]);
        assert_eq!(remaining(1_000), 9);
    }

    #[test]
    fn boundless_patience_waits_for_a_turn_beyond_the_end_of_time() {
        let rate = Rate::new(1, Span::from_secs(1_800)).unwrap();
        let limit = Limit::LeakyBucket(LeakyBucket::new(rate, 8_089_351).unwrap());
        let state =
            State::LeakyBucket(Level { at: Time::EPOCH, used: 8_089_352, credit: 0, per: rate.per() });
        let refused = limit.step(Some(&state), Time::EPOCH, Ask::take(1)).verdict;
        assert_eq!(refused.retry_after, Retry::After(Span::from_secs(1_800)));
        assert_eq!(refused.reset_after, Span::MAX);
    }

    #[test]
    fn who_goes_away_gives_the_place_back() {
        let step = bucket(9).step(Some(&backlog(0, 3, 2)), Time::EPOCH, Ask::refund(1));
        assert_eq!(step.state, Some(backlog(0, 2, 2)));
        assert_eq!(step.verdict.remaining, 8);
    }

    #[test]
    fn the_queue_is_bounded() {
        let rate = Rate::new(1, Span::SECOND).unwrap();
        assert_eq!(LeakyBucket::new(rate, 10_000_001), Err(LimitError::Queue(10_000_001)));
    }
}
