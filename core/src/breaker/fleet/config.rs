//! What can be set for a fleet circuit, and within which ranges.

use std::fmt::Display;

use super::Share;
use crate::time::Span;

/// What a circuit does with its verdicts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum FleetMode {
    /// It tells what it would do; calls are never refused.
    #[default]
    MetricsOnly,
    /// It opens, probes, and ramps traffic back.
    Enforce,
}

/// The settings of a fleet circuit. [`FleetConfig::new`] checks them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FleetSettings {
    /// What verdicts do. Default: metrics only.
    pub mode: FleetMode,
    /// Told in every directive, so that a rolling change can be followed. Any value.
    pub version: u64,
    /// The long window, 1 s to 10 min. Default 10 s.
    pub window: Span,
    /// The short window, 200 ms up to the long one. Default 2 s.
    pub short_window: Span,
    /// Outcomes in a window below which no verdict falls, 1 to 1 000 000. Default 100.
    pub min_volume: u64,
    /// Failures that open the circuit over the long window, above 0 %. Default 50 %.
    pub failure_rate: Share,
    /// Failures that open the circuit over the short window, above 0 %. Default 80 %.
    pub short_failure_rate: Share,
    /// From so many outcomes in the short window on, `failure_rate` is enough there too, if the last quarter
    /// of it is no better; 1 to 1 000 000. Default 200.
    pub short_volume: u64,
    /// Slow calls that open the circuit over the long window, above 0 %; needs `slow_after`. Over the short
    /// window it takes at least `short_failure_rate` of them. Default: none do.
    pub slow_rate: Option<Share>,
    /// Calls longer than this are slow, 1 us to 1 h. Default: three times the median that the target had
    /// before the outage, but at least `slow_floor`.
    pub slow_after: Option<Span>,
    /// A call within this is never slow by the learned median, up to 1 h. Default 100 ms.
    pub slow_floor: Span,
    /// Least distinct reporters that must see the failures, 1 to 1 000. Default 3.
    pub quorum_min: u32,
    /// Least share of the active reporters that must see them. Default 20 %.
    pub quorum_share: Share,
    /// With fewer active reporters than this the plain rate decides, without quorum and weights,
    /// 1 to 1 000. Default 5.
    pub plain_below: u32,
    /// Largest weight of one reporter, above 0 %; never less than an equal share. Default 20 %.
    pub weight_cap: Share,
    /// Probes for the whole fleet in one round, 1 to 1 000. Default 10.
    pub probes: u32,
    /// Bad probes in a round that open the circuit again, above 0 %. Default 30 %.
    pub probe_failure_rate: Share,
    /// How long one call may take, 1 ms to 10 min. Default 1 s.
    pub attempt_timeout: Span,
    /// How long a permit may wait for a call, 10 ms to 10 min. Default 2 s. A permit that nobody reported
    /// within `attempt_timeout + permit_grace` goes to somebody else.
    pub permit_grace: Span,
    /// A round without a verdict ends after this, 1 s to 1 h. Default 60 s.
    pub half_open_max: Span,
    /// Share that passes first after an outage, above 0 %. Default 5 %.
    pub ramp_start: Share,
    /// What a good step adds at first, above 0 %. Default 5 percentage points.
    pub ramp_step: Share,
    /// Growth of the step with each clean one, in thousandths, 1 000 (none) to 4 000. Default 2 000. A step is
    /// clean if less than half of `ramp_bad` was bad and most calls took no longer than 1.25 times the median
    /// before the outage; any other takes the growth back.
    pub ramp_growth: u32,
    /// Length of a step, 50 ms to 10 min. Default 500 ms.
    pub ramp_every: Span,
    /// Bad calls (failed or slow) in a step that shrink the share, above 0 %. Default 10 %.
    pub ramp_bad: Share,
    /// What is kept of the share after a bad step, 1 % to 99 %. Default 80 %.
    pub ramp_keep: Share,
    /// Outcomes in a step below which it is not judged, 1 to 1 000 000. Default 20.
    pub ramp_min_samples: u64,
    /// Failures that open the circuit again during the ramp, above 0 %. Default 50 %.
    pub reopen_rate: Share,
    /// Outcomes below which it is not opened again, 1 to 1 000 000. Default 50.
    pub reopen_min_samples: u64,
    /// First wait, 10 ms up to the cap. Default 2 s.
    pub open_wait: Span,
    /// Growth of the wait from one opening to the next, in thousandths, 1 000 to 10 000. Default 1 500.
    pub open_multiplier: u32,
    /// The wait is drawn within plus or minus this share, up to 90 %. Default 20 %.
    pub open_jitter: Share,
    /// Longest wait before jitter, up to `open_max`. Default 3 s: a round costs the fleet no more than `probes` calls.
    pub open_cap: Span,
    /// Longest time without a probe, even if the target hints at more, 10 ms to 1 h. Default 60 s.
    pub open_max: Span,
    /// How long a directive holds, 1 s to 1 h. Default 10 s.
    pub lease: Span,
    /// How often an instance reports when all is well, 100 ms up to a third of the lease. Default 1 s.
    pub report_interval: Span,
    /// How long a new owner listens before it speaks, up to half the lease. Default 1.5 s.
    pub adopt_for: Span,
    /// Reporters remembered per circuit, 8 to 65 536. Default 4 096.
    pub max_reporters: usize,
}

