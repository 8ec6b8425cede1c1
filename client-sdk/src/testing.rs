//! For tests of services that use this crate: a clock that is moved by hand, breakers in any state, faults by
//! a seeded plan.

mod fault;
mod in_process;

use std::time::Duration;

pub use fault::{Fault, FaultError, FaultLayer, FaultPlan, Faulty};
pub use in_process::{InProcessLimiter, InProcessLimiterBuilder, ServedLimiter};

pub use crate::clock::ManualClock;

use crate::breaker::{CircuitBreaker, Reason, Recovery};
use crate::state::State;

/// How long a breaker of [`CircuitBreaker::testing`] is open, or takes for a step of its recovery.
const LONG: Duration = Duration::from_secs(3_600);

impl CircuitBreaker {
    /// A breaker in `state`, with its clock, which stands still. It is open for an hour; it recovers by one
    /// percentage point an hour.
    ///
    /// # Panics
    /// Never: its configuration is a valid one.
    #[must_use]
    #[expect(clippy::expect_used, reason = "for tests, with a configuration that is valid")]
    pub fn testing(state: State) -> (CircuitBreaker, ManualClock) {
        let clock = ManualClock::new();
        let mut builder = CircuitBreaker::builder("testing").clock(clock.clone()).seed(1);
        if state == State::Recovering {
            builder = builder.recovery(Recovery { start: 1, step: 1, every: LONG });
        }
        let breaker = builder.build().expect("a valid configuration");
        match state {
            State::Closed => {}
            State::ForcedOpen => breaker.force_open("testing", None),
            State::Disabled => breaker.disable("testing", None),
            State::MetricsOnly => breaker.metrics_only("testing", None),
            State::Open | State::HalfOpen | State::Recovering => {
                breaker.open_for(LONG, Reason::Initial);
            }
        }
        if matches!(state, State::HalfOpen | State::Recovering) {
            clock.advance(LONG);
            drop(breaker.try_acquire());
        }
        if state == State::Recovering {
            while breaker.state() == State::HalfOpen {
                breaker.try_acquire().expect("a probe").success();
            }
        }
        (breaker, clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_had() {
        for state in State::ALL {
            assert_eq!(CircuitBreaker::testing(state).0.state(), state);
        }
    }

    #[test]
    fn its_clock_is_the_only_one() {
        let (breaker, clock) = CircuitBreaker::testing(State::Open);
        assert!(breaker.try_acquire().is_err());
        clock.advance(LONG);
        assert!(breaker.try_acquire().is_ok());
    }
}
