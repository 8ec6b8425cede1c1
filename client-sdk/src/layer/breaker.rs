//! A circuit breaker around a service: as a wall (rejects) or as a gate (is not ready).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower::{Layer, Service};

use crate::breaker::{CircuitBreaker, CircuitOpen, Permit};
use crate::error::Error;
use crate::guard::CallGuard;
use crate::layer::guarded::{GuardFuture, GuardLayer};
use crate::layer::request::time_left;
use crate::layer::watch::{Held, Watch};

/// Rejects calls with [`Error::CircuitOpen`] while the breaker is open.
pub type CircuitBreakerLayer<C> = GuardLayer<CircuitBreaker, C>;

/// Is not ready while the breaker is open: for an endpoint below a balancer, which then goes elsewhere.
///
/// A service that is ready holds a permit until it is called, cloned or dropped; a clone has none.
#[derive(Clone, Debug)]
pub struct GateLayer<C> {
    breaker: CircuitBreaker,
    classifier: C,
}

impl<C> GateLayer<C> {
    /// A gate of `breaker` before calls whose results `classifier` reads.
    pub fn new(breaker: CircuitBreaker, classifier: C) -> GateLayer<C> {
        GateLayer { breaker, classifier }
    }
}

impl<S, C: Clone> Layer<S> for GateLayer<C> {
    type Service = Gate<S, C>;

    fn layer(&self, inner: S) -> Gate<S, C> {
        Gate { inner, layer: self.clone(), permit: None, closed: None }
    }
}

/// The service of a [`GateLayer`].
pub struct Gate<S, C> {
    inner: S,
    layer: GateLayer<C>,
    permit: Option<Permit>,
    /// Ends when it makes sense to ask again.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: std::fmt::Debug, C> std::fmt::Debug for Gate<S, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Gate { inner, layer, permit, .. } = self;
        let (breaker, permit) = (layer.breaker.name(), permit.is_some());
        f.debug_struct("Gate")
            .field("inner", inner)
            .field("breaker", breaker)
            .field("permit", &permit)
            .finish()
    }
}

impl<S: Clone, C: Clone> Clone for Gate<S, C> {
    fn clone(&self) -> Gate<S, C> {
        Gate { inner: self.inner.clone(), layer: self.layer.clone(), permit: None, closed: None }
    }
}

/// How often an open gate of a breaker that cannot say when it opens is tried.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

impl<S, C> Gate<S, C> {
    /// Asks leave; waits for the end of the refusal, or any change of the breaker, whichever comes first.
    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.permit.is_none() {
            if let Some(closed) = &mut self.closed {
                ready!(closed.as_mut().poll(cx));
                self.closed = None;
            }
            // before the question, so that no change is missed in between
            let changes = self.layer.breaker.subscribe();
            match self.layer.breaker.try_acquire() {
                Ok(permit) => self.permit = Some(permit),
                Err(open) => self.closed = Some(Box::pin(refused(open, changes))),
            }
        }
        Poll::Ready(())
    }
}

async fn refused(open: CircuitOpen, mut changes: tokio::sync::watch::Receiver<crate::State>) {
    let wait = open.retry_after.unwrap_or(LOOK_AGAIN);
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        changed = changes.changed() => drop(changed),
    }
}

impl<S, C, Req> Service<Req> for Gate<S, C>
where
    S: Service<Req>,
    C: Watch<S::Response, S::Error>,
    Req: 'static,
{
    type Response = C::Response;
    type Error = Error<S::Error>;
    type Future = GuardFuture<S::Future, C, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<S::Error>>> {
        // the permit last: a probe must not wait for the inner service
        ready!(self.inner.poll_ready(cx)).map_err(Error::Inner)?;
        self.poll_permit(cx).map(Ok)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let permit = self.permit.take().map_or_else(|| self.layer.breaker.try_acquire(), Ok);
        match permit {
            Ok(permit) => {
                let permit = permit.calling_now();
                let budget = time_left(&request);
                let held = Held(CallGuard { permit: Some(permit), budget, ..CallGuard::default() });
                GuardFuture::calling(self.inner.call(request), held, self.layer.classifier.clone())
            }
            Err(open) => GuardFuture::rejected(open.into()),
        }
    }
}