impl Default for FleetSettings {
    fn default() -> FleetSettings {
        FleetSettings {
            mode: FleetMode::MetricsOnly,
            version: 0,
            window: Span::from_secs(10),
            short_window: Span::from_secs(2),
            min_volume: 100,
            failure_rate: Share::percent(50),
            short_failure_rate: Share::percent(80),
            short_volume: 200,
            slow_rate: None,
            slow_after: None,
            slow_floor: Span::from_millis(100),
            quorum_min: 3,
            quorum_share: Share::percent(20),
            plain_below: 5,
            weight_cap: Share::percent(20),
            probes: 10,
            probe_failure_rate: Share::percent(30),
            attempt_timeout: Span::SECOND,
            permit_grace: Span::from_secs(2),
            half_open_max: Span::from_secs(60),
            ramp_start: Share::percent(5),
            ramp_step: Share::percent(5),
            ramp_growth: 2_000,
            ramp_every: Span::from_millis(500),
            ramp_bad: Share::percent(10),
            ramp_keep: Share::percent(80),
            ramp_min_samples: 20,
            reopen_rate: Share::percent(50),
            reopen_min_samples: 50,
            open_wait: Span::from_secs(2),
            open_multiplier: 1_500,
            open_jitter: Share::percent(20),
            open_cap: Span::from_secs(3),
            open_max: Span::from_secs(60),
            lease: Span::from_secs(10),
            report_interval: Span::SECOND,
            adopt_for: Span::from_millis(1_500),
            max_reporters: 4_096,
        }
    }
}

/// A setting out of its range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("fleet breaker: {field} is {value}, must be {range}")]
pub struct FleetConfigError {
    /// Which setting.
    pub field: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub range: String,
}

/// Checked settings of a fleet circuit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FleetConfig(FleetSettings);

impl FleetConfig {
    /// Checks `settings`.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn new(settings: FleetSettings) -> Result<FleetConfig, FleetConfigError> {
        check_windows(&settings)?;
        check_quorum(&settings)?;
        check_probes(&settings)?;
        check_ramp(&settings)?;
        check_waits(&settings)?;
        Ok(FleetConfig(settings))
    }

    /// What was checked.
    #[must_use]
    pub const fn settings(&self) -> &FleetSettings {
        &self.0
    }

    /// Longest life of a permit: the wait for a call, and the call.
    pub(crate) fn permit_life(&self) -> Span {
        self.0.attempt_timeout + self.0.permit_grace
    }

    /// Bad probes in a round that open the circuit again, at least one.
    pub(crate) fn probes_to_fail(&self) -> u32 {
        let wide = u64::from(self.0.probes) * u64::from(self.0.probe_failure_rate.basis_points());
        u32::try_from(wide.div_ceil(10_000)).unwrap_or(u32::MAX).max(1)
    }
}

const HOUR: Span = Span::from_secs(3_600);
const TEN_MINUTES: Span = Span::from_secs(600);

/// `value` must lie within `least..=most`.
fn within<T: Copy + Ord + Display>(
    field: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), FleetConfigError> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(FleetConfigError { field, value: value.to_string(), range: format!("{least} to {most}") })
}

/// `share` must lie within whole percents.
fn share(field: &'static str, share: Share, least: u16, most: u16) -> Result<(), FleetConfigError> {
    if share >= Share::from_basis_points(least) && share <= Share::from_basis_points(most) {
        return Ok(());
    }
    let percent = |points: u16| format!("{}.{:02} %", points / 100, points % 100);
    Err(FleetConfigError {
        field,
        value: percent(share.basis_points()),
        range: format!("{} to {}", percent(least), percent(most)),
    })
}

fn check_windows(s: &FleetSettings) -> Result<(), FleetConfigError> {
    within("window", s.window, Span::SECOND, TEN_MINUTES)?;
    within("short_window", s.short_window, Span::from_millis(200), s.window)?;
    within("min_volume", s.min_volume, 1, 1_000_000)?;
    share("failure_rate", s.failure_rate, 1, 10_000)?;
    share("short_failure_rate", s.short_failure_rate, 1, 10_000)?;
    within("short_volume", s.short_volume, 1, 1_000_000)?;
    if let Some(slow_after) = s.slow_after {
        within("slow_after", slow_after, Span::MICRO, HOUR)?;
    }
    if let Some(rate) = s.slow_rate {
        share("slow_rate", rate, 1, 10_000)?;
        if s.slow_after.is_none() {
            let range = "set only together with slow_after".to_owned();
            return Err(FleetConfigError { field: "slow_rate", value: "set alone".to_owned(), range });
        }
    }
    within("slow_floor", s.slow_floor, Span::ZERO, HOUR)
}

