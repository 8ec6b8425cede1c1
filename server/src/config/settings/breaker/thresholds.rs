//! Tables `[breaker.defaults]` and `breaker.circuits`: when a circuit that a fleet shares opens, and how it comes
//! back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tollgate_core::breaker::fleet::{FleetConfig, FleetMode, FleetSettings, Share};
use tollgate_core::time::Span;

use super::super::duration;
use super::BreakerMode;

/// `[breaker.defaults]`: thresholds of circuits, unless `breaker.circuits` says otherwise. `FleetSettings` of the
/// core explains how they work together. Shares are from 0 to 1.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// The long window, `10s`, 1s to 10m.
    #[serde(with = "duration")]
    pub window: Duration,
    /// The short window, `2s`, 200ms up to the long one.
    #[serde(with = "duration")]
    pub short_window: Duration,
    /// Outcomes in a window below which no verdict falls, `100`, 1 to 1000000.
    pub min_volume: u64,
    /// Share of failures over the long window that opens a circuit, `0.5`, above 0.
    pub failure_rate: f64,
    /// Share of failures over the short window that opens it, `0.8`, above 0.
    pub short_failure_rate: f64,
    /// Outcomes in the short window from which failure_rate is judged over it too, `200`, 1 to 1000000.
    pub short_volume: u64,
    /// Share of slow calls that opens it, `0.0`, 0: none does; else slow_after has to be set.
    pub slow_rate: f64,
    /// Calls longer than this are slow, `0s`; 0: three times the median of before the outage.
    #[serde(with = "duration")]
    pub slow_after: Duration,
    /// By that median no call within this is slow, `100ms`, up to 1h.
    #[serde(with = "duration")]
    pub slow_floor: Duration,
    /// Least reporters that must see the failures, `3`, 1 to 1000.
    pub quorum_min: u32,
    /// Least share of the active reporters that must see them, `0.2`.
    pub quorum_share: f64,
    /// With fewer active reporters the plain rate decides, `5`, 1 to 1000.
    pub plain_below: u32,
    /// Largest weight of one reporter, `0.2`, above 0.
    pub weight_cap: f64,
    /// Probes of the whole fleet in one round, `10`, 1 to 1000.
    pub probes: u32,
    /// Share of bad probes that opens it again, `0.3`, above 0.
    pub probe_failure_rate: f64,
    /// How long one call may take, `1s`, 1ms to 10m.
    #[serde(with = "duration")]
    pub attempt_timeout: Duration,
    /// How long a permit may wait for a call, `2s`, 10ms to 10m.
    #[serde(with = "duration")]
    pub permit_grace: Duration,
    /// A round without a verdict ends after this, `60s`, 1s to 1h.
    #[serde(with = "duration")]
    pub half_open_max: Duration,
    /// Share of the calls that passes first after an outage, `0.05`, above 0.
    pub ramp_start: f64,
    /// What each good step adds, `0.05`, above 0.
    pub ramp_step: f64,
    /// How much larger each step is than the one before while calls are as quick as before the outage, `2.0`, 1
    /// to 4.
    pub ramp_growth: f64,
    /// Length of a step, `500ms`, 50ms to 10m.
    #[serde(with = "duration")]
    pub ramp_every: Duration,
    /// Share of bad calls in a step that shrinks the share, `0.1`, above 0.
    pub ramp_bad: f64,
    /// What a bad step leaves of the share, `0.8`, 0.01 to 0.99.
    pub ramp_keep: f64,
    /// Outcomes in a step below which it is not judged, `20`, 1 to 1000000.
    pub ramp_min_samples: u64,
    /// Share of failures during the ramp that opens it again, `0.5`, above 0.
    pub reopen_rate: f64,
    /// Outcomes below which it is not opened again, `50`, 1 to 1000000.
    pub reopen_min_samples: u64,
    /// First wait, `2s`, 10ms up to open_cap.
    #[serde(with = "duration")]
    pub open_wait: Duration,
    /// Growth of the wait from one opening to the next, `1.5`, 1 to 10.
    pub open_multiplier: f64,
    /// The wait is drawn within plus or minus this share, `0.2`, up to 0.9.
    pub open_jitter: f64,
    /// Longest wait, `30s`, up to open_max.
    #[serde(with = "duration")]
    pub open_cap: Duration,
    /// Longest time without a probe, whatever the target hints at, `60s`, 10ms to 1h.
    #[serde(with = "duration")]
    pub open_max: Duration,
    /// How long a directive holds without another, `10s`, 1s to 1h.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How often a client reports when all is well, `1s`, 100ms up to a third of the lease.
    #[serde(with = "duration")]
    pub report_interval: Duration,
    /// How long a new owner listens before it speaks, `1.5s`, up to half of the lease.
    #[serde(with = "duration")]
    pub adopt_for: Duration,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            window: Duration::from_secs(10),
            short_window: Duration::from_secs(2),
            min_volume: 100,
            failure_rate: 0.5,
            short_failure_rate: 0.8,
            short_volume: 200,
            slow_rate: 0.0,
            slow_after: Duration::ZERO,
            slow_floor: Duration::from_millis(100),
            quorum_min: 3,
            quorum_share: 0.2,
            plain_below: 5,
            weight_cap: 0.2,
            probes: 10,
            probe_failure_rate: 0.3,
            attempt_timeout: Duration::from_secs(1),
            permit_grace: Duration::from_secs(2),
            half_open_max: Duration::from_secs(60),
            ramp_start: 0.05,
            ramp_step: 0.05,
            ramp_growth: 2.0,
            ramp_every: Duration::from_millis(500),
            ramp_bad: 0.1,
            ramp_keep: 0.8,
            ramp_min_samples: 20,
            reopen_rate: 0.5,
            reopen_min_samples: 50,
            open_wait: Duration::from_secs(2),
            open_multiplier: 1.5,
            open_jitter: 0.2,
            open_cap: Duration::from_secs(3),
            open_max: Duration::from_secs(60),
            lease: Duration::from_secs(10),
            report_interval: Duration::from_secs(1),
            adopt_for: Duration::from_millis(1500),
        }
    }
}

