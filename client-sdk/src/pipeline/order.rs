//! In which order a pipeline asks its policies.

use std::fmt;

use super::{Inner, Part, Pipeline};
use crate::config::ConfigError;

/// A policy that admits or refuses, as a place in an [`Order`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// The rate limit.
    RateLimit,
    /// The adaptive throttler.
    Throttle,
    /// The concurrency limit.
    Concurrency,
    /// The circuit breaker.
    Breaker,
}

impl Step {
    const ALL: [Step; 4] = [Step::RateLimit, Step::Throttle, Step::Concurrency, Step::Breaker];

    const fn of(part: &Part) -> Step {
        match part {
            Part::RateLimit(_) => Step::RateLimit,
            Part::Throttle(_) => Step::Throttle,
            Part::Concurrency(..) => Step::Concurrency,
            Part::Breaker(_) => Step::Breaker,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Step::RateLimit => "rate limit",
            Step::Throttle => "throttle",
            Step::Concurrency => "concurrency",
            Step::Breaker => "breaker",
        }
    }
}

/// Which policies are asked once per call, outside of the retries, and which for every attempt; each in this
/// order. The total deadline is always outermost, the attempt time-out innermost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    per_call: Vec<Step>,
    per_attempt: Vec<Step>,
}

impl Default for Order {
    /// The order of the [module](super).
    ///
    /// The breaker is inside the concurrency limit: the other way round, a call that waits for a place would
    /// hold a probe; and an open breaker gives the place back at once.
    fn default() -> Order {
        Order::custom([Step::RateLimit], [Step::Throttle, Step::Concurrency, Step::Breaker])
    }
}

impl Order {
    /// Another order, for those who know why.
    #[must_use]
    pub fn custom(
        per_call: impl IntoIterator<Item = Step>,
        per_attempt: impl IntoIterator<Item = Step>,
    ) -> Order {
        Order { per_call: per_call.into_iter().collect(), per_attempt: per_attempt.into_iter().collect() }
    }

    /// The rate limit is asked for every attempt.
    #[must_use]
    pub fn charge_retries() -> Order {
        Order::custom([], Step::ALL)
    }

    /// Splits `parts` and puts them in order.
    pub(super) fn sort(&self, parts: Vec<Part>) -> Result<(Vec<Part>, Vec<Part>), ConfigError> {
        let (mut per_call, mut per_attempt) = (Vec::new(), Vec::new());
        for step in Step::ALL {
            let times = self.per_call.iter().chain(&self.per_attempt).filter(|other| **other == step).count();
            if times != 1 {
                return Err(ConfigError::range(
                    "order",
                    "every step once",
                    &format_args!("{} {times}x", step.name()),
                ));
            }
        }
        for part in parts {
            let step = Step::of(&part);
            let list = if self.per_call.contains(&step) { &mut per_call } else { &mut per_attempt };
            list.push(part);
        }
        let place = |steps: &[Step], part: &Part| steps.iter().position(|step| *step == Step::of(part));
        per_call.sort_by_key(|part| place(&self.per_call, part));
        per_attempt.sort_by_key(|part| place(&self.per_attempt, part));
        Ok((per_call, per_attempt))
    }
}

impl fmt::Debug for Pipeline {
    /// What is really there, from the outside: `payments: deadline 2s > rate limit > retry 3x > breaker`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, deadline, retry, attempt_timeout, per_call, per_attempt } = &*self.0;
        let names =
            |parts: &[Part]| parts.iter().map(|part| Step::of(part).name().to_owned()).collect::<Vec<_>>();
        let mut all = Vec::new();
        all.extend(deadline.map(|deadline| format!("deadline {deadline:?}")));
        all.extend(names(per_call));
        all.extend(retry.as_ref().map(|retry| format!("retry {}x", retry.max_attempts())));
        all.extend(names(per_attempt));
        all.extend(attempt_timeout.map(|timeout| format!("attempt timeout {timeout:?}")));
        write!(f, "{name}: {}", all.join(" > "))
    }
}
