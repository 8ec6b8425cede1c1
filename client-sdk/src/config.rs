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
    Breaker(#[from] breaker::ConfigError),
    /// Of a limiter, throttler, budget or queue.
    #[error(transparent)]
    Load(#[from] OutOfRange),
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
    fn rolls_spread_over_their_range() {
        let rolls = Rolls::new(7);
        let high = (0..10_000).filter(|_| rolls.next() > u32::MAX / 2).count();
        assert!((4_800..5_200).contains(&high), "{high}");
    }
}