/// What a whole section gives to every circuit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) mode: BreakerMode,
    pub(super) max_reporters: u32,
}

impl Thresholds {
    /// The same for the core, checked.
    ///
    /// # Errors
    /// The first one that is out of its range, with its name, value and range.
    pub(super) fn compile(&self, common: Common) -> Result<FleetConfig, String> {
        if !(1.0..=10.0).contains(&self.open_multiplier) {
            return Err(format!("open_multiplier is {}, must be 1 to 10", self.open_multiplier));
        }
        if !(1.0..=4.0).contains(&self.ramp_growth) {
            return Err(format!("ramp_growth is {}, must be 1 to 4", self.ramp_growth));
        }
        let settings = FleetSettings {
            mode: match common.mode {
                BreakerMode::Enforce => FleetMode::Enforce,
                BreakerMode::MetricsOnly | BreakerMode::Off => FleetMode::MetricsOnly,
            },
            version: 0,
            max_reporters: common.max_reporters as usize,
            window: span(self.window),
            short_window: span(self.short_window),
            min_volume: self.min_volume,
            failure_rate: share(self.failure_rate),
            short_failure_rate: share(self.short_failure_rate),
            short_volume: self.short_volume,
            slow_rate: (self.slow_rate > 0.0).then(|| share(self.slow_rate)),
            slow_after: (!self.slow_after.is_zero()).then(|| span(self.slow_after)),
            slow_floor: span(self.slow_floor),
            quorum_min: self.quorum_min,
            quorum_share: share(self.quorum_share),
            plain_below: self.plain_below,
            weight_cap: share(self.weight_cap),
            probes: self.probes,
            probe_failure_rate: share(self.probe_failure_rate),
            attempt_timeout: span(self.attempt_timeout),
            permit_grace: span(self.permit_grace),
            half_open_max: span(self.half_open_max),
            ramp_start: share(self.ramp_start),
            ramp_step: share(self.ramp_step),
            ramp_growth: parts(self.ramp_growth, 1_000.0),
            ramp_every: span(self.ramp_every),
            ramp_bad: share(self.ramp_bad),
            ramp_keep: share(self.ramp_keep),
            ramp_min_samples: self.ramp_min_samples,
            reopen_rate: share(self.reopen_rate),
            reopen_min_samples: self.reopen_min_samples,
            open_wait: span(self.open_wait),
            open_multiplier: parts(self.open_multiplier, 1_000.0),
            open_jitter: share(self.open_jitter),
            open_cap: span(self.open_cap),
            open_max: span(self.open_max),
            lease: span(self.lease),
            report_interval: span(self.report_interval),
            adopt_for: span(self.adopt_for),
        };
        let config = FleetConfig::new(settings);
        config.map_err(|error| format!("{} is {}, must be {}", error.field, error.value, error.range))
    }
}

fn span(duration: Duration) -> Span {
    Span::from_wide(duration.as_micros())
}

fn share(ratio: f64) -> Share {
    Share::from_basis_points(u16::try_from(parts(ratio, 10_000.0)).unwrap_or(u16::MAX))
}

/// `number` in units of `1 / unit`, to the nearest; below zero becomes zero.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn parts(number: f64, unit: f64) -> u32 {
    (number * unit).round() as u32
}
