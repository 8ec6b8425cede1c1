//! How a pipeline is set up.

use std::sync::Arc;
use std::time::Duration;

use super::{Inner, Order, Part, Pipeline, RateGate};
use crate::breaker::{CircuitBreaker, CircuitBreakerBuilder};
use crate::concurrency::{ConcurrencyBuilder, ConcurrencyLimiter};
use crate::config::ConfigError;
use crate::retry::{Retry, RetryBuilder};
use crate::throttle::{AdaptiveThrottler, ThrottlerBuilder};

/// A policy, or what builds it: a shared one is passed as a handle, one of its own as a builder.
pub trait IntoPart<T> {
    /// The policy.
    ///
    /// # Errors
    /// [`ConfigError`] if its settings make no sense.
    fn into_part(self) -> Result<T, ConfigError>;
}

macro_rules! parts {
    ($($part:ty, $builder:ty;)*) => {$(
        impl IntoPart<$part> for $part {
            fn into_part(self) -> Result<$part, ConfigError> {
                Ok(self)
            }
        }

        impl IntoPart<$part> for $builder {
            fn into_part(self) -> Result<$part, ConfigError> {
                self.build()
            }
        }
    )*};
}

parts! {
    CircuitBreaker, CircuitBreakerBuilder;
    ConcurrencyLimiter, ConcurrencyBuilder;
    AdaptiveThrottler, ThrottlerBuilder;
    Retry, RetryBuilder;
}

/// Builds a [`Pipeline`]. The order of the calls does not matter; setting a policy twice keeps the last.
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct PipelineBuilder {
    name: Arc<str>,
    deadline: Option<Duration>,
    attempt_timeout: Option<Duration>,
    retry: Option<Retry>,
    rate_limit: Option<Arc<dyn RateGate>>,
    throttle: Option<AdaptiveThrottler>,
    concurrency: Option<(ConcurrencyLimiter, Duration)>,
    breaker: Option<CircuitBreaker>,
    order: Order,
    error: Option<ConfigError>,
}

impl PipelineBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        PipelineBuilder {
            name,
            deadline: None,
            attempt_timeout: None,
            retry: None,
            rate_limit: None,
            throttle: None,
            concurrency: None,
            breaker: None,
            order: Order::default(),
            error: None,
        }
    }

    fn part<T>(&mut self, part: impl IntoPart<T>) -> Option<T> {
        part.into_part().map_err(|error| self.error.get_or_insert(error).clone()).ok()
    }

    /// The time of the whole call, with all attempts and waits, to the end of the response's body (see
    /// [`PipelineLayer::deadline_until`](crate::PipelineLayer::deadline_until) for streams). A shorter one of
    /// the task that calls, or of the request (`grpc-timeout`), wins.
    pub fn deadline(mut self, total: Duration) -> Self {
        self.deadline = Some(total);
        self
    }

    /// The time of one attempt, to the same end.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Asks a rate limit, once per call.
    pub fn rate_limit(mut self, gate: impl RateGate) -> Self {
        self.rate_limit = Some(Arc::new(gate));
        self
    }

    /// Tries again.
    pub fn retry(mut self, retry: impl IntoPart<Retry>) -> Self {
        self.retry = self.part(retry);
        self
    }

    /// Sends less to a target that turns much away.
    pub fn throttle(mut self, throttle: impl IntoPart<AdaptiveThrottler>) -> Self {
        self.throttle = self.part(throttle);
        self
    }

    /// Limits the attempts in flight; what finds no place is rejected.
    pub fn concurrency(self, limit: impl IntoPart<ConcurrencyLimiter>) -> Self {
        self.concurrency_within(limit, Duration::ZERO)
    }

    /// Limits the attempts in flight; what finds no place waits up to `wait` for one.
    pub fn concurrency_within(mut self, limit: impl IntoPart<ConcurrencyLimiter>, wait: Duration) -> Self {
        self.concurrency = self.part(limit).map(|limit| (limit, wait));
        self
    }

    /// Stops calling a target that fails.
    pub fn breaker(mut self, breaker: impl IntoPart<CircuitBreaker>) -> Self {
        self.breaker = self.part(breaker);
        self
    }

    /// Another order, for those who know why. Default: [`Order::default`].
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The pipeline.
    ///
    /// # Errors
    /// [`ConfigError`] of the first policy whose settings make no sense, for a time of zero, or for an order
    /// that names a step twice or not at all.
    pub fn build(self) -> Result<Pipeline, ConfigError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for (field, time) in [("deadline", self.deadline), ("attempt_timeout", self.attempt_timeout)] {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(ConfigError::range(field, "above 0", &"0s"));
            }
        }
        let mut parts = Vec::with_capacity(4);
        parts.extend(self.rate_limit.map(Part::RateLimit));
        parts.extend(self.throttle.map(Part::Throttle));
        parts.extend(self.concurrency.map(|(limit, wait)| Part::Concurrency(limit, wait)));
        parts.extend(self.breaker.map(Part::Breaker));
        let (per_call, per_attempt) = self.order.sort(parts)?;
        Ok(Pipeline(Arc::new(Inner {
            name: self.name,
            deadline: self.deadline,
            retry: self.retry,
            attempt_timeout: self.attempt_timeout,
            per_call,
            per_attempt,
        })))
    }
}
