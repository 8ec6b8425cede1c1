//! In front of a client: a refusal is an error, and nothing is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use tower::{Layer, Service};

use super::key::RequestView;
use super::question::{Answered, Question, Questions};
use crate::error::Error;
use crate::limiter::LimiterError;

/// Asks the limiter before a call is sent. A refusal is [`Error::RateLimited`]; if the limiter cannot answer and
/// its client's failure mode is closed, [`Error::Unavailable`].
///
/// Made by [`RateLimitLayerBuilder::build_call`](super::RateLimitLayerBuilder::build_call).
#[derive(Clone, Debug)]
pub struct RateLimitCallLayer(Arc<Questions>);

impl RateLimitCallLayer {
    pub(super) fn new(questions: Questions) -> RateLimitCallLayer {
        RateLimitCallLayer(Arc::new(questions))
    }
}

impl<S> Layer<S> for RateLimitCallLayer {
    type Service = RateLimitCall<S>;

    fn layer(&self, inner: S) -> RateLimitCall<S> {
        RateLimitCall { inner, questions: self.0.clone() }
    }
}

/// The service of a [`RateLimitCallLayer`].
#[derive(Clone, Debug)]
pub struct RateLimitCall<S> {
    inner: S,
    questions: Arc<Questions>,
}

impl<S, B> Service<Request<B>> for RateLimitCall<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Error<S::Error>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let question = self.questions.about(RequestView::of(&request));
        // the clone has not been polled ready; this one has
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(send(inner, request, (self.questions.clone(), question)))
    }
}

async fn send<S, B>(
    mut inner: S,
    request: Request<B>,
    (questions, question): (Arc<Questions>, Option<Question>),
) -> Result<S::Response, Error<S::Error>>
where
    S: Service<Request<B>>,
{
    if let Some(question) = question {
        admitted(questions.ask(question).await)?;
    }
    inner.call(request).await.map_err(Error::Inner)
}

fn admitted<E>(answered: Answered) -> Result<(), Error<E>> {
    let Answered { decision, policy } = answered;
    if decision.allowed {
        Ok(())
    } else if decision.is_closed() {
        let unavailable = LimiterError::Unavailable {
            message: "no decision, and the failure mode is closed".into(),
            retry_after: decision.retry_advice,
        };
        Err(Error::unavailable(Box::new(unavailable)))
    } else {
        Err(Error::rate_limited(policy.into(), decision.retry_advice))
    }
}