fn check_quorum(s: &FleetSettings) -> Result<(), FleetConfigError> {
    within("quorum_min", s.quorum_min, 1, 1_000)?;
    within("plain_below", s.plain_below, 1, 1_000)?;
    share("quorum_share", s.quorum_share, 0, 10_000)?;
    share("weight_cap", s.weight_cap, 1, 10_000)?;
    within("max_reporters", s.max_reporters, 8, 65_536)
}

fn check_probes(s: &FleetSettings) -> Result<(), FleetConfigError> {
    within("probes", s.probes, 1, 1_000)?;
    share("probe_failure_rate", s.probe_failure_rate, 1, 10_000)?;
    within("attempt_timeout", s.attempt_timeout, Span::from_millis(1), TEN_MINUTES)?;
    within("permit_grace", s.permit_grace, Span::from_millis(10), TEN_MINUTES)?;
    within("half_open_max", s.half_open_max, Span::SECOND, HOUR)
}

fn check_ramp(s: &FleetSettings) -> Result<(), FleetConfigError> {
    share("ramp_start", s.ramp_start, 1, 10_000)?;
    share("ramp_step", s.ramp_step, 1, 10_000)?;
    within("ramp_growth", s.ramp_growth, 1_000, 4_000)?;
    within("ramp_every", s.ramp_every, Span::from_millis(50), TEN_MINUTES)?;
    share("ramp_bad", s.ramp_bad, 1, 10_000)?;
    share("ramp_keep", s.ramp_keep, 100, 9_900)?;
    within("ramp_min_samples", s.ramp_min_samples, 1, 1_000_000)?;
    share("reopen_rate", s.reopen_rate, 1, 10_000)?;
    within("reopen_min_samples", s.reopen_min_samples, 1, 1_000_000)
}

fn check_waits(s: &FleetSettings) -> Result<(), FleetConfigError> {
    within("open_max", s.open_max, Span::from_millis(10), HOUR)?;
    within("open_cap", s.open_cap, Span::from_millis(10), s.open_max)?;
    within("open_wait", s.open_wait, Span::from_millis(10), s.open_cap)?;
    within("open_multiplier", s.open_multiplier, 1_000, 10_000)?;
    share("open_jitter", s.open_jitter, 0, 9_000)?;
    within("lease", s.lease, Span::SECOND, HOUR)?;
    let third = Span::from_micros(s.lease.as_micros() / 3);
    within("report_interval", s.report_interval, Span::from_millis(100), third)?;
    let half = Span::from_micros(s.lease.as_micros() / 2);
    within("adopt_for", s.adopt_for, Span::ZERO, half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut FleetSettings)) -> String {
        let mut settings = FleetSettings::default();
        change(&mut settings);
        FleetConfig::new(settings).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_within_their_ranges() {
        assert_eq!(FleetConfig::new(FleetSettings::default()), Ok(FleetConfig::default()));
    }

    #[test]
    fn an_error_names_the_field_its_value_and_its_range() {
        assert_eq!(
            refused(|s| s.window = Span::from_millis(1)),
            "fleet breaker: window is 1ms, must be 1s to 600s"
        );
        assert_eq!(
            refused(|s| s.ramp_keep = Share::ALL),
            "fleet breaker: ramp_keep is 100.00 %, must be 1.00 % to 99.00 %"
        );
        assert_eq!(refused(|s| s.probes = 0), "fleet breaker: probes is 0, must be 1 to 1000");
    }

    #[test]
    fn settings_that_depend_on_each_other_are_checked_together() {
        assert!(refused(|s| s.short_window = Span::from_secs(11)).contains("short_window is 11s"));
        assert!(refused(|s| s.open_wait = Span::from_secs(31)).contains("open_wait is 31s"));
        assert!(refused(|s| s.report_interval = Span::from_secs(4)).contains("report_interval is 4s"));
        assert!(refused(|s| s.slow_rate = Some(Share::ALL)).contains("together with slow_after"));
    }

    #[test]
    fn thirty_percent_of_ten_probes_are_three_and_one_probe_needs_one() {
        assert_eq!(FleetConfig::default().probes_to_fail(), 3);
        let one = FleetSettings { probes: 1, ..FleetSettings::default() };
        assert_eq!(FleetConfig::new(one).unwrap().probes_to_fail(), 1);
    }
}
