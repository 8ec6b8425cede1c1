//! Retries that cannot become a storm: few attempts, full jitter, one budget for all callers of a target.
//!
//! Of backon, the schedules fit (`BackoffBuilder`: any of them can be used by [`RetryBuilder::schedule`]);
//! its retry loop does not: it knows neither budgets, nor pushback, nor deadlines, and its jitter only adds
//! to the delay.

mod budget;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use http::{HeaderMap, HeaderValue};
use tollgate_core::load::backoff::{Backoff, BackoffConfig, Jitter};
use tollgate_core::load::ratio::Ratio;

pub use budget::{RetryBudget, RetryBudgetBuilder};

use crate::classify::{Classify, Verdict};
use crate::clock::{duration, span};
use crate::config::{ConfigError, Rolls, seed, text};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::hint::MAX_HINT;

/// How many attempts came before this one (gRFC A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";
/// The same for services that are no gRPC.
const RETRY_ATTEMPT: &str = "x-retry-attempt";

/// When to try again. Clones share one budget.
#[derive(Clone, Debug)]
pub struct Retry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    attempts: u32,
    schedule: Schedule,
    budget: RetryBudget,
    rolls: Rolls,
    max_hint_wait: Duration,
}

enum Schedule {
    Full(Backoff),
    Custom(Box<dyn Fn() -> Delays + Send + Sync>),
}

type Delays = Box<dyn Iterator<Item = Duration> + Send>;

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Full(backoff) => backoff.fmt(f),
            Schedule::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// Builds a [`Retry`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct RetryBuilder {
    config: BackoffConfig,
    factor: f64,
    custom: Option<Schedule>,
    budget: Option<RetryBudget>,
    seed: u64,
    max_hint_wait: Duration,
}

/// The longest advice that a call waits for, unless told otherwise.
const MAX_HINT_WAIT: Duration = Duration::from_secs(10);

impl Retry {
    /// Waits a random time up to `initial` before the second attempt, up to twice as long before each
    /// further one; at most 2 s, three attempts in all, and a budget of 20 % + 10/s (full jitter: Brooker,
    /// "Exponential Backoff and Jitter", 2015).
    pub fn exponential(initial: Duration) -> RetryBuilder {
        let config = BackoffConfig { initial: span(initial), ..BackoffConfig::default() };
        RetryBuilder {
            config,
            factor: 2.0,
            custom: None,
            budget: None,
            seed: seed(),
            max_hint_wait: MAX_HINT_WAIT,
        }
    }

    /// The budget that it draws on.
    #[must_use]
    pub fn budget(&self) -> &RetryBudget {
        &self.0.budget
    }

    /// Attempts in all, the first one too.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The attempts of one call, whose first is about to be made.
    pub(crate) fn begin(&self) -> Attempts {
        self.0.budget.deposit();
        let delays = match &self.0.schedule {
            Schedule::Full(_) => None,
            Schedule::Custom(make) => Some(make()),
        };
        Attempts { retry: self.clone(), made: 1, delays }
    }

    /// Awaits `call` until it succeeds, `classifier` says that another attempt does not help, or attempts,
    /// budget or the task's [`Deadline`] are used up.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn call<T, E, F, C>(&self, classifier: &C, mut call: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let mut attempts = self.begin();
        loop {
            let result = call().await;
            let verdict = classifier.classify(result.as_ref());
            match attempts.next(&verdict, Deadline::current(), true) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return result,
            }
        }
    }
}

/// The attempts of one call.
pub(crate) struct Attempts {
    retry: Retry,
    made: u32,
    delays: Option<Delays>,
}

impl Attempts {
    /// How many were made before the one that is to be made.
    pub(crate) const fn previous(&self) -> u32 {
        self.made - 1
    }

    /// How long to wait before the next attempt; `None` if there is none. `sent`: whether the last one
    /// reached the target, so that the next one draws on the budget.
    pub(crate) fn next(
        &mut self,
        verdict: &Verdict,
        deadline: Option<Deadline>,
        sent: bool,
    ) -> Option<Duration> {
        if !verdict.retryable || verdict.hint.no_retry || self.made >= self.retry.0.attempts {
            return None;
        }
        let own = self.delay();
        let delay = match verdict.hint.after {
            Some(hint) if hint > self.retry.0.max_hint_wait => return None,
            Some(hint) => self.after_hint(hint, own.unwrap_or_default()),
            None => own?,
        };
        // without a deadline nobody knows how long the caller would wait for an open breaker
        let fits = deadline.map_or(sent, |deadline| delay < deadline.remaining());
        if !fits {
            return None;
        }
        if sent && !self.retry.0.budget.try_withdraw(verdict.timed_out) {
            return None;
        }
        self.made += 1;
        Some(delay)
    }

