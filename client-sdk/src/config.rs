//! What is wrong with a configuration.

use tollgate_core::breaker;
use tollgate_core::breaker::Ratio;
use tollgate_core::load::OutOfRange;

/// A setting that makes no sense; says which field, what is allowed, what was given.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Of a circuit breaker.
    #[error("circuit breaker: {0}")]
    Breaker(breaker::ConfigError),
    /// Settings of a circuit breaker that do not fit together.
    #[error("circuit breaker: {0}")]
    Combination(&'static str),
    /// Of a limiter, throttler, budget or queue.
    #[error(transparent)]
    Load(OutOfRange),
    /// A value outside of its range.
    #[error("{field} must be {range}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// What is allowed.
        range: &'static str,
        /// What was given.
        value: String,
    },
}

/// What the kernel calls a setting, and what this crate does.
const NAMES: [(&str, &str); 32] = [
    ("failure_rate", "failure_rate_threshold"),
    ("slow.rate", "slow_call_rate_threshold"),
    ("slow.duration", "slow_call_duration"),
    ("consecutive", "consecutive_failures"),
    ("window.size", "sliding_window.size"),
    ("window.buckets", "sliding_window.buckets"),
    ("half_open.permits", "permitted_calls_in_half_open"),
    ("half_open.permit_ttl", "permit_ttl"),
    ("half_open.max_wait", "half_open_max_wait"),
    ("wait.multiplier", "wait_in_open.multiplier"),
    ("wait.cap", "wait_in_open.max"),
    ("recover.start", "recovery.start"),
    ("recover.step", "recovery.step"),
    ("recover.every", "recovery.every"),
    ("at most window.size", "at most sliding_window.size"),
    ("at least wait.base", "at least wait_in_open.base"),
    ("bounds.max", "concurrency.max"),
    ("bounds.min", "concurrency.min"),
    ("bounds.initial", "concurrency.initial"),
    ("window.samples", "concurrency.window: samples"),
    ("queue.capacity", "concurrency.queue"),
    ("queue.target", "concurrency.codel: target"),
    ("queue.interval", "concurrency.codel: interval"),
    ("backoff.attempts", "retry.max_attempts"),
    ("backoff.initial", "retry.initial"),
    ("backoff.factor", "retry.factor"),
    ("backoff.max", "retry.max_delay"),
    ("budget.ratio", "retry_budget.percent"),
    ("budget.min_rps", "retry_budget.min_per_second"),
    ("throttle.min_rps", "throttle.min_per_second"),
    ("shed.queuing", "load_shed.overloaded_above"),
    ("shed.window", "load_shed.window"),
];

fn named(core: &'static str) -> &'static str {
    NAMES.iter().find(|(name, _)| *name == core).map_or(core, |(_, own)| own)
}

impl From<breaker::ConfigError> for ConfigError {
    fn from(error: breaker::ConfigError) -> ConfigError {
        use breaker::ConfigError as Core;
        match error {
            Core::Range { field, range, value } => {
                let field = if field == "window.length" { "sliding_window.length" } else { named(field) };
                ConfigError::Breaker(Core::Range { field, range: named(range), value })
            }
            Core::NoRule => ConfigError::Combination(
                "one of failure_rate_threshold, consecutive_failures and slow_call_duration must be given",
            ),
            Core::Overdue => ConfigError::Combination("overdue needs slow_call_duration, of at least 1ms"),
            other => ConfigError::Breaker(other),
        }
    }
}

impl From<OutOfRange> for ConfigError {
    fn from(error: OutOfRange) -> ConfigError {
        let OutOfRange { field, value, range } = error;
        let field = if field == "window.length" { "concurrency.window: length" } else { named(field) };
        ConfigError::Load(OutOfRange { field, value, range })
    }
}

impl ConfigError {
    pub(crate) fn range(field: &'static str, range: &'static str, value: &impl ToString) -> ConfigError {
        ConfigError::Range { field, range, value: value.to_string() }
    }
}

/// A random number that differs between processes and calls: seeds what must not march in step.
pub(crate) fn seed() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(0_u8)
}

/// Many threads' source of random numbers (splitmix64 over a shared counter; Steele et al., 2014).
#[derive(Debug)]
pub(crate) struct Rolls(std::sync::atomic::AtomicU64);

impl Rolls {
    pub(crate) const fn new(seed: u64) -> Rolls {
        Rolls(std::sync::atomic::AtomicU64::new(seed))
    }

    /// Uniform over all `u32`.
    pub(crate) fn next(&self) -> u32 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::Relaxed);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX)
    }
}

/// Durations in configuration files: `"250ms"`, `"5s"`, `"2m"`, `"1h"`, `"100us"`.
pub(crate) mod text {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Units, the largest first, in microseconds.
    const UNITS: [(&str, u64); 5] =
        [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

    pub(crate) fn parse(text: &str) -> Option<Duration> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit)?;
        Some(Duration::from_micros(number.parse::<u64>().ok()?.checked_mul(*micros)?))
    }

    pub(crate) fn print(duration: Duration) -> String {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let exact = UNITS.iter().find(|(_, unit)| micros % unit == 0 && micros > 0);
        exact.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", micros / unit))
    }

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&print(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format_args!(
                "a duration is a whole number with h, m, s, ms or us, not {text:?}"
            ))
        })
    }

    /// The same for durations that may be absent.
    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, Duration, Error, Serializer, parse, print};

        #[expect(clippy::ref_option, reason = "serde's signature")]
        pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(duration) => to.serialize_some(&print(*duration)),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            let parsed = |text: String| {
                parse(&text)
                    .ok_or_else(|| D::Error::custom(format_args!("{text:?} is no duration, like 250ms")))
            };
            text.map(parsed).transpose()
        }
    }
}

