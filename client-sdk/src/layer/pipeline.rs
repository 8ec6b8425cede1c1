//! All policies around a service, with one error type and one box per call.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use tower::{Layer, Service, ServiceExt};

use crate::deadline::outbound;
use crate::error::Error;
use crate::guard::Until;
use crate::layer::request::Repeat;
use crate::layer::watch::{Held, Watch};
use crate::pipeline::{Attempt, Call, Done, Pipeline};
use crate::retry::mark;
use crate::shed::criticality;

/// Bytes of a request's body that are kept for another attempt, unless told otherwise.
const KEEP: usize = 256 * 1024;

/// A [`Pipeline`] as a layer, see [`Pipeline::layer`].
///
/// A call's criticality is what its header `x-criticality` says. Its deadline is the earliest of the
/// pipeline's, the task's and the one in `grpc-timeout`; what is left is sent along. It holds to the end of the
/// body: one that stalls fails with `DEADLINE_EXCEEDED`. For streams see
/// [`deadline_until`](Self::deadline_until). A response whose head is
/// there is never sent again, except one whose head is all there is, such as an error of a unary gRPC call.
#[derive(Clone, Debug)]
pub struct PipelineLayer<C> {
    pipeline: Pipeline,
    classifier: C,
    until: Until,
    deadline_until: Until,
    keep: usize,
}

/// Until when the deadline of one request holds, in its extensions
/// (`request.extensions_mut().insert(DeadlineUntil(Until::Head))`): goes before
/// [`PipelineLayer::deadline_until`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeadlineUntil(pub Until);

impl<C> PipelineLayer<C> {
    pub(crate) const fn new(pipeline: Pipeline, classifier: C) -> PipelineLayer<C> {
        PipelineLayer { pipeline, classifier, until: Until::Body, deadline_until: Until::Body, keep: KEEP }
    }

    /// Until when a call holds its place. Default [`Until::Body`].
    #[must_use]
    pub fn until(self, until: Until) -> PipelineLayer<C> {
        PipelineLayer { until, ..self }
    }

    /// Until when the deadline and the attempt time-out hold. Default [`Until::Body`]: right for answers that
    /// end. With [`Until::Head`], for streams that live on, they are also not sent along as `grpc-timeout`, since
    /// a server would end the stream by it; one that the request has already stays. A single request may differ:
    /// [`DeadlineUntil`]. The body of a `reqwest::Response` cannot be watched: give its client a time-out.
    #[must_use]
    pub fn deadline_until(self, deadline_until: Until) -> PipelineLayer<C> {
        PipelineLayer { deadline_until, ..self }
    }

    /// Bytes of a request's body that are kept for another attempt; a longer one is sent once. Default
    /// 256 KiB.
    #[must_use]
    pub fn keep_body(self, bytes: usize) -> PipelineLayer<C> {
        PipelineLayer { keep: bytes, ..self }
    }
}

impl<S, C: Clone> Layer<S> for PipelineLayer<C> {
    type Service = PipelineService<S, C>;

    fn layer(&self, inner: S) -> PipelineService<S, C> {
        PipelineService { inner, layer: self.clone() }
    }
}

/// The service of a [`PipelineLayer`].
#[derive(Clone, Debug)]
pub struct PipelineService<S, C> {
    inner: S,
    layer: PipelineLayer<C>,
}

/// The future of a [`PipelineService`].
pub type PipelineFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, Error<E>>> + Send>>;

impl<S, C, Req> Service<Req> for PipelineService<S, C>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    C: Watch<S::Response, S::Error> + Send + Sync + 'static,
    Req: Repeat + Send + 'static,
{
    type Response = C::Response;
    type Error = Error<S::Error>;
    type Future = PipelineFuture<C::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<S::Error>>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let spare = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, spare.clone());
        let PipelineLayer { pipeline, classifier, until, deadline_until, keep } = self.layer.clone();
        let marked = request.extensions().and_then(|marks| marks.get::<DeadlineUntil>());
        let whole = marked.map_or(deadline_until, |mark| mark.0) == Until::Body;
        let call = Call { class: criticality(request.headers()), deadline: outbound(request.headers()) };
        let keep = pipeline.repeats().then_some(keep);
        Box::pin(async move {
            let mut ready = Some(ready);
            // owned, so that the service need not be `Sync`
            let attempt = move |mut request: Req, attempt: Attempt| {
                announce(request.headers_mut(), attempt, whole);
                ready.take().unwrap_or_else(|| spare.clone()).oneshot(request)
            };
            let (first, mut kept) = match keep {
                Some(limit) => request.keep(limit),
                None => (request, None),
            };
            let again = move || kept.as_mut().and_then(Req::copy);
            let done = pipeline.run(&classifier, call, (first, again), attempt).await;
            let Done { value, verdict, mut guard } = done?;
            guard.until = until;
            guard.ends = guard.ends.filter(|_| whole);
            Ok(classifier.watch(value, verdict, Held(guard)))
        })
    }
}

/// Tells the target what the caller knows: when the whole answer is due, and how many attempts came before.
fn announce(headers: &mut HeaderMap, attempt: Attempt, whole: bool) {
    mark(headers, attempt.previous);
    if let Some(deadline) = attempt.deadline.filter(|_| whole) {
        deadline.write(headers);
    }
}
