//! All policies around one call, in the order that works.
//!
//! ```text
//! total deadline
//!  └ rate limit            once per call: the cheapest refusal first
//!     └ retry              each attempt below is judged by itself
//!        └ throttle        turns a share of the attempts away
//!           └ concurrency  holds a place only while really calling
//!              └ breaker   sees every attempt
//!                 └ attempt time-out: inside the breaker, so that it counts
//! ```
//!
//! The order does not depend on the order of the builder's lines. `Debug` prints it.

mod builder;
mod order;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use builder::{IntoPart, PipelineBuilder};
pub use order::{Order, Step};

use crate::breaker::CircuitBreaker;
use crate::classify::{AnyError, Classify, Verdict};
use crate::concurrency::ConcurrencyLimiter;
use crate::deadline::Deadline;
use crate::error::{BoxError, Error};
use crate::guard::{CallGuard, Ends};
use crate::layer::pipeline::PipelineLayer;
use crate::retry::{Attempts, Retry, of_error};
use crate::shed::Criticality;
use crate::throttle::AdaptiveThrottler;

/// Asks a rate limit before a call.
pub trait RateGate: fmt::Debug + Send + Sync + 'static {
    /// Admits one call, if need be after a wait; `deadline` is when its answer is of no use any more.
    fn admit(&self, deadline: Option<Deadline>) -> BoxFuture<'_, Result<(), RateRefusal>>;
}

/// Why a rate limit did not admit a call.
#[derive(Debug)]
pub enum RateRefusal {
    /// Over the limit.
    Limited {
        /// Which rule.
        rule: Arc<str>,
        /// When it will admit the call; `None` if never.
        retry_after: Option<Duration>,
    },
    /// Nobody could be asked, and such calls are not to pass.
    Unavailable(BoxError),
    /// There was no answer within the call's deadline.
    Late,
}

impl<E> From<RateRefusal> for Error<E> {
    fn from(refusal: RateRefusal) -> Error<E> {
        match refusal {
            RateRefusal::Limited { rule, retry_after } => Error::rate_limited(rule, retry_after),
            RateRefusal::Unavailable(source) => Error::unavailable(source),
            RateRefusal::Late => Error::deadline_exceeded(true),
        }
    }
}

/// Policies around calls to one target. Clones share all state. See the [module](self).
#[derive(Clone)]
pub struct Pipeline(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    deadline: Option<Duration>,
    retry: Option<Retry>,
    attempt_timeout: Option<Duration>,
    per_call: Vec<Part>,
    per_attempt: Vec<Part>,
}

/// A policy that admits or refuses.
#[derive(Debug)]
enum Part {
    RateLimit(Arc<dyn RateGate>),
    Throttle(AdaptiveThrottler),
    Concurrency(ConcurrencyLimiter, Duration),
    Breaker(CircuitBreaker),
}

/// What an attempt is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// How many attempts came before.
    pub previous: u32,
    /// When this one has to be done.
    pub deadline: Option<Deadline>,
}

/// What the caller says about one call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) class: Criticality,
    pub(crate) deadline: Option<Deadline>,
}

/// A result with what its call still holds.
pub(crate) struct Done<T> {
    pub(crate) value: T,
    pub(crate) verdict: Verdict,
    pub(crate) guard: CallGuard,
}

impl<T> Done<T> {
    /// For a result that another attempt replaces: nothing of it is kept during the wait.
    fn discard(self, least: Duration) {
        let Done { value, verdict, mut guard } = self;
        drop(value);
        guard.settle(verdict, least);
    }
}

impl Pipeline {
    /// Sets up a pipeline; `name` is for logs.
    pub fn builder(name: impl Into<Arc<str>>) -> PipelineBuilder {
        PipelineBuilder::new(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Awaits `call` under all policies: once, or once per attempt. Every error of it is a failure that
    /// another attempt may mend.
    ///
    /// # Errors
    /// What ended the call: a policy, or the last attempt's own error as [`Error::Inner`].
    pub async fn call<T, E, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.call_with(&AnyError, |_| call()).await
    }

    /// The same, with `classifier` to read results. An attempt is told its number and its deadline; the
    /// deadline is also the current one of its task ([`Deadline::current`]).
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_with<T, E, F, C>(
        &self,
        classifier: &C,
        mut call: impl FnMut(Attempt) -> F,
    ) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let requests = ((), || Some(()));
        let done = self.run(classifier, Call::default(), requests, |(), attempt| call(attempt)).await;
        let Done { value, verdict, mut guard } = done?;
        guard.settle(verdict, classifier.min_attributable());
        Ok(value)
    }

    /// As a tower layer: for a tonic channel with `GrpcClassifier`, for HTTP with `HttpClassifier`.
    pub fn layer<C>(&self, classifier: C) -> PipelineLayer<C> {
        PipelineLayer::new(self.clone(), classifier)
    }

    /// Whether a request has to be kept for another attempt.
    pub(crate) fn repeats(&self) -> bool {
        self.0.retry.as_ref().is_some_and(|retry| retry.max_attempts() > 1)
    }

