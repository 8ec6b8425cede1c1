//! Load shedding as a layer for servers: axum, tonic, anything over HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::classify::{Classify, GrpcClassifier, HttpClassifier};
use crate::deadline::Deadline;
use crate::error::RejectionKind;
use crate::guard::{CallGuard, Until};
use crate::layer::body::GuardedBody;
use crate::layer::server::{Refusal, is_grpc};
use crate::layer::watch::{Held, Watch};
use crate::shed::LoadShed;

/// Serves what there is a place for, sheds the rest: 503 with `Retry-After`, or `RESOURCE_EXHAUSTED` with
/// `RetryInfo` and `grpc-retry-pushback-ms`. The error type of the service stays.
///
/// # Trust
/// It believes what requests say of themselves: `x-criticality`, the tenant's header, the number of earlier
/// attempts. Behind a trust boundary that is right; at one, a stranger who calls himself `critical_plus` or
/// changes tenants with each call takes everybody's place. There, let the proxy at the edge remove or overwrite
/// these headers, or put a layer before this one that sets them from the caller's identity.
#[derive(Clone, Debug)]
pub struct LoadShedLayer {
    shed: LoadShed,
    until: Until,
    retry_after: Duration,
}

impl LoadShedLayer {
    /// Sheds by `shed`.
    #[must_use]
    pub fn new(shed: LoadShed) -> LoadShedLayer {
        LoadShedLayer { shed, until: Until::Body, retry_after: Duration::from_secs(1) }
    }

    /// Until when a call holds its place. Default [`Until::Body`].
    #[must_use]
    pub fn until(self, until: Until) -> LoadShedLayer {
        LoadShedLayer { until, ..self }
    }

    /// When those that are shed are told to come again. Default 1 s.
    #[must_use]
    pub fn retry_after(self, retry_after: Duration) -> LoadShedLayer {
        LoadShedLayer { retry_after, ..self }
    }

    const fn refusal(&self) -> Refusal {
        Refusal {
            kind: RejectionKind::LimitExceeded,
            http: StatusCode::SERVICE_UNAVAILABLE,
            message: "overloaded: this call was shed",
            retry_after: Some(self.retry_after),
        }
    }
}

impl<S> Layer<S> for LoadShedLayer {
    type Service = Shedding<S>;

    fn layer(&self, inner: S) -> Shedding<S> {
        Shedding { inner, layer: self.clone() }
    }
}

/// The service of a [`LoadShedLayer`].
#[derive(Clone, Debug)]
pub struct Shedding<S> {
    inner: S,
    layer: LoadShedLayer,
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for Shedding<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for Shedding<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<GuardedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let spare = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, spare);
        let layer = self.layer.clone();
        Box::pin(async move {
            let grpc = is_grpc(request.headers());
            // from its arrival: the wait for a place is part of the call's time
            let deadline = Deadline::of_headers(request.headers());
            let Ok(slot) = layer.shed.admit(request.headers()).await else {
                return Ok(layer.refusal().response(grpc));
            };
            let guard = CallGuard { slot: Some(slot), until: layer.until, ..CallGuard::default() };
            let served = async move { ready.call(request).await };
            let response = match deadline {
                Some(deadline) => deadline.scope(served).await?,
                None => served.await?,
            };
            Ok(watch(response, grpc, Held(guard)))
        })
    }
}

fn watch<R>(response: Response<R>, grpc: bool, held: Held) -> Response<GuardedBody<R>> {
    if grpc {
        let classifier = GrpcClassifier::default();
        let verdict = Classify::<Response<R>, Infallible>::classify(&classifier, Ok(&response));
        Watch::<Response<R>, Infallible>::watch(&classifier, response, verdict, held)
    } else {
        let verdict = Classify::<Response<R>, Infallible>::classify(&HttpClassifier, Ok(&response));
        Watch::<Response<R>, Infallible>::watch(&HttpClassifier, response, verdict, held)
    }
}
