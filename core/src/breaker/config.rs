//! How a breaker is set up, and what is refused.

use thiserror::Error;

use super::Mode;
use crate::time::Span;

/// Why a configuration is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ConfigError {
    /// A number is out of its range.
    #[error("{field} must be {range}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// What is allowed.
        range: &'static str,
        /// What was given.
        value: String,
    },
    /// Nothing would ever open the breaker.
    #[error("one of failure_rate, failures, slow and consecutive must be given")]
    NoRule,
    /// The probes could not be judged.
    #[error("half_open.verdict: rates need failure_rate or slow; give the successes needed instead")]
    NoVerdict,
    /// Hung calls are found by the slow duration.
    #[error("overdue needs slow, with a duration of at least 1ms")]
    Overdue,
    /// A breaker starts closed, or in a mode set by hand.
    #[error("initial must be Closed, ForcedOpen, Disabled or MetricsOnly, not {0:?}")]
    Initial(Mode),
}

fn range(field: &'static str, range: &'static str, value: &impl std::fmt::Display) -> ConfigError {
    ConfigError::Range { field, range, value: value.to_string() }
}

fn within(
    ok: bool,
    field: &'static str,
    allowed: &'static str,
    value: impl std::fmt::Display,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(range(field, allowed, &value)) }
}

/// An exact fraction in `0..=1`: two thirds are two thirds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ratio {
    num: u32,
    den: u32,
}

impl Ratio {
    /// One half.
    pub const HALF: Ratio = Ratio { num: 1, den: 2 };

    /// `num / den`, with `num <= den` and `den >= 1`.
    ///
    /// # Errors
    /// [`ConfigError::Range`] for any other fraction.
    pub fn new(num: u32, den: u32) -> Result<Ratio, ConfigError> {
        within(den > 0 && num <= den, "ratio", "a fraction in 0..=1", format_args!("{num}/{den}"))?;
        Ok(Ratio { num, den })
    }

    /// `percent` hundredths, `0..=100`.
    ///
    /// # Errors
    /// [`ConfigError::Range`] above 100.
    pub fn percent(percent: u32) -> Result<Ratio, ConfigError> {
        Ratio::new(percent, 100)
    }

    /// Whether `part` of `total` is this share or more, without rounding.
    #[must_use]
    pub const fn reached(self, part: u64, total: u64) -> bool {
        part as u128 * self.den as u128 >= self.num as u128 * total as u128
    }

    /// The part above the line.
    #[must_use]
    pub const fn numerator(self) -> u32 {
        self.num
    }

    /// The part below the line.
    #[must_use]
    pub const fn denominator(self) -> u32 {
        self.den
    }
}

/// When calls are slow, and how many of them are too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slow {
    /// A call is slow if it took longer than this (equal is not slow); above zero.
    pub duration: Span,
    /// Opens at this share of slow calls or more; above zero.
    pub rate: Ratio,
}

/// Which outcomes are judged together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WindowKind {
    /// The last `size` outcomes, `1..=65_535`.
    Count {
        /// How many.
        size: u32,
    },
    /// The outcomes of the last `length`, forgotten bucket by bucket.
    Time {
        /// At most one day; a multiple of `buckets` microseconds, with buckets of at least 1 ms.
        length: Span,
        /// `1..=64`.
        buckets: u32,
    },
}

/// What the probes of HALF_OPEN have to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// `failure_rate` and `slow` of the breaker, over the first `minimum` counted outcomes (all permits if
    /// `None`); `1..=permits`.
    Rates {
        /// How many outcomes are needed.
        minimum: Option<u32>,
    },
    /// Closes after `needed` successes, opens as soon as they cannot be reached; `1..=permits`.
    Successes {
        /// How many of the permits have to succeed.
        needed: u32,
    },
}

/// Where a HALF_OPEN without a verdict goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnMaxWait {
    /// Back to OPEN, with the wait that it had: nothing was learnt.
    Open,
    /// To CLOSED.
    Closed,
}

/// How the breaker tries the target again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HalfOpen {
    /// Probes, `1..=8_191`.
    pub permits: u32,
    /// What they have to show.
    pub verdict: Verdict,
    /// How long HALF_OPEN lasts at most without a verdict; `None` for ever.
    pub max_wait: Option<Span>,
    /// Where it goes then.
    pub on_max_wait: OnMaxWait,
    /// A permit without an outcome is given to somebody else after this; above zero.
    pub permit_ttl: Span,
    /// Decide by rates as soon as the outcomes that are missing cannot change the verdict.
    pub early_verdict: bool,
}

