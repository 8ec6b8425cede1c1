//! Sections `[metrics]`, `[log]` and `[shutdown]`: what operators see, and how a server leaves.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::duration;
use super::text::Address;

/// `[metrics]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// `/metrics` also has the reference's names, `false`. `USE_PROMETHEUS`
    pub reference_names: bool,
    /// A second address that serves metrics only, empty; `:9090` with `USE_PROMETHEUS`. `PROMETHEUS_ADDR`
    pub prometheus_addr: Address,
    /// Path of the metrics on that address, `/metrics`. `PROMETHEUS_PATH`
    #[serde(deserialize_with = "absolute_path")]
    pub prometheus_path: String,
    /// The reference's response time counts milliseconds though its name says seconds, `false`.
    /// `PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS`
    pub response_time_as_milliseconds: bool,
    /// Calls and the store are timed, `true`: two readings of the clock for each call.
    pub durations: bool,
    /// Share of a limit from which hits count as near it, `0.8`, from 0 to 1. `NEAR_LIMIT_RATIO`
    pub near_limit_ratio: f64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            reference_names: false,
            prometheus_addr: Address::default(),
            prometheus_path: "/metrics".to_owned(),
            response_time_as_milliseconds: false,
            durations: true,
            near_limit_ratio: 0.8,
        }
    }
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    if path.starts_with('/') { Ok(path) } else { Err(Error::custom("does not begin with /")) }
}

/// `[log]`
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least important lines that are written, `info`. `LOG_LEVEL`
    pub level: LogLevel,
    /// `text` or `json`, `text`. `LOG_FORMAT`
    pub format: LogFormat,
    /// Most refusals that are written in one second, `5`, from 0 to 10000; the next line says how many were left
    /// out.
    pub refusals: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: LogLevel::default(), format: LogFormat::default(), refusals: 5 }
    }
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed; the reference's `panic` and `fatal` too.
    #[serde(alias = "panic", alias = "fatal")]
    Error,
    /// Something needs attention.
    #[serde(alias = "warning")]
    Warn,
    /// What changes: start, reload, shutdown.
    #[default]
    Info,
    /// For finding faults.
    Debug,
    /// Everything.
    Trace,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, with the reference's field names.
    Json,
}

/// `[shutdown]`
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Time between "not ready" and GOAWAY, `0s`; about `5s` in Kubernetes.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// Longest time for open calls to finish after that, `30s`.
    #[serde(with = "duration")]
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown { drain_delay: Duration::ZERO, grace: Duration::from_secs(30) }
    }
}