    /// The attempt that [`next`](Self::next) gave leave for is not made after all.
    pub(crate) fn give_back(&self, verdict: &Verdict, sent: bool) {
        if sent {
            self.retry.0.budget.give_back(verdict.timed_out);
        }
    }

    /// Never before the hint; later by the backoff, so that "at once" is no invitation to a storm, and by up
    /// to a tenth of the hint, so that those who were sent away together do not come back together.
    fn after_hint(&self, hint: Duration, own: Duration) -> Duration {
        let tenth = (hint.as_micros() / 10 * u128::from(self.retry.0.rolls.next())) >> 32;
        hint + own + Duration::from_micros(u64::try_from(tenth).unwrap_or(u64::MAX))
    }

    fn delay(&mut self) -> Option<Duration> {
        match (&self.retry.0.schedule, &mut self.delays) {
            (Schedule::Full(backoff), _) => {
                Some(duration(backoff.delay(self.made, self.retry.0.rolls.next())))
            }
            (Schedule::Custom(_), Some(delays)) => delays.next(),
            (Schedule::Custom(_), None) => None,
        }
    }
}

/// What an error of another policy means for retries: only a breaker that says when it lets a call pass, and
/// an attempt that ran out of its own time, are worth another attempt.
pub(crate) fn of_error<T, E>(error: &Error<E>, classifier: &impl Classify<T, E>) -> Verdict {
    match error {
        Error::Inner(inner) => classifier.classify(Err(inner)),
        Error::CircuitOpen { retry_after, .. } => {
            let hint = retry_after.map(crate::hint::Hint::wait).unwrap_or_default();
            Verdict::IGNORED.hinted(hint).retryable(hint.after.is_some())
        }
        Error::DeadlineExceeded { total, .. } => Verdict::TIMEOUT.retryable(!total),
        _ => Verdict::IGNORED,
    }
}

/// Tells the target how many attempts came before this one, so that it can refuse retries first.
pub(crate) fn mark(headers: &mut HeaderMap, previous: u32) {
    if previous > 0 {
        headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        headers.insert(RETRY_ATTEMPT, HeaderValue::from(previous));
    }
}

/// How many attempts of an inbound call came before, as far as its caller says.
pub(crate) fn previous_attempts(headers: &HeaderMap) -> u32 {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    number(PREVIOUS_ATTEMPTS).or_else(|| number(RETRY_ATTEMPT)).unwrap_or(0)
}

impl RetryBuilder {
    /// Attempts in all, the first one too, `1..=100`. Default 3.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.config.attempts = attempts;
        self
    }

    /// How much longer each delay is than the one before, `1.0..=10.0`. Default 2.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Longest delay. Default 2 s.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.config.max = span(delay);
        self
    }

    /// The longest wait that a target may ask for (`Retry-After` and the like), `1ms..=300s`; one that asks for
    /// more gets no other attempt, and the caller the error at once. Default 10 s.
    pub fn max_hint_wait(mut self, wait: Duration) -> Self {
        self.max_hint_wait = wait;
        self
    }

    /// Which part of a delay is left to chance. Default: all of it.
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.config.jitter = jitter;
        self
    }

    /// Delays as `schedule` gives them, such as `backon::FibonacciBuilder`. The call ends when the schedule
    /// does, or after [`max_attempts`](Self::max_attempts).
    pub fn schedule<B>(mut self, schedule: B) -> Self
    where
        B: BackoffBuilder + Clone + 'static,
        B::Backoff: Send + 'static,
    {
        self.custom = Some(Schedule::Custom(Box::new(move || Box::new(schedule.clone().build()))));
        self
    }

    /// The budget to draw on: share one between all that call the same target. Default: its own, 20 % + 10/s.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Makes its jitter the same every time, for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that makes no sense.
    pub fn build(self) -> Result<Retry, ConfigError> {
        let attempts = self.config.attempts;
        let factor = Ratio::from_f64("backoff.factor", self.factor)?;
        let backoff = Backoff::new(BackoffConfig { factor, ..self.config })?;
        let budget = match self.budget {
            Some(budget) => budget,
            None => RetryBudget::percent(20).build()?,
        };
        let max_hint_wait = self.max_hint_wait;
        if !(Duration::from_millis(1)..=MAX_HINT).contains(&max_hint_wait) {
            return Err(ConfigError::range(
                "retry.max_hint_wait",
                "1ms to 300s",
                &text::print(max_hint_wait),
            ));
        }
        let schedule = self.custom.unwrap_or(Schedule::Full(backoff));
        let rolls = Rolls::new(self.seed);
        Ok(Retry(Arc::new(Inner { attempts, schedule, budget, rolls, max_hint_wait })))
    }
}

#[cfg(test)]
mod tests;
