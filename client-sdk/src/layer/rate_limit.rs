//! Rate limits around a service: ask the limiter first.
//!
//! On a server a refusal is a *response* (429, or `RESOURCE_EXHAUSTED` for gRPC), so that the service's error
//! type stays what it is. In front of a client it is an error: see [`RateLimitCallLayer`]. The question is
//! asked in `call`, never in `poll_ready`, and the service that was polled ready is the one that is called.

mod call;
pub mod key;
mod question;
mod respond;
mod serve;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;

use crate::limiter::{LimiterConfigError, RateLimiterClient};

pub use call::{RateLimitCall, RateLimitCallLayer};
pub use key::{KeySource, RequestView};
pub use serve::RateLimit;

use question::Questions;

/// Asks the limiter before a service of a server is called.
///
/// Descriptors whose values a request does not have are left out; a request without any is not limited. If the
/// limiter cannot answer, its client's failure mode does; a refusal by that is 503 or `UNAVAILABLE`.
#[derive(Clone, Debug)]
pub struct RateLimitLayer(Arc<Settings>);

#[derive(Debug)]
struct Settings {
    questions: Questions,
    headers: bool,
    protocol: Protocol,
}

/// How refusals look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    /// As the request does.
    Detect,
    /// Always as gRPC statuses.
    Grpc,
}

impl RateLimitLayer {
    /// Sets up a layer that asks `limiter`.
    pub fn builder(limiter: RateLimiterClient) -> RateLimitLayerBuilder {
        RateLimitLayerBuilder { questions: Questions::new(limiter), headers: false }
    }

    /// The same layer for a gRPC server: every refusal is a gRPC status. Without this the request's content type
    /// decides.
    #[must_use]
    pub fn grpc(&self) -> RateLimitLayer {
        let Settings { questions, headers, .. } = &*self.0;
        RateLimitLayer(Arc::new(Settings {
            questions: questions.clone(),
            headers: *headers,
            protocol: Protocol::Grpc,
        }))
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, self.0.clone())
    }
}

/// Sets up a [`RateLimitLayer`] or a [`RateLimitCallLayer`].
#[must_use]
pub struct RateLimitLayerBuilder {
    questions: Questions,
    headers: bool,
}

impl fmt::Debug for RateLimitLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayerBuilder").field("questions", &self.questions).finish_non_exhaustive()
    }
}

impl RateLimitLayerBuilder {
    /// Adds a descriptor of one entry: `name` and what `source` finds in the request. Every descriptor of a
    /// request has to be within its limit.
    pub fn descriptor(self, name: impl Into<String>, source: KeySource) -> Self {
        self.entries([(name.into(), source)])
    }

    /// Adds a descriptor of several entries, in the order in which the rules nest.
    pub fn entries<N: Into<String>>(mut self, entries: impl IntoIterator<Item = (N, KeySource)>) -> Self {
        self.questions.add(entries.into_iter().map(|(name, source)| (name.into(), source)).collect());
        self
    }

    /// What a request costs, `0..=2^63 - 1`; 1 if not set. A request that costs 0 is only looked at: it is
    /// refused if the limit has nothing left for anybody.
    pub fn cost(mut self, cost: impl Fn(RequestView<'_>) -> u64 + Send + Sync + 'static) -> Self {
        self.questions.cost(cost);
        self
    }

    /// The longest that a request is held for its turn (leaky bucket); never longer than its `grpc-timeout`.
    /// If not set, as long as the limit's queue is.
    pub fn max_hold(mut self, hold: Duration) -> Self {
        self.questions.max_hold(hold);
        self
    }

    /// Whether responses carry `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10);
    /// no if not set. `Retry-After` is always on refusals. gRPC responses carry neither.
    pub fn rate_limit_headers(mut self, yes: bool) -> Self {
        self.headers = yes;
        self
    }

    /// The layer for a server.
    ///
    /// # Errors
    /// [`LimiterConfigError`] if there is no descriptor or one has no name.
    pub fn build(self) -> Result<RateLimitLayer, LimiterConfigError> {
        let (questions, headers) = (self.questions.checked()?, self.headers);
        Ok(RateLimitLayer(Arc::new(Settings { questions, headers, protocol: Protocol::Detect })))
    }

    /// The layer for a client.
    ///
    /// # Errors
    /// [`LimiterConfigError`] if there is no descriptor or one has no name.
    pub fn build_call(self) -> Result<RateLimitCallLayer, LimiterConfigError> {
        Ok(RateLimitCallLayer::new(self.questions.checked()?))
    }
}