/// How the memory of earlier openings fades.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Forget {
    /// By one for every full window in CLOSED, so that a flapping target keeps a long wait (as the ejection
    /// multiplier of Envoy's outlier detection).
    PerWindow,
    /// At once when the breaker closes (as resilience4j and Polly do).
    OnClose,
}

/// How long OPEN lasts: `min(cap, base * multiplier^(n - 1))`, spread evenly over `1 - jitter ..= 1 + jitter`
/// of that, for the n-th opening in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wait {
    /// The first wait; zero means that the next call is a probe.
    pub base: Span,
    /// In thousandths, `1_000..=10_000`.
    pub multiplier: u32,
    /// Half the width of the spread.
    pub jitter: Ratio,
    /// Longest wait before the spread; not below `base`.
    pub cap: Span,
    /// How `n` falls.
    pub forget: Forget,
}

/// A ramp between HALF_OPEN and CLOSED.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recovery {
    /// Share of the calls that passes first, in percent, `1..=99`.
    pub start: u32,
    /// Percentage points that are added, `1..=100`.
    pub step: u32,
    /// How often; above zero.
    pub every: Span,
}

/// Which outcomes are judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EvaluateOn {
    /// All of them: also a success opens the breaker if it completes the minimum (as in resilience4j).
    Every,
    /// Failures and slow calls: a quick success never opens it (as in Polly).
    Failure,
}

/// How a breaker works. [`Config::default`] opens at 50 % of at least 20 calls in 10 seconds or at 10
/// failures in a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Opens at this share of failures or more, of at least `minimum_calls`; above zero.
    pub failure_rate: Option<Ratio>,
    /// Opens at this number of failures in the window, whatever the minimum; above zero.
    pub failures: Option<u32>,
    /// Opens at a share of slow calls, of at least `minimum_calls`.
    pub slow: Option<Slow>,
    /// Opens at this number of failures in a row; above zero.
    pub consecutive: Option<u32>,
    /// Which outcomes the shares are of.
    pub window: WindowKind,
    /// Calls in the window below which no share is judged; `1..=size` of a count window.
    pub minimum_calls: u32,
    /// How the target is tried again.
    pub half_open: HalfOpen,
    /// How long OPEN lasts.
    pub wait: Wait,
    /// Longest wait that a hint of the target may ask for.
    pub hint_cap: Span,
    /// A ramp before CLOSED; `None` closes at once.
    pub recover: Option<Recovery>,
    /// Count calls in flight for longer than the slow duration as slow. Costs two shared writes per call.
    pub overdue: bool,
    /// Add up how long calls take. Costs a short lock per call.
    pub durations: bool,
    /// Which outcomes are judged.
    pub evaluate_on: EvaluateOn,
    /// Go to HALF_OPEN when the wait is over (as seen by the next [`mode`](super::Breaker::mode)) rather than
    /// with the next call.
    pub automatic_half_open: bool,
    /// The mode to start in: CLOSED, or one that is set by hand.
    pub initial: Mode,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            failure_rate: Some(Ratio::HALF),
            failures: None,
            slow: None,
            consecutive: Some(10),
            window: WindowKind::Time { length: Span::from_secs(10), buckets: 10 },
            minimum_calls: 20,
            half_open: HalfOpen::default(),
            wait: Wait::default(),
            hint_cap: Span::from_secs(300),
            recover: None,
            overdue: false,
            durations: false,
            evaluate_on: EvaluateOn::Every,
            automatic_half_open: false,
            initial: Mode::Closed,
        }
    }
}

impl Default for HalfOpen {
    /// Five probes, judged by the rates, for at most 30 seconds.
    fn default() -> HalfOpen {
        HalfOpen {
            permits: 5,
            verdict: Verdict::Rates { minimum: None },
            max_wait: Some(Span::from_secs(30)),
            on_max_wait: OnMaxWait::Open,
            permit_ttl: Span::from_secs(10),
            early_verdict: true,
        }
    }
}

