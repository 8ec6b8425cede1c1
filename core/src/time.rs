//! Points and lengths of time: whole microseconds, never a float, never a clock read.
//!
//! Both types hold at most `2^53 - 1`, the largest integer that Redis' Lua numbers (IEEE 754 doubles)
//! carry exactly, so that every engine computes with the same values. Arithmetic saturates at both ends.

use std::fmt;
use std::ops::{Add, Sub};

/// Largest number of microseconds that [`Time`] and [`Span`] hold: `2^53 - 1`, about 285 years.
pub const MAX_MICROS: u64 = (1 << 53) - 1;

/// Microseconds since the Unix epoch, `0..=2^53 - 1` (until June 2255).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(u64);

/// A length of time in microseconds, `0..=2^53 - 1` (up to 285 years).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Span(u64);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Time = Time(0);
    /// The last representable instant, in the year 2255.
    pub const MAX: Time = Time(MAX_MICROS);

    /// The instant `micros` microseconds after the epoch; later ones become [`Time::MAX`].
    #[must_use]
    pub const fn from_micros(micros: u64) -> Time {
        Time(if micros > MAX_MICROS { MAX_MICROS } else { micros })
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// The smallest step of time: one microsecond.
    pub const MICRO: Span = Span(1);
    /// One second.
    pub const SECOND: Span = Span(1_000_000);
    /// The longest representable span, about 285 years.
    pub const MAX: Span = Span(MAX_MICROS);

    /// A span of `micros` microseconds; longer ones become [`Span::MAX`].
    #[must_use]
    pub const fn from_micros(micros: u64) -> Span {
        Span(if micros > MAX_MICROS { MAX_MICROS } else { micros })
    }

    /// A span of `micros` microseconds from a wide intermediate result; longer ones become [`Span::MAX`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the value is at most 2^53 - 1 here")]
    pub const fn from_wide(micros: u128) -> Span {
        Span(if micros > MAX_MICROS as u128 { MAX_MICROS } else { micros as u64 })
    }

    /// A span of whole seconds; longer ones become [`Span::MAX`].
    #[must_use]
    pub const fn from_secs(secs: u64) -> Span {
        Span::from_micros(secs.saturating_mul(1_000_000))
    }

    /// A span of whole milliseconds; longer ones become [`Span::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Span {
        Span::from_micros(millis.saturating_mul(1_000))
    }

    /// Microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up: what a person or an HTTP header is told, never too early.
    #[must_use]
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }

    /// Whether this is no time at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Add<Span> for Time {
    type Output = Time;

    /// Later by `span`; saturates at [`Time::MAX`].
    fn add(self, span: Span) -> Time {
        Time::from_micros(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Time {
    type Output = Time;

    /// Earlier by `span`; saturates at [`Time::EPOCH`].
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

impl Sub<Time> for Time {
    type Output = Span;

    /// How long after `earlier` this is; zero if it is not after.
    fn sub(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Span {
    type Output = Span;

    fn add(self, other: Span) -> Span {
        Span::from_micros(self.0.saturating_add(other.0))
    }
}

impl Sub<Span> for Span {
    type Output = Span;

    fn sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Span {
    /// In the largest unit that is exact: `90s`, `15ms`, `7us`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us % 1_000_000 == 0 => write!(f, "{}s", us / 1_000_000),
            us if us % 1_000 == 0 => write!(f, "{}ms", us / 1_000),
            us => write!(f, "{us}us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Time::from_micros(u64::MAX), Time::MAX);
        assert_eq!(Time::MAX + Span::MAX, Time::MAX);
        assert_eq!(Time::EPOCH - Span::MICRO, Time::EPOCH);
        assert_eq!(Time::EPOCH - Time::MAX, Span::ZERO);
        assert_eq!(Span::from_wide(u128::MAX), Span::MAX);
    }

    #[test]
    fn seconds_for_people_round_up() {
        assert_eq!(Span::from_micros(1).as_secs_ceil(), 1);
        assert_eq!(Span::from_secs(3).as_secs_ceil(), 3);
        assert_eq!(Span::ZERO.as_secs_ceil(), 0);
    }

    #[test]
    fn display_picks_the_largest_exact_unit() {
        assert_eq!(Span::from_secs(90).to_string(), "90s");
        assert_eq!(Span::from_micros(15_000).to_string(), "15ms");
        assert_eq!(Span::from_micros(7).to_string(), "7us");
    }
}
