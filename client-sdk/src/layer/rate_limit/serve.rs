//! The service on a server.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use super::key::RequestView;
use super::question::Question;
use super::{Protocol, Settings, respond};

/// The service of a [`RateLimitLayer`](super::RateLimitLayer).
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> RateLimit<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> RateLimit<S> {
        RateLimit { inner, settings }
    }
}

impl<S, B, R> Service<Request<B>> for RateLimit<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let view = RequestView::of(&request);
        let grpc = self.settings.protocol == Protocol::Grpc || view.is_grpc();
        let question = self.settings.questions.about(view);
        // the clone has not been polled ready; this one has
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let Some(question) = question else { return Box::pin(inner.call(request)) };
        Box::pin(serve(inner, request, (self.settings.clone(), question, grpc)))
    }
}

async fn serve<S, B, R>(
    mut inner: S,
    request: Request<B>,
    (settings, question, grpc): (Arc<Settings>, Question, bool),
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    let answered = settings.questions.ask(question).await;
    let headers = settings.headers && !grpc;
    if !answered.decision.allowed {
        return Ok(if grpc { respond::grpc(&answered) } else { respond::http(&answered, headers) });
    }
    let mut response = inner.call(request).await?;
    if headers {
        respond::describe(&answered, response.headers_mut());
    }
    Ok(response)
}
