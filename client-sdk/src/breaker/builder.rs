//! How a breaker is set up: in code, or from a configuration file.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tollgate_core::breaker as core;

use super::{CircuitBreaker, EventListener, FleetJoin, FleetMember};
use crate::clock::{Clock, SystemClock, span};
use crate::config::{ConfigError, ratio, seed, text};

/// Which calls are judged together.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SlidingWindow {
    /// The last `size` calls, `1..=65_535`.
    Count {
        /// How many.
        size: u32,
    },
    /// The calls of the last `length`, at most a day.
    Time {
        /// How long.
        #[serde(with = "text")]
        length: Duration,
        /// In how many steps they are forgotten, `1..=64`.
        #[serde(default = "ten")]
        buckets: u8,
    },
}

const fn ten() -> u8 {
    10
}

impl SlidingWindow {
    /// The last `size` calls.
    #[must_use]
    pub const fn count(size: u32) -> SlidingWindow {
        SlidingWindow::Count { size }
    }

    /// The calls of the last `length`, forgotten in ten steps.
    #[must_use]
    pub const fn time(length: Duration) -> SlidingWindow {
        SlidingWindow::Time { length, buckets: 10 }
    }
}

/// How long a breaker stays open: `min(max, base * multiplier^(n - 1))`, give or take `jitter` of it, for the
/// n-th opening; n falls by one for every window spent closed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wait {
    /// First wait. Default 5 s.
    #[serde(with = "text")]
    pub base: Duration,
    /// `1.0..=10.0`. Default 1.5.
    pub multiplier: f64,
    /// `0.0..=1.0`. Default 0.5.
    pub jitter: f64,
    /// Longest wait before the jitter. Default 60 s.
    #[serde(with = "text")]
    pub max: Duration,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait::exponential(Duration::from_secs(5), 1.5)
    }
}

impl Wait {
    /// Always `base`, without jitter.
    #[must_use]
    pub const fn constant(base: Duration) -> Wait {
        Wait { base, multiplier: 1.0, jitter: 0.0, max: base }
    }

    /// Longer each time, up to a minute (or `base`, if that is longer), half of it jitter.
    #[must_use]
    pub fn exponential(base: Duration, multiplier: f64) -> Wait {
        Wait { base, multiplier, jitter: 0.5, max: base.max(Duration::from_secs(60)) }
    }

    /// With another spread, `0.0..=1.0`.
    #[must_use]
    pub const fn jitter(self, jitter: f64) -> Wait {
        Wait { jitter, ..self }
    }

    /// With another longest wait.
    #[must_use]
    pub const fn max(self, max: Duration) -> Wait {
        Wait { max, ..self }
    }
}

/// A growing share of the calls passes between probing and closed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// Share that passes first, in percent, `1..=99`.
    pub start: u32,
    /// Percentage points that are added, `1..=100`.
    pub step: u32,
    /// How often.
    #[serde(with = "text")]
    pub every: Duration,
}

/// How a [`CircuitBreaker`] works; every field has a default. Opens at 50 % failures of at least 20 calls in
/// 10 seconds, or at 10 failures in a row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreakerConfig {
    /// Opens at this share of failures or more, above `0.0` to `1.0`.
    pub failure_rate_threshold: Option<f64>,
    /// Opens at this number of failures in a row.
    pub consecutive_failures: Option<u32>,
    /// Calls that take longer are slow.
    #[serde(with = "text::optional")]
    pub slow_call_duration: Option<Duration>,
    /// Opens at this share of slow calls or more, above `0.0` to `1.0`.
    pub slow_call_rate_threshold: f64,
    /// Which calls the shares are of.
    pub sliding_window: SlidingWindow,
    /// Fewest calls of which a share is taken.
    pub minimum_calls: u32,
    /// Probes, `1..=8191`.
    pub permitted_calls_in_half_open: u32,
    /// Back to open if the probes have shown nothing after this; absent: never.
    #[serde(with = "text::optional")]
    pub half_open_max_wait: Option<Duration>,
    /// A probe that has not ended after this may be taken by another call.
    #[serde(with = "text")]
    pub permit_ttl: Duration,
    /// How long it stays open.
    pub wait_in_open: Wait,
    /// A ramp before it closes; absent: closes at once.
    pub recovery: Option<Recovery>,
    /// Counts calls that hang, before they end, as slow.
    pub overdue: bool,
    /// Opens as soon as one call is told to come again later, for as long as it is told: for targets that
    /// throttle a whole client. Where they refuse call by call, one refusal would stop everybody's calls.
    pub open_on_hint: bool,
}

