//! What a load test does, as a file says it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tollgate_core::limit::{
    FixedWindow, Limit, Rate, Refused, SlidingLog, SlidingWindow, TokenBucket, Window,
};
use tollgate_core::time::Span;

use super::arrivals::Arrivals;
use super::keys::Keys;

/// One load test.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short, for titles.
    pub name: String,
    /// What it is to show.
    pub about: String,
    /// How it asks.
    pub api: Api,
    /// Connections, 1 to 10 000.
    #[serde(default = "four")]
    pub connections: u32,
    /// Questions that one connection may have open, 1 to 1000; over HTTP/1.1 it is one.
    #[serde(default = "hundred")]
    pub in_flight: u32,
    /// Steps of load, questions per second each, above 0.
    pub rates: Vec<f64>,
    /// How questions are spread over time.
    #[serde(default = "poisson")]
    pub arrivals: Arrivals,
    /// How questions are spread over keys.
    pub keys: Keys,
    /// Seconds before each step that are not measured, 0 to 3600.
    #[serde(default = "one")]
    pub warmup: f64,
    /// Seconds of each step, above 0, up to 86 400.
    pub seconds: f64,
    /// After so many seconds an answer is of no use any more: told to the server, and not good, above 0.
    #[serde(default = "one")]
    pub deadline: f64,
    /// What is asked.
    pub request: Request,
    /// The limit that each key has; then the oracle judges what was admitted.
    pub limit: Option<LimitSpec>,
    /// Of all chance.
    #[serde(default)]
    pub seed: u64,
}

/// A way to ask.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Envoy's `ShouldRateLimit`.
    Rls,
    /// `tollgate.v1.RateLimiter/Check`.
    Check,
    /// `tollgate.v1.RateLimiter/CheckStream`, one stream a connection.
    CheckStream,
    /// `POST /json`.
    Json,
    /// `POST /v1/check`.
    HttpCheck,
}

/// What is asked.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The domain.
    pub domain: String,
    /// Descriptors of entries; `{key}` in a value becomes twelve digits.
    pub descriptors: Vec<Vec<Entry>>,
}

/// One entry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// A limit, as the oracle has to know it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case", tag = "algorithm", deny_unknown_fields)]
pub enum LimitSpec {
    /// `count` per `seconds`, `burst` at once.
    TokenBucket {
        /// Units per period.
        count: u64,
        /// Length of the period.
        seconds: u64,
        /// Units at once.
        burst: u64,
    },
    /// `count` in each window of `seconds` on the epoch.
    FixedWindow {
        /// Units in a window.
        count: u64,
        /// Its length.
        seconds: u64,
    },
    /// `count` in a weighted window of `seconds`.
    SlidingWindow {
        /// Units in a window.
        count: u64,
        /// Its length.
        seconds: u64,
    },
    /// `count` in any `seconds`.
    SlidingLog {
        /// Units in a window.
        count: u64,
        /// Its length.
        seconds: u64,
    },
}

impl LimitSpec {
    /// As the decision kernel has it.
    ///
    /// # Errors
    /// There is no such limit.
    pub fn limit(&self) -> Result<Limit> {
        Ok(match *self {
            LimitSpec::TokenBucket { count, seconds, burst } => {
                Limit::TokenBucket(TokenBucket::new(Rate::new(count, Span::from_secs(seconds))?, burst)?)
            }
            LimitSpec::FixedWindow { count, seconds } => {
                let window = Window::Epoch(Span::from_secs(seconds));
                Limit::FixedWindow(FixedWindow::new(count, window, Refused::Counts)?)
            }
            LimitSpec::SlidingWindow { count, seconds } => {
                Limit::SlidingWindow(SlidingWindow::new(count, Span::from_secs(seconds))?)
            }
            LimitSpec::SlidingLog { count, seconds } => {
                Limit::SlidingLog(SlidingLog::new(count, Span::from_secs(seconds))?)
            }
        })
    }

    /// What it admits in the long run, units per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for a picture")]
    pub fn per_second(&self) -> f64 {
        let (LimitSpec::TokenBucket { count, seconds, .. }
        | LimitSpec::FixedWindow { count, seconds }
        | LimitSpec::SlidingWindow { count, seconds }
        | LimitSpec::SlidingLog { count, seconds }) = self;
        *count as f64 / *seconds as f64
    }
}

fn four() -> u32 {
    4
}

fn hundred() -> u32 {
    100
}

fn one() -> f64 {
    1.0
}

fn poisson() -> Arrivals {
    Arrivals::Poisson
}

impl Scenario {
    /// Reads a TOML or YAML file.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense; the message names file and field.
    pub fn read(file: &Path) -> Result<Scenario> {
        let source = config::File::from(file);
        let read = config::Config::builder().add_source(source).build();
        let scenario = read.and_then(config::Config::try_deserialize::<Scenario>);
        let scenario = scenario.with_context(|| format!("scenario {}", file.display()))?;
        scenario.check().with_context(|| format!("scenario {}", file.display()))?;
        Ok(scenario)
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// It does not; the message names the field and its range.
    pub fn check(&self) -> Result<()> {
        ensure!(
            (1..=10_000).contains(&self.connections),
            "connections is {}, must be 1 to 10000",
            self.connections
        );
        ensure!((1..=1_000).contains(&self.in_flight), "in_flight is {}, must be 1 to 1000", self.in_flight);
        ensure!(!self.rates.is_empty(), "rates is empty");
        for rate in &self.rates {
            ensure!(rate.is_finite() && *rate > 0.0, "a rate is {rate}, must be above 0");
        }
        within("seconds", self.seconds, 1e-3, 86_400.0)?;
        within("warmup", self.warmup, 0.0, 3_600.0)?;
        within("deadline", self.deadline, 1e-3, 3_600.0)?;
        ensure!(!self.request.domain.is_empty(), "request.domain is empty");
        ensure!(!self.request.descriptors.is_empty(), "request.descriptors is empty");
        let keyed = self.request.descriptors.iter().flatten().any(|entry| entry.value.contains("{key}"));
        ensure!(keyed || self.keys == Keys::One, "no entry of request.descriptors has {{key}} in its value");
        self.arrivals.check()?;
        self.keys.check()?;
        self.limit.as_ref().map(LimitSpec::limit).transpose().context("limit")?;
        Ok(())
    }

    /// The time after which an answer is of no use.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.deadline)
    }
}

fn within(field: &str, value: f64, least: f64, most: f64) -> Result<()> {
    ensure!((least..=most).contains(&value), "{field} is {value}, must be {least} to {most}");
    Ok(())
}