impl Default for Wait {
    /// Five seconds, half as much again each time, at most a minute, give or take a half.
    fn default() -> Wait {
        Wait {
            base: Span::from_secs(5),
            multiplier: 1_500,
            jitter: Ratio::HALF,
            cap: Span::from_secs(60),
            forget: Forget::PerWindow,
        }
    }
}

impl Config {
    /// What is wrong with this configuration, if anything is.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the first bad field.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_rules()?;
        self.check_window()?;
        self.half_open.check(self.failure_rate.is_some() || self.slow.is_some())?;
        self.wait.check()?;
        if let Some(recovery) = &self.recover {
            recovery.check()?;
        }
        match self.initial {
            Mode::Closed | Mode::ForcedOpen | Mode::Disabled | Mode::MetricsOnly => Ok(()),
            other => Err(ConfigError::Initial(other)),
        }
    }

    fn check_rules(&self) -> Result<(), ConfigError> {
        if let Some(rate) = self.failure_rate {
            within(rate.num > 0, "failure_rate", "above 0", rate.num)?;
        }
        if let Some(slow) = self.slow {
            within(slow.rate.num > 0, "slow.rate", "above 0", slow.rate.num)?;
            within(!slow.duration.is_zero(), "slow.duration", "above 0", slow.duration)?;
        }
        within(self.failures != Some(0), "failures", "at least 1", 0)?;
        within(self.consecutive != Some(0), "consecutive", "at least 1", 0)?;
        if self.overdue && self.slow.is_none_or(|slow| slow.duration < Span::from_millis(1)) {
            return Err(ConfigError::Overdue);
        }
        let ruled = self.failure_rate.is_some() || self.slow.is_some() || self.failures.is_some();
        if ruled || self.consecutive.is_some() { Ok(()) } else { Err(ConfigError::NoRule) }
    }

    fn check_window(&self) -> Result<(), ConfigError> {
        let minimum = self.minimum_calls;
        within(minimum > 0, "minimum_calls", "at least 1", minimum)?;
        match self.window {
            WindowKind::Count { size } => {
                within((1..=65_535).contains(&size), "window.size", "1..=65535", size)?;
                let judged = self.failure_rate.is_some() || self.slow.is_some();
                within(!judged || minimum <= size, "minimum_calls", "at most window.size", minimum)
            }
            WindowKind::Time { length, buckets } => {
                within((1..=64).contains(&buckets), "window.buckets", "1..=64", buckets)?;
                within(length <= Span::from_secs(86_400), "window.length", "at most a day", length)?;
                let (micros, buckets) = (length.as_micros(), u64::from(buckets));
                within(micros >= 1_000 * buckets, "window.length", "at least 1ms per bucket", length)?;
                within(micros % buckets == 0, "window.length", "a multiple of buckets microseconds", length)
            }
        }
    }
}

impl HalfOpen {
    fn check(&self, rates: bool) -> Result<(), ConfigError> {
        let permits = self.permits;
        within((1..=8_191).contains(&permits), "half_open.permits", "1..=8191", permits)?;
        within(!self.permit_ttl.is_zero(), "half_open.permit_ttl", "above 0", self.permit_ttl)?;
        if let Some(wait) = self.max_wait {
            within(!wait.is_zero(), "half_open.max_wait", "above 0", wait)?;
        }
        match self.verdict {
            Verdict::Rates { .. } if !rates => Err(ConfigError::NoVerdict),
            Verdict::Rates { minimum: None } => Ok(()),
            Verdict::Rates { minimum: Some(n) } => {
                within((1..=permits).contains(&n), "half_open.verdict.minimum", "1..=permits", n)
            }
            Verdict::Successes { needed: n } => {
                within((1..=permits).contains(&n), "half_open.verdict.needed", "1..=permits", n)
            }
        }
    }
}

impl Wait {
    fn check(&self) -> Result<(), ConfigError> {
        let multiplier = self.multiplier;
        within((1_000..=10_000).contains(&multiplier), "wait.multiplier", "1000..=10000", multiplier)?;
        within(self.cap >= self.base, "wait.cap", "at least wait.base", self.cap)
    }
}

impl Recovery {
    fn check(&self) -> Result<(), ConfigError> {
        within((1..=99).contains(&self.start), "recover.start", "1..=99", self.start)?;
        within((1..=100).contains(&self.step), "recover.step", "1..=100", self.step)?;
        within(!self.every.is_zero(), "recover.every", "above 0", self.every)
    }
}