impl Default for CircuitBreakerConfig {
    fn default() -> CircuitBreakerConfig {
        CircuitBreakerConfig {
            failure_rate_threshold: Some(0.5),
            consecutive_failures: Some(10),
            slow_call_duration: None,
            slow_call_rate_threshold: 0.8,
            sliding_window: SlidingWindow::time(Duration::from_secs(10)),
            minimum_calls: 20,
            permitted_calls_in_half_open: 5,
            half_open_max_wait: Some(Duration::from_secs(30)),
            permit_ttl: Duration::from_secs(10),
            wait_in_open: Wait::default(),
            recovery: None,
            overdue: false,
            open_on_hint: false,
        }
    }
}

impl CircuitBreakerConfig {
    /// As the kernel wants it.
    pub(super) fn compile(&self, initial: core::Mode) -> Result<core::Config, ConfigError> {
        let slow_rate = ratio("slow_call_rate_threshold", self.slow_call_rate_threshold)?;
        let slow = self.slow_call_duration.map(|slow| core::Slow { duration: span(slow), rate: slow_rate });
        let rate =
            self.failure_rate_threshold.map(|rate| ratio("failure_rate_threshold", rate)).transpose()?;
        let window = match self.sliding_window {
            SlidingWindow::Count { size } => core::WindowKind::Count { size },
            SlidingWindow::Time { length, buckets } => {
                core::WindowKind::Time { length: span(length), buckets: buckets.into() }
            }
        };
        let recover = self.recovery.map(|ramp| core::Recovery {
            start: ramp.start,
            step: ramp.step,
            every: span(ramp.every),
        });
        let config = core::Config {
            failure_rate: rate,
            slow,
            consecutive: self.consecutive_failures,
            window,
            minimum_calls: self.minimum_calls,
            half_open: self.half_open(rate.is_some() || slow.is_some()),
            wait: self.wait_in_open.compile()?,
            recover,
            overdue: self.overdue,
            initial,
            ..core::Config::default()
        };
        config.check()?;
        Ok(config)
    }

    /// Without a rate of its own a breaker judges its probes by the number that succeed: all of them.
    fn half_open(&self, rates: bool) -> core::HalfOpen {
        let permits = self.permitted_calls_in_half_open;
        let verdict = if rates {
            core::Verdict::Rates { minimum: None }
        } else {
            core::Verdict::Successes { needed: permits }
        };
        core::HalfOpen {
            permits,
            verdict,
            max_wait: self.half_open_max_wait.map(span),
            permit_ttl: span(self.permit_ttl),
            ..core::HalfOpen::default()
        }
    }
}

impl Wait {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1..=10_000 was checked")]
    fn compile(&self) -> Result<core::Wait, ConfigError> {
        if !(1.0..=10.0).contains(&self.multiplier) {
            return Err(ConfigError::range("wait_in_open.multiplier", "in 1.0..=10.0", &self.multiplier));
        }
        Ok(core::Wait {
            base: span(self.base),
            multiplier: (self.multiplier * 1_000.0).round() as u32,
            jitter: ratio("wait_in_open.jitter", self.jitter)?,
            cap: span(self.max),
            ..core::Wait::default()
        })
    }
}

/// Builds a [`CircuitBreaker`]; see [`CircuitBreaker::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct CircuitBreakerBuilder {
    pub(super) name: Arc<str>,
    pub(super) config: CircuitBreakerConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: u64,
    pub(super) listeners: Vec<Arc<dyn EventListener>>,
    pub(super) fleet: Option<Arc<dyn FleetJoin>>,
    pub(super) initial: core::Mode,
}

