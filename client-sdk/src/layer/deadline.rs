//! Deadlines as a layer for servers: what the caller's `grpc-timeout` says holds for the handler, and for
//! every call that it makes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::deadline::Deadline;
use crate::error::RejectionKind;
use crate::layer::server::{Refusal, is_grpc};

/// Ends handlers whose caller does not wait any more: 504, or `DEADLINE_EXCEEDED`. The handler's task sees
/// the deadline ([`Deadline::current`]), and pipelines in it keep it. The error type of the service stays.
///
/// It ends with the head of the response: what a body does afterwards is not watched. For clients, use a
/// [`Pipeline`](crate::Pipeline) with `deadline`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer {
    longest: Option<Duration>,
}

const LATE: Refusal = Refusal {
    kind: RejectionKind::DeadlineExceeded,
    http: StatusCode::GATEWAY_TIMEOUT,
    message: "the call's time is over",
    retry_after: None,
};

impl DeadlineLayer {
    /// Keeps the caller's deadline, if it says one.
    #[must_use]
    pub fn new() -> DeadlineLayer {
        DeadlineLayer::default()
    }

    /// The same, and no call takes longer than `longest`.
    #[must_use]
    pub const fn at_most(longest: Duration) -> DeadlineLayer {
        DeadlineLayer { longest: Some(longest) }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = InTime<S>;

    fn layer(&self, inner: S) -> InTime<S> {
        InTime { inner, layer: *self }
    }
}

/// The service of a [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct InTime<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for InTime<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for InTime<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let grpc = is_grpc(request.headers());
        let inbound = Deadline::of_headers(request.headers());
        let own = self.layer.longest.map(Deadline::within);
        // a layer around this one may know when the call arrived
        let Some(deadline) = [inbound, own, Deadline::current()].into_iter().flatten().reduce(Deadline::min)
        else {
            return Box::pin(self.inner.call(request));
        };
        if deadline.remaining().is_zero() {
            return Box::pin(std::future::ready(Ok(LATE.response(grpc))));
        }
        let handler = self.inner.call(request);
        Box::pin(async move {
            let served = tokio::time::timeout(deadline.remaining(), deadline.scope(handler)).await;
            served.unwrap_or_else(|_| Ok(LATE.response(grpc)))
        })
    }
}
