//! The breaker of the whole limiter: after many failures nobody waits for a deadline.

use tollgate_core::breaker::{Breaker, Config, ConfigError, HalfOpen, Outcome, Permit, Wait};
use tollgate_core::time::{Span, Time};

use super::error::LimiterError;
use crate::clock::{Clock, duration};

/// After this long another question is tried if the last one has not come back.
const PROBE: Span = Span::from_secs(5);

/// Lets questions pass to the limiter. Shut by 10 failures in a row, or half of 20 within 10 s (the breaker's own
/// defaults); tries one question after 1 s, and waits half as long again after each failed one, up to 10 s, each
/// give or take a half, so that clients do not come back together.
#[derive(Debug)]
pub(super) struct Gate(Breaker);

/// Leave for one question. Dropped, it says nothing about the limiter.
pub(super) struct Leave<'g> {
    gate: &'g Gate,
    clock: &'g dyn Clock,
    permit: Option<Permit>,
}

impl Gate {
    pub(super) fn new(seed: u64, now: Time) -> Result<Gate, ConfigError> {
        let config = Config {
            half_open: HalfOpen { permits: 1, max_wait: None, permit_ttl: PROBE, ..HalfOpen::default() },
            wait: Wait { base: Span::SECOND, cap: Span::from_secs(10), ..Wait::default() },
            ..Config::default()
        };
        Ok(Gate(Breaker::new(config, seed, now)?))
    }

    /// Asks leave for one question.
    pub(super) fn admit<'g>(&'g self, clock: &'g dyn Clock) -> Result<Leave<'g>, LimiterError> {
        match self.0.admit(clock.now()) {
            Ok(permit) => Ok(Leave { gate: self, clock, permit: Some(permit) }),
            Err(refused) => Err(LimiterError::Suspended { retry_after: refused.retry_after.map(duration) }),
        }
    }
}

impl Leave<'_> {
    /// How the question ended; `None` if that says nothing about the limiter.
    pub(super) fn settle(mut self, failed: Option<bool>) {
        self.record(match failed {
            Some(true) => Outcome::Failure,
            Some(false) => Outcome::Success,
            None => Outcome::Ignored,
        });
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            self.gate.0.record(permit, self.clock.now(), outcome);
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.record(Outcome::Ignored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[derive(Debug)]
    struct At(AtomicU64);

    impl Clock for At {
        fn now(&self) -> Time {
            Time::from_micros(self.0.load(Relaxed))
        }
    }

    fn shut(clock: &At) -> Gate {
        let gate = Gate::new(7, clock.now()).unwrap();
        for _ in 0..10 {
            gate.admit(clock).ok().unwrap().settle(Some(true));
        }
        gate
    }

    fn wait(gate: &Gate, clock: &At) -> u64 {
        let refused = gate.admit(clock).err().unwrap().retry_after().unwrap();
        u64::try_from(refused.as_micros()).unwrap()
    }

    #[test]
    fn waits_grow_by_half_up_to_ten_seconds_give_or_take_a_half() {
        let clock = At(AtomicU64::new(1 << 40));
        let gate = shut(&clock);
        for nominal in
            [1_000_000, 1_500_000, 2_250_000, 3_375_000, 5_062_500, 7_593_750, 10_000_000, 10_000_000]
        {
            let wait = wait(&gate, &clock);
            assert!((nominal / 2..=nominal * 3 / 2).contains(&wait), "{wait} for {nominal}");
            clock.0.fetch_add(wait, Relaxed);
            gate.admit(&clock).ok().unwrap().settle(Some(true));
        }
    }

    #[test]
    fn one_question_at_a_time_is_tried_and_opens_it() {
        let clock = At(AtomicU64::new(1 << 40));
        let gate = shut(&clock);
        clock.0.fetch_add(wait(&gate, &clock), Relaxed);
        let trial = gate.admit(&clock).ok().unwrap();
        assert!(gate.admit(&clock).is_err());
        trial.settle(Some(false));
        assert!(gate.admit(&clock).is_ok() && gate.admit(&clock).is_ok());
    }

    #[test]
    fn a_trial_that_was_dropped_makes_room_for_another() {
        let clock = At(AtomicU64::new(1 << 40));
        let gate = shut(&clock);
        clock.0.fetch_add(wait(&gate, &clock), Relaxed);
        drop(gate.admit(&clock).ok().unwrap());
        assert!(gate.admit(&clock).is_ok());
    }
}