impl CircuitBreakerBuilder {
    pub(super) fn new(name: Arc<str>, config: CircuitBreakerConfig) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder {
            name,
            config,
            clock: Arc::new(SystemClock),
            seed: seed(),
            listeners: Vec::new(),
            fleet: None,
            initial: core::Mode::Closed,
        }
    }

    /// Opens at this share of failures, above `0.0` to `1.0`; a share equal to it opens. Default 0.5.
    pub fn failure_rate_threshold(mut self, share: f64) -> Self {
        self.config.failure_rate_threshold = Some(share);
        self
    }

    /// Opens at this number of failures in a row, `None` for never. Default 10.
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.config.consecutive_failures = failures.into();
        self
    }

    /// Opens at a share of calls that take longer than `duration`. Default: off.
    pub fn slow_call(mut self, duration: Duration, share: f64) -> Self {
        self.config.slow_call_duration = Some(duration);
        self.config.slow_call_rate_threshold = share;
        self
    }

    /// Which calls the shares are of. Default: 10 seconds.
    pub fn sliding_window(mut self, window: SlidingWindow) -> Self {
        self.config.sliding_window = window;
        self
    }

    /// Fewest calls of which a share is taken. Default 20.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.config.minimum_calls = calls;
        self
    }

    /// How long it stays open. Default: 5 s, half as much again each time, up to 60 s, half of it jitter.
    pub fn wait_in_open(mut self, wait: Wait) -> Self {
        self.config.wait_in_open = wait;
        self
    }

    /// Probes in half-open. Default 5.
    pub fn permitted_calls_in_half_open(mut self, calls: u32) -> Self {
        self.config.permitted_calls_in_half_open = calls;
        self
    }

    /// A ramp between the probes and closed. Default: none.
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.config.recovery = Some(recovery);
        self
    }

    /// Counts calls that hang as slow before they end; needs [`slow_call`](Self::slow_call). Default: off.
    pub fn overdue(mut self) -> Self {
        self.config.overdue = true;
        self
    }

    /// See [`CircuitBreakerConfig::open_on_hint`].
    pub const fn open_on_hint(mut self) -> Self {
        self.config.open_on_hint = true;
        self
    }

    /// Every other setting at once.
    pub fn config(mut self, config: CircuitBreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// Tells `listener` of every change of state. Default: none; changes are logged in any case.
    pub fn listener(mut self, listener: impl EventListener) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Asks a breaker that the whole fleet shares before the local one; the stricter of both governs.
    /// See [`FleetCircuit`](crate::fleet::FleetCircuit). Default: none.
    pub fn fleet(mut self, fleet: impl FleetJoin) -> Self {
        self.fleet = Some(Arc::new(fleet));
        self
    }

    pub(super) fn member(&self) -> FleetMember {
        let (clock, seed) = (self.clock.clone(), self.seed);
        let (base_wait, slow_after) = (self.config.wait_in_open.base, self.config.slow_call_duration);
        FleetMember { clock, base_wait, slow_after, seed }
    }

    /// Starts with calls passing and judged, but never rejected: to try a configuration in production.
    pub fn start_in_metrics_only(mut self) -> Self {
        self.initial = core::Mode::MetricsOnly;
        self
    }

    /// Where it learns the time. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes its jitter the same every time, for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The breaker.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that makes no sense, and its range.
    pub fn build(self) -> Result<CircuitBreaker, ConfigError> {
        CircuitBreaker::from_builder(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_the_fractions_they_stand_for() {
        let two_thirds = ratio("x", 2.0 / 3.0).unwrap();
        assert!(two_thirds.reached(2, 3));
        assert!(!two_thirds.reached(199, 300));
        assert_eq!(ratio("x", 0.5).unwrap(), core::Ratio::HALF);
        assert_eq!(ratio("x", 1.0 / 1777.0).unwrap().denominator(), 1_000_000);
        assert_eq!(ratio("x", 1.5).unwrap_err().to_string(), "x must be in 0.0..=1.0, not 1.5");
        assert!(ratio("x", f64::NAN).is_err());
    }
}
