//! How a client is set up.

use std::sync::Arc;
use std::time::Duration;

use super::RateLimiterClient;
use super::error::ConfigError;
use super::failure::FailureMode;
use super::lease::LeaseMode;
use super::resolve::{self, Resolve};
use super::stream::Coalesce;
use crate::clock::{Clock, SystemClock};
use crate::secure::{Security, Token};

/// How checks travel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Transport {
    /// Over one stream to each replica; checks that wait at the same time share a message.
    #[default]
    Stream,
    /// Each as a call of its own.
    Unary,
}

/// What an endpoint needs to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) security: Security,
    pub(super) transport: Transport,
    pub(super) coalesce: Coalesce,
    /// How often the replicas are looked up, about.
    pub(super) refresh: Duration,
}

/// Sets up a [`RateLimiterClient`]. Every setting has a default except the target; a domain is needed here or
/// in each request.
#[derive(Debug)]
pub struct RateLimiterClientBuilder {
    target: Target,
    pub(super) domain: String,
    pub(super) deadline: Duration,
    pub(super) failure_mode: FailureMode,
    transport: Transport,
    coalesce: Coalesce,
    refresh: Duration,
    pub(super) lease: LeaseMode,
    pub(super) max_lease: u64,
    pub(super) max_keys: u64,
    pub(super) clock: Arc<dyn Clock>,
    security: Security,
    token: Option<String>,
}

#[derive(Debug)]
enum Target {
    Text(String),
    Resolver(Box<dyn Resolve>),
}

/// A builder whose values are in range.
pub(super) struct Checked {
    pub(super) resolver: Box<dyn Resolve>,
    pub(super) settings: Settings,
}

impl RateLimiterClientBuilder {
    pub(super) fn new(target: String) -> RateLimiterClientBuilder {
        RateLimiterClientBuilder::with(Target::Text(target))
    }

    pub(super) fn with_resolver(resolver: Box<dyn Resolve>) -> RateLimiterClientBuilder {
        RateLimiterClientBuilder::with(Target::Resolver(resolver))
    }

    fn with(target: Target) -> RateLimiterClientBuilder {
        RateLimiterClientBuilder {
            target,
            domain: String::new(),
            deadline: Duration::from_millis(50),
            failure_mode: FailureMode::default(),
            transport: Transport::default(),
            coalesce: Coalesce { batch: 256, in_flight: 4_096 },
            refresh: Duration::from_secs(30),
            lease: LeaseMode::default(),
            max_lease: 100_000,
            max_keys: 100_000,
            clock: Arc::new(SystemClock),
            security: Security::default(),
            token: None,
        }
    }

