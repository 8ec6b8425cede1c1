//! The limiter's client: asks a fleet of limiters, and knows what to do when it cannot.
//!
//! A question passes these stages, and the first that knows the answer gives it: tokens bought in advance
//! ([`LeaseMode`]), refusals that still hold, the service, the [`FailureMode`]. [`Decision::source`] says which
//! one it was.
//!
//! ```no_run
//! use std::time::Duration;
//! use tollgate_client::limiter::{FailureMode, LocalLimit, RateLimiterClient, Request};
//!
//! # async fn handle() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = RateLimiterClient::builder("dns:///tollgate:8081")
//!     .domain("shop")
//!     .deadline(Duration::from_millis(50))
//!     .failure_mode(FailureMode::Local(LocalLimit::per_second(20).burst(40).expected_clients(4)))
//!     .connect_lazy()?;
//!
//! let decision = limiter.check(Request::of([("tenant", "acme"), ("route", "/export")]).cost(10)).await;
//! if !decision.allowed {
//!     println!("come again after {:?}", decision.retry_advice);
//! }
//! limiter.close().await; // gives back what was bought and not spent
//! # Ok(())
//! # }
//! ```

mod balance;
mod builder;
mod channel;
mod core;
mod decision;
mod denials;
mod endpoint;
mod error;
mod failure;
mod fault;
mod gate;
mod key;
mod lease;
mod local;
mod memory;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod random;
mod request;
mod resolve;
mod rule;
mod stream;
mod wire;

use std::fmt;
use std::sync::Arc;

pub use builder::{RateLimiterClientBuilder, Transport};
pub use decision::{Decision, DecisionSource};
pub use error::{ConfigError as LimiterConfigError, LimiterError};
pub use failure::FailureMode;
pub use lease::LeaseMode;
pub use local::LocalLimit;
pub use metrics::{DecisionCount, LimiterMetrics};
pub use request::Request;
pub use resolve::{DnsResolver, Member, Resolve, StaticResolver};
pub use rule::RateRule;
pub use tollgate_proto::tollgate::v1::{Accuracy, Criticality, DecidedBy, LimitStatus};

use self::core::Core;
use error::ConfigError;

/// A client of the limiter. Clones are handles to the same client: one set of connections, leases and counters.
///
/// When the last clone is dropped its connections are closed; [`RateLimiterClient::close`] gives back unspent
/// tokens before that.
#[derive(Clone)]
pub struct RateLimiterClient {
    core: Arc<Core>,
    handle: Arc<Handle>,
}

/// Ends the client's tasks with its last clone.
struct Handle(Arc<Core>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.channel.stop();
    }
}

impl fmt::Debug for RateLimiterClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiterClient").field("metrics", &self.metrics()).finish_non_exhaustive()
    }
}

impl RateLimiterClient {
    /// Sets up a client of the limiters at `target`: `dns:///host:port`, `http://host:port` or `https://host:port`
    /// (all addresses of the name, looked up every 30 s, and when one cannot be reached), or
    /// `static:host:port,host:port`.
    #[must_use]
    pub fn builder(target: impl Into<String>) -> RateLimiterClientBuilder {
        RateLimiterClientBuilder::new(target.into())
    }

    /// Sets up a client of the limiters that `resolver` finds.
    #[must_use]
    pub fn with_resolver(resolver: impl Resolve) -> RateLimiterClientBuilder {
        RateLimiterClientBuilder::with_resolver(Box::new(resolver))
    }

    fn build(builder: RateLimiterClientBuilder) -> Result<RateLimiterClient, ConfigError> {
        let core = Arc::new(Core::new(builder)?);
        Ok(RateLimiterClient { handle: Arc::new(Handle(core.clone())), core })
    }

    /// Decides. There is always an answer: if the limiter gives none, the [`FailureMode`] does.
    ///
    /// Dropping the future withdraws a question that has not been sent yet.
    pub async fn check(&self, request: Request) -> Decision {
        let ask = match self.core.prepare(request) {
            Ok(ask) => ask,
            Err(error) => {
                self.core.counted(&Err(error.clone()));
                return self.core.fall_back_unasked(&error);
            }
        };
        let outcome = self.core.decide(&ask).await;
        self.core.counted(&outcome);
        outcome.unwrap_or_else(|error| self.core.fall_back(&ask, &error))
    }

    /// Decides, or says why the limiter gave no decision. A refusal is a decision.
    ///
    /// # Errors
    /// [`LimiterError`] if there is no decision.
    pub async fn try_check(&self, request: Request) -> Result<Decision, LimiterError> {
        let outcome = match self.core.prepare(request) {
            Ok(ask) => self.core.decide(&ask).await,
            Err(error) => Err(error),
        };
        self.core.counted(&outcome);
        outcome
    }

    /// Decides and, if a leaky bucket says so, waits for the turn: when this returns an allowed decision the
    /// caller may go on. A place in the queue is used up even if the future is dropped meanwhile.
    pub async fn acquire(&self, request: Request) -> Decision {
        let decision = self.check(request).await;
        if decision.allowed && !decision.wait.is_zero() {
            tokio::time::sleep(decision.wait).await;
        }
        decision
    }

    /// Looks, and charges nothing.
    ///
    /// # Errors
    /// [`LimiterError`] if there is no decision.
    pub async fn peek(&self, request: Request) -> Result<Decision, LimiterError> {
        self.try_check(request.into_peek()).await
    }

    /// Gives the cost back; never below "nothing used".
    ///
    /// # Errors
    /// [`LimiterError`] if the limiter could not be told.
    pub async fn refund(&self, request: Request) -> Result<Decision, LimiterError> {
        self.try_check(request.into_refund()).await
    }

    /// How long a decision may take, unless the request says otherwise.
    #[must_use]
    pub fn deadline(&self) -> std::time::Duration {
        self.core.deadline
    }

    /// What the client has done.
    #[must_use]
    pub fn metrics(&self) -> LimiterMetrics {
        self.core.counters.snapshot()
    }

    /// Gives back unspent tokens and closes the connections, for all clones. Whoever asks after that is answered
    /// by the failure mode.
    pub async fn close(&self) {
        lease::give_all_back(&self.core).await;
        self.handle.0.channel.stop();
    }
}
