//! One policy around a service: admitted or rejected at once, settled when the call is over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::breaker::CircuitBreaker;
use crate::classify::Classify;
use crate::concurrency::ConcurrencyLimiter;
use crate::error::Error;
use crate::guard::{CallGuard, Until};
use crate::layer::request::{class_of, time_left};
use crate::layer::watch::{Held, Watch};
use crate::shed::Criticality;
use crate::throttle::AdaptiveThrottler;

/// A policy that decides at once.
pub trait Policy: Clone {
    /// What an admitted call of `class` holds.
    ///
    /// # Errors
    /// The policy's rejection.
    fn admit<E>(&self, class: Criticality) -> Result<Held, Error<E>>;
}

impl Policy for CircuitBreaker {
    fn admit<E>(&self, _: Criticality) -> Result<Held, Error<E>> {
        Ok(Held(CallGuard { permit: Some(self.try_acquire()?.calling()), ..CallGuard::default() }))
    }
}

impl Policy for ConcurrencyLimiter {
    fn admit<E>(&self, _: Criticality) -> Result<Held, Error<E>> {
        Ok(Held(CallGuard { slot: Some(self.try_acquire()?), ..CallGuard::default() }))
    }
}

impl Policy for AdaptiveThrottler {
    fn admit<E>(&self, class: Criticality) -> Result<Held, Error<E>> {
        let sent = self.try_send(class).map_err(Error::throttled)?;
        Ok(Held(CallGuard { sent: Some(sent), ..CallGuard::default() }))
    }
}

/// Puts a policy around a service. Clones share the policy's state.
#[derive(Clone, Debug)]
pub struct GuardLayer<P, C> {
    policy: P,
    classifier: C,
    until: Until,
}

/// Limits the calls in flight; what finds no place is rejected. To wait for a place, use a
/// [`Pipeline`](crate::Pipeline) with `concurrency_within`.
pub type ConcurrencyLimitLayer<C> = GuardLayer<ConcurrencyLimiter, C>;

/// Sends less to a target that turns much away: of the least critical calls first, as the header
/// `x-criticality` of a request says (of tonic, axum or reqwest).
pub type ThrottleLayer<C> = GuardLayer<AdaptiveThrottler, C>;

impl<P, C> GuardLayer<P, C> {
    /// Applies `policy` to calls whose results `classifier` reads.
    pub fn new(policy: P, classifier: C) -> GuardLayer<P, C> {
        GuardLayer { policy, classifier, until: Until::Body }
    }

    /// Until when a call holds its place. Default [`Until::Body`].
    #[must_use]
    pub fn until(self, until: Until) -> GuardLayer<P, C> {
        GuardLayer { until, ..self }
    }
}

impl<S, P: Clone, C: Clone> Layer<S> for GuardLayer<P, C> {
    type Service = GuardService<S, P, C>;

    fn layer(&self, inner: S) -> GuardService<S, P, C> {
        GuardService { inner, layer: self.clone() }
    }
}

/// The service of a [`GuardLayer`].
#[derive(Clone, Debug)]
pub struct GuardService<S, P, C> {
    inner: S,
    layer: GuardLayer<P, C>,
}

impl<S, P, C, Req> Service<Req> for GuardService<S, P, C>
where
    S: Service<Req>,
    P: Policy,
    C: Watch<S::Response, S::Error>,
    Req: 'static,
{
    type Response = C::Response;
    type Error = Error<S::Error>;
    type Future = GuardFuture<S::Future, C, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<S::Error>>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let GuardLayer { policy, classifier, until } = &self.layer;
        match policy.admit(class_of(&request)) {
            Ok(mut held) => {
                held.0.until = *until;
                held.0.budget = time_left(&request);
                GuardFuture::calling(self.inner.call(request), held, classifier.clone())
            }
            Err(error) => GuardFuture::rejected(error),
        }
    }
}

pin_project! {
    /// The future of a [`GuardService`].
    #[derive(Debug)]
    pub struct GuardFuture<F, C, E> {
        #[pin]
        state: State<F, C, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, C, E> {
        Rejected { error: Option<Error<E>> },
        Calling { #[pin] call: F, held: Option<Held>, classifier: C },
    }
}

impl<F, C, E> GuardFuture<F, C, E> {
    pub(crate) const fn rejected(error: Error<E>) -> Self {
        GuardFuture { state: State::Rejected { error: Some(error) } }
    }

    pub(crate) const fn calling(call: F, held: Held, classifier: C) -> Self {
        GuardFuture { state: State::Calling { call, held: Some(held), classifier } }
    }
}

impl<F, C, Res, E> Future for GuardFuture<F, C, E>
where
    F: Future<Output = Result<Res, E>>,
    C: Watch<Res, E>,
{
    type Output = Result<C::Response, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Rejected { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                // polled again after its end, as no caller may
                None => Poll::Pending,
            },
            StateProjection::Calling { call, held, classifier } => {
                let result = ready!(call.poll(cx));
                let verdict = classifier.classify(result.as_ref());
                let mut held = held.take().unwrap_or_default();
                Poll::Ready(match result {
                    Ok(response) => Ok(classifier.watch(response, verdict, held)),
                    Err(error) => {
                        held.0.settle(verdict, Classify::<Res, E>::min_attributable(&*classifier));
                        Err(Error::Inner(error))
                    }
                })
            }
        }
    }
}
