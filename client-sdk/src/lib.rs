//! Rate limits, circuit breakers and backpressure for services.
//!
//! Everything is a cheap handle (`Clone`, `Send`, `Sync`), built once and shared; works on plain futures, and
//! as tower layers for tonic, axum and reqwest. No task runs in the background (but one for each
//! [`fleet::FleetClient`]), and nothing takes a lock on the way of a healthy call.
//!
//! # A breaker
//!
//! Stops calling a target that fails, and tries it again with a few probes.
//!
//! ```
//! use std::time::Duration;
//! use tollgate_client::{CircuitBreaker, Error, SlidingWindow, State, Wait};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tollgate_client::ConfigError> {
//! # async fn query() -> Result<u32, std::io::Error> { Err(std::io::Error::other("down")) }
//! let breaker = CircuitBreaker::builder("inventory")
//!     .failure_rate_threshold(0.5)
//!     .sliding_window(SlidingWindow::time(Duration::from_secs(10)))
//!     .minimum_calls(20)
//!     .slow_call(Duration::from_millis(800), 0.8)
//!     .wait_in_open(Wait::exponential(Duration::from_secs(5), 1.5).jitter(0.5))
//!     .permitted_calls_in_half_open(5)
//!     .build()?;
//! for _ in 0..10 {
//!     assert!(matches!(breaker.call(query()).await, Err(Error::Inner(_))));
//! }
//! match breaker.call(query()).await {
//!     Err(Error::CircuitOpen { retry_after, .. }) => assert!(retry_after.is_some()),
//!     other => unreachable!("ten failures in a row open it: {other:?}"),
//! }
//! assert_eq!(breaker.state(), State::Open);
//! # Ok(())
//! # }
//! ```
//!
//! Before a tonic channel, as a layer. The outcome is taken from the trailers, at the end of the stream; a probe
//! passes as soon as its head is good and its reader has to wait for more, so that streams close a breaker too;
//! [`is_circuit_open`] tells a rejection here from an `UNAVAILABLE` of the server.
//!
//! ```
//! use tollgate_client::{CircuitBreaker, CircuitBreakerLayer, GrpcClassifier, is_circuit_open, retry_after};
//! use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
//! use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
//! use tonic::transport::Channel;
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tollgate_client::ConfigError> {
//! let breaker = CircuitBreaker::builder("limits").build()?;
//! let channel = Channel::from_static("http://limits:8081").connect_lazy();
//! let mut client = RateLimitServiceClient::new(
//!     ServiceBuilder::new()
//!         .layer(CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default()))
//!         .service(channel),
//! );
//! breaker.force_open("maintenance", None);
//! let status = client.should_rate_limit(RateLimitRequest::default()).await.unwrap_err();
//! assert!(is_circuit_open(&status) && retry_after(&status).is_none());
//! # Ok(())
//! # }
//! ```
//!
//! # All policies at once
//!
//! A [`Pipeline`] puts a deadline, retries with a budget, a throttle, a concurrency limit, a breaker and an
//! attempt time-out around a call, in the order that works. See [`pipeline`] for that order and its reasons.
//!
//! ```
//! use std::time::Duration;
//! use tollgate_client::{
//!     AdaptiveThrottler, CircuitBreaker, ConcurrencyLimiter, GrpcClassifier, Pipeline, Retry, RetryBudget,
//!     rejection,
//! };
//! # use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
//! # use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
//! # use tonic::transport::Channel;
//! use tower::Layer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tollgate_client::ConfigError> {
//! let pipeline = Pipeline::builder("payments")
//!     .deadline(Duration::from_secs(2)) // a shorter one of the caller wins
//!     .retry(
//!         Retry::exponential(Duration::from_millis(50))
//!             .max_attempts(3)
//!             .budget(RetryBudget::percent(20).min_per_second(10).build()?),
//!     )
//!     .throttle(AdaptiveThrottler::builder().k(2.0))
//!     .concurrency(ConcurrencyLimiter::gradient2().max(200))
//!     .breaker(CircuitBreaker::builder("payments"))
//!     .attempt_timeout(Duration::from_millis(400))
//!     .build()?;
//! assert_eq!(
//!     format!("{pipeline:?}"),
//!     "payments: deadline 2s > retry 3x > throttle > concurrency > breaker > attempt timeout 400ms",
//! );
//! # let channel = Channel::from_static("http://127.0.0.1:1").connect_lazy();
//! let mut client = RateLimitServiceClient::new(pipeline.layer(GrpcClassifier::default()).layer(channel));
//! if let Err(status) = client.should_rate_limit(RateLimitRequest::default()).await {
//!     match rejection(&status) {
//!         Some(rejected) => println!("not sent: {rejected}"),
//!         None => println!("the server says {status}"),
//!     }
//! }
//! // without tower
//! let answer = pipeline.call(|| async { Ok::<_, std::io::Error>(7) }).await;
//! assert_eq!(answer.ok(), Some(7));
//! # Ok(())
//! # }
//! ```
//!
//! # Serving
//!
//! A server limits the calls in flight, sheds the least critical first, and ends handlers whose callers do
//! not wait any more. Refusals are responses, so that axum's `Infallible` stays.
//!
//! ```
//! use axum::{Router, routing::get};
//! use std::time::Duration;
//! use tollgate_client::{ConcurrencyLimiter, DeadlineLayer, LoadShed, LoadShedLayer};
//!
//! # fn main() -> Result<(), tollgate_client::ConfigError> {
//! let limit = ConcurrencyLimiter::gradient2()
//!     .queue(128)
//!     .codel(Duration::from_millis(5), Duration::from_millis(100))
//!     .build()?;
//! let shed = LoadShed::builder(limit).tenant_header(http::HeaderName::from_static("x-tenant")).build()?;
//! let app: Router = Router::new()
//!     .route("/search", get(|| async { "found" }))
//!     .layer(LoadShedLayer::new(shed))
//!     .layer(DeadlineLayer::at_most(Duration::from_secs(5)));
//! # drop(app);
//! # Ok(())
//! # }
//! ```
//!
//! A layer around one tonic service keeps its name: `LoadShedLayer` and `DeadlineLayer` implement
//! `NamedService`.
//!
//! # Which one, when
//!
//! A breaker is for a target that is dead, a throttle for one that is partly overloaded, a concurrency limit
//! for one that is slow. Scope breakers to what fails together: an endpoint or a shard, with a
//! [`CircuitBreakerRegistry`].

pub mod breaker;
pub mod classify;
pub mod clock;
pub mod concurrency;
mod config;
pub mod deadline;
pub mod error;
pub mod fallback;
pub mod fleet;
mod guard;
pub mod hint;
pub mod layer;
pub mod limiter;
pub mod pipeline;
pub mod retry;
mod secure;
pub mod shed;
mod state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod throttle;
#[cfg(feature = "tls")]
pub mod tls;

pub use breaker::{
    CircuitBreaker, CircuitBreakerConfig, CircuitBreakerRegistry, CircuitOpen, SlidingWindow, Wait,
};
pub use classify::{GrpcClassifier, HttpClassifier, Outcome, Verdict, classify_fn};
pub use concurrency::ConcurrencyLimiter;
pub use config::ConfigError;
pub use deadline::Deadline;
pub use error::{BoxError, Error, Rejection, RejectionKind, is_circuit_open, rejection, retry_after};
pub use fallback::Fallback;
pub use guard::Until;
pub use layer::{
    CircuitBreakerLayer, ConcurrencyLimitLayer, DeadlineLayer, DeadlineUntil, LoadShedLayer, PipelineLayer,
    RetryLayer, ThrottleLayer,
};
pub use pipeline::Pipeline;
pub use retry::{Retry, RetryBudget};
pub use shed::{Criticality, LoadShed};
pub use state::State;
pub use throttle::AdaptiveThrottler;