    /// Whose rules decide requests that name no domain.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = domain.into();
        self
    }

    /// How long a decision may take, 1 ms to 60 s; 50 ms if not set. After that the failure mode answers.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// What to answer when the limiter cannot; [`FailureMode::Open`] if not set.
    #[must_use]
    pub fn failure_mode(mut self, mode: FailureMode) -> Self {
        self.failure_mode = mode;
        self
    }

    /// How checks travel; [`Transport::Stream`] if not set.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Most checks of one message, 1 to 1024; 256 if not set.
    #[must_use]
    pub fn max_batch(mut self, checks: usize) -> Self {
        self.coalesce.batch = checks;
        self
    }

    /// Most checks that wait for an answer of one replica, 1 to 4096; 4096 if not set. Further ones fail at
    /// once.
    #[must_use]
    pub fn max_in_flight(mut self, checks: usize) -> Self {
        self.coalesce.in_flight = checks;
        self
    }

    /// How often a name's addresses are looked up, give or take a fifth, 1 s to 1 h; 30 s if not set. When an
    /// address cannot be reached, they are looked up at once, but not within 5 s of the last time.
    #[must_use]
    pub fn refresh(mut self, every: Duration) -> Self {
        self.refresh = every;
        self
    }

    /// Whether tokens are bought in advance; [`LeaseMode::Auto`] if not set.
    #[must_use]
    pub fn lease(mut self, mode: LeaseMode) -> Self {
        self.lease = mode;
        self
    }

    /// Most tokens of one lease, 1 to 2^32-1; 100 000 if not set.
    #[must_use]
    pub fn max_lease(mut self, tokens: u64) -> Self {
        self.max_lease = tokens;
        self
    }

    /// About how many keys are remembered for each purpose (refusals, leases, local buckets), 1 to 10 000 000;
    /// 100 000 if not set.
    #[must_use]
    pub fn max_keys(mut self, keys: u64) -> Self {
        self.max_keys = keys;
        self
    }

    /// Where the client learns the time; the process' monotonic clock if not set.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Encrypts the connections; with `dns:///`, `static:` and a resolver too. If not set, only `https://` is
    /// encrypted, and trusts the system's roots.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::tls::Tls) -> Self {
        self.security.tls = Some(tls);
        self
    }

    /// Sends this token with every call, as `authorization: Bearer TOKEN` (RFC 6750): one word of visible ASCII.
    /// Without TLS everybody on the way can read it.
    #[must_use]
    pub fn bearer_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The client. It connects when it is first asked something; that has to happen inside a tokio runtime.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that is out of its range.
    pub fn connect_lazy(self) -> Result<RateLimiterClient, ConfigError> {
        RateLimiterClient::build(self)
    }

    pub(super) fn check(&mut self) -> Result<Checked, ConfigError> {
        within("deadline", "1 ms to 60 s", (1..=60_000).contains(&self.deadline.as_millis()))?;
        within("refresh", "1 s to 1 h", (1_000..=3_600_000).contains(&self.refresh.as_millis()))?;
        within("max_batch", "1 to 1024", (1..=1_024).contains(&self.coalesce.batch))?;
        within("max_in_flight", "1 to 4096", (1..=4_096).contains(&self.coalesce.in_flight))?;
        within("max_lease", "1 to 4294967295", (1..=u64::from(u32::MAX)).contains(&self.max_lease))?;
        within("max_keys", "1 to 10000000", (1..=10_000_000).contains(&self.max_keys))?;
        self.lease.check()?;
        if let Some(token) = &self.token {
            let wrong = || ConfigError::new("bearer_token", "must be one word of visible ASCII");
            self.security.token = Token::bearer(token).ok_or_else(wrong)?;
        }
        let resolver = match std::mem::replace(&mut self.target, Target::Text(String::new())) {
            Target::Text(text) => {
                self.encrypt(&text)?;
                resolve::parse(&text)?
            }
            Target::Resolver(resolver) => resolver,
        };
        let RateLimiterClientBuilder { transport, coalesce, refresh, .. } = *self;
        let security = std::mem::take(&mut self.security);
        Ok(Checked { resolver, settings: Settings { transport, coalesce, refresh, security } })
    }

    /// What the target says about encryption must agree with the rest.
    #[cfg(feature = "tls")]
    fn encrypt(&mut self, target: &str) -> Result<(), ConfigError> {
        if target.starts_with("http://") && self.security.tls.is_some() {
            return Err(ConfigError::new("target", "with tls it must begin with https://"));
        }
        if target.starts_with("https://") && self.security.tls.is_none() {
            let system = crate::tls::Tls::builder().build();
            self.security.tls = Some(system.map_err(|error| ConfigError::new("tls", error.to_string()))?);
        }
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    fn encrypt(&mut self, target: &str) -> Result<(), ConfigError> {
        match target.starts_with("https://") {
            true => Err(ConfigError::new("target", "https:// needs the crate's feature tls")),
            false => Ok(()),
        }
    }
}

fn within(field: &'static str, range: &str, fits: bool) -> Result<(), ConfigError> {
    if fits { Ok(()) } else { Err(ConfigError::new(field, format!("out of range: {range}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        let builder = || RateLimiterClient::builder("static:127.0.0.1:1").domain("shop");
        let field = |builder: RateLimiterClientBuilder| builder.connect_lazy().map_err(|error| error.field);
        assert_eq!(field(builder().deadline(Duration::ZERO)).unwrap_err(), "deadline");
        assert_eq!(field(builder().refresh(Duration::ZERO)).unwrap_err(), "refresh");
        assert_eq!(field(builder().max_batch(0)).unwrap_err(), "max_batch");
        assert_eq!(field(builder().max_in_flight(4_097)).unwrap_err(), "max_in_flight");
        assert_eq!(field(builder().max_lease(0)).unwrap_err(), "max_lease");
        assert_eq!(field(builder().max_keys(0)).unwrap_err(), "max_keys");
        assert_eq!(field(RateLimiterClient::builder("nowhere")).unwrap_err(), "target");
        assert_eq!(field(builder().bearer_token("two words")).unwrap_err(), "bearer_token");
        assert!(field(builder().bearer_token("word")).is_ok());
        assert!(field(builder()).is_ok());
    }
}