    /// Makes attempts with a request, and with what `again` gives, as long as it gives any.
    pub(crate) async fn run<T, E, F, C, Q>(
        &self,
        classifier: &C,
        call: Call,
        requests: (Q, impl FnMut() -> Option<Q>),
        attempt: impl FnMut(Q, Attempt) -> F,
    ) -> Result<Done<T>, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let own = self.0.deadline.map(Deadline::within);
        let deadline = [own, call.deadline, Deadline::current()].into_iter().flatten().reduce(Deadline::min);
        if deadline.is_some_and(|deadline| deadline.is_over()) {
            return Err(Error::deadline_exceeded(true));
        }
        let call = Call { deadline, ..call };
        let mut around = admit(&self.0.per_call, call).await?;
        around.budget = deadline.map(|deadline| deadline.remaining());
        match self.attempts(classifier, call, requests, attempt).await {
            Ok(mut done) => {
                if !around.is_empty() {
                    done.guard.around = Some(Box::new(around));
                }
                Ok(done)
            }
            Err(error) => {
                around.settle(of_error(&error, classifier), classifier.min_attributable());
                Err(error)
            }
        }
    }

    async fn attempts<T, E, F, C, Q>(
        &self,
        classifier: &C,
        call: Call,
        (mut request, mut again): (Q, impl FnMut() -> Option<Q>),
        mut attempt: impl FnMut(Q, Attempt) -> F,
    ) -> Result<Done<T>, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let mut attempts = self.0.retry.as_ref().map(Retry::begin);
        loop {
            let previous = attempts.as_ref().map_or(0, Attempts::previous);
            let result = self.attempt(classifier, call, previous, |told| attempt(request, told)).await;
            let (verdict, sent) = match &result {
                Ok(done) => (done.verdict, true),
                Err(error) => (of_error(error, classifier), !error.is_rejection()),
            };
            let next = attempts.as_mut().and_then(|attempts| attempts.next(&verdict, call.deadline, sent));
            let Some(delay) = next else { return result };
            let Some(copy) = again() else {
                attempts.iter().for_each(|attempts| attempts.give_back(&verdict, sent));
                return result;
            };
            request = copy;
            tracing::debug!(name = &*self.0.name, previous, ?delay, "another attempt");
            if let Ok(done) = result {
                done.discard(classifier.min_attributable());
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt<T, E, F, C>(
        &self,
        classifier: &C,
        call: Call,
        previous: u32,
        send: impl FnOnce(Attempt) -> F,
    ) -> Result<Done<T>, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        if call.deadline.is_some_and(|deadline| deadline.is_over()) {
            return Err(Error::deadline_exceeded(true));
        }
        let mut guard = admit(&self.0.per_attempt, call).await?;
        let own = self.0.attempt_timeout.map(Deadline::within);
        let deadline = [own, call.deadline].into_iter().flatten().reduce(Deadline::min);
        guard.ends = deadline.map(|deadline| {
            let total = call.deadline.is_some_and(|whole| whole.remaining() <= deadline.remaining());
            Ends { deadline, total }
        });
        // after the wait for a place, which is no time that the target had
        guard.budget = call.deadline.map(|deadline| deadline.remaining());
        let result = in_time(deadline, send(Attempt { previous, deadline })).await;
        let expired = || {
            let total = call.deadline.is_some_and(|deadline| deadline.is_over());
            Error::deadline_exceeded(total)
        };
        let result = result.map_or_else(|| Err(expired()), |result| result.map_err(Error::Inner));
        match result {
            Ok(value) => {
                let mut verdict = classifier.classify(Ok(&value));
                // a target that keeps our deadline answers a little before our own timer ends
                verdict.retryable |= verdict.timed_out && own.is_some_and(|own| own.is_due());
                guard.head(Some(&verdict));
                Ok(Done { value, verdict, guard })
            }
            Err(error) => {
                let verdict = of_error(&error, classifier);
                guard.settle(verdict, classifier.min_attributable());
                // the transport may notice first that our time is over
                let over = verdict.timed_out && deadline.is_some_and(|deadline| deadline.is_over());
                Err(if over { expired() } else { error })
            }
        }
    }
}

/// `None` if the time is over before the attempt is.
async fn in_time<F: Future>(deadline: Option<Deadline>, attempt: F) -> Option<F::Output> {
    match deadline {
        None => Some(attempt.await),
        Some(deadline) => tokio::time::timeout(deadline.remaining(), deadline.scope(attempt)).await.ok(),
    }
}

/// Takes what each of `parts` gives, in their order; a refusal gives back what was taken before it.
async fn admit<E>(parts: &[Part], call: Call) -> Result<CallGuard, Error<E>> {
    let (mut guard, mut checked) = (CallGuard::default(), None);
    for part in parts {
        match part {
            Part::RateLimit(gate) => {
                let asked = in_time(call.deadline, gate.admit(call.deadline)).await;
                asked.unwrap_or_else(|| Err(RateRefusal::Late))?;
            }
            Part::Throttle(throttle) => {
                throttle.check(call.class).map_err(Error::throttled)?;
                checked = Some(throttle);
            }
            Part::Concurrency(limit, wait) if wait.is_zero() => guard.slot = Some(limit.try_acquire()?),
            Part::Concurrency(limit, wait) => {
                let left = call.deadline.map_or(Duration::MAX, |deadline| deadline.remaining());
                guard.slot = Some(limit.acquire_as(call.class, left.min(*wait), left).await?);
            }
            Part::Breaker(breaker) => guard.permit = Some(breaker.try_acquire()?.calling()),
        }
    }
    guard.sent = checked.map(|throttle| throttle.sent(call.class));
    Ok(guard)
}

#[cfg(test)]
mod tests;