/// Largest denominator that a threshold is read as: 2/3 is two thirds, not 0.666667.
const MAX_DENOMINATOR: u32 = 1_000;

/// The fraction with a small denominator that `value` stands for, else millionths.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=1_000_000 was checked")]
pub(crate) fn ratio(field: &'static str, value: f64) -> Result<Ratio, ConfigError> {
    if !(0.0..=1.0).contains(&value) {
        return Err(ConfigError::range(field, "in 0.0..=1.0", &value));
    }
    let exact = |den: &u32| {
        let scaled = value * f64::from(*den);
        (scaled - scaled.round()).abs() < 1e-9
    };
    let den = (1..=MAX_DENOMINATOR).find(exact).unwrap_or(1_000_000);
    Ok(Ratio::new((value * f64::from(den)).round() as u32, den)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_are_read_and_printed() {
        for (text, duration) in [("250ms", Duration::from_millis(250)), ("2m", Duration::from_secs(120))] {
            assert_eq!(text::parse(text), Some(duration));
            assert_eq!(text::print(duration), text);
        }
        for text in ["", "5", "s", "1.5s", "5 s", "99999999999999999999h", "-1s"] {
            assert_eq!(text::parse(text), None, "{text}");
        }
    }

    #[test]
    fn settings_have_the_names_that_they_are_set_by() {
        use crate::{CircuitBreaker, ConcurrencyLimiter, LoadShed, Retry, RetryBudget, SlidingWindow, Wait};
        let ms = Duration::from_millis;
        let breaker = || CircuitBreaker::builder("b");
        let limit = || ConcurrencyLimiter::gradient2();
        let none = breaker().config(crate::CircuitBreakerConfig {
            failure_rate_threshold: None,
            consecutive_failures: None,
            ..crate::CircuitBreakerConfig::default()
        });
        let shed = LoadShed::builder(limit().build().unwrap()).overloaded_above(Duration::ZERO);
        let errors = [
            breaker().failure_rate_threshold(0.0).build().unwrap_err(),
            breaker().consecutive_failures(0).build().unwrap_err(),
            breaker().slow_call(Duration::ZERO, 0.5).build().unwrap_err(),
            breaker().slow_call(ms(5), 0.0).build().unwrap_err(),
            breaker().permitted_calls_in_half_open(0).build().unwrap_err(),
            breaker().sliding_window(SlidingWindow::count(0)).build().unwrap_err(),
            breaker().sliding_window(SlidingWindow::count(5)).build().unwrap_err(),
            breaker().sliding_window(SlidingWindow::time(Duration::ZERO)).build().unwrap_err(),
            breaker().wait_in_open(Wait::constant(ms(9)).max(ms(1))).build().unwrap_err(),
            breaker().overdue().build().unwrap_err(),
            none.build().unwrap_err(),
            limit().max(0).build().unwrap_err(),
            limit().window(Duration::ZERO, 10).build().unwrap_err(),
            limit().codel(Duration::ZERO, ms(100)).build().unwrap_err(),
            shed.build().unwrap_err(),
            Retry::exponential(ms(1)).factor(11.0).build().unwrap_err(),
            RetryBudget::percent(1_001).build().unwrap_err(),
        ];
        let texts = errors.map(|error| error.to_string());
        let begin = [
            "circuit breaker: failure_rate_threshold must be above 0",
            "circuit breaker: consecutive_failures must be at least 1",
            "circuit breaker: slow_call_duration must be above 0",
            "circuit breaker: slow_call_rate_threshold must be above 0",
            "circuit breaker: permitted_calls_in_half_open must be 1..=8191",
            "circuit breaker: sliding_window.size must be 1..=65535",
            "circuit breaker: minimum_calls must be at most sliding_window.size",
            "circuit breaker: sliding_window.length must be at least 1ms per bucket",
            "circuit breaker: wait_in_open.max must be at least wait_in_open.base",
            "circuit breaker: overdue needs slow_call_duration",
            "circuit breaker: one of failure_rate_threshold",
            "concurrency.max 0 is out of range",
            "concurrency.window: length 0s is out of range",
            "concurrency.codel: target 0s is out of range",
            "load_shed.overloaded_above 0s is out of range",
            "retry.factor 11 is out of range",
            "retry_budget.percent must be 0 to 1000, not 1001",
        ];
        for (text, begin) in texts.iter().zip(begin) {
            assert!(text.starts_with(begin), "{text:?} does not begin with {begin:?}");
        }
    }

    #[test]
    fn rolls_spread_over_their_range() {
        let rolls = Rolls::new(7);
        let high = (0..10_000).filter(|_| rolls.next() > u32::MAX / 2).count();
        assert!((4_800..5_200).contains(&high), "{high}");
    }
}
