//! Deadlines that travel with a call.

use std::fmt::Write as _;

use crate::time::{Span, Time};

/// What the way back takes: an inbound deadline ends this much earlier here. 5 ms.
pub const MARGIN: Span = Span::from_millis(5);
/// Timeouts of callers who gave less time than this are no fault of the callee: a sensible least. 10 ms.
pub const MIN_ATTRIBUTABLE: Span = Span::from_millis(10);

/// The largest number that eight digits hold.
const MAX_DIGITS: u64 = 99_999_999;

/// The span of a `grpc-timeout` header: one to eight digits and a unit of `H M S m u n`; nanoseconds are
/// rounded down, never later than the caller said. `None` for anything else.
#[must_use]
pub fn parse_timeout(text: &str) -> Option<Span> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let legal = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| legal)?;
    Some(match unit {
        "H" => Span::from_secs(number * 3_600),
        "M" => Span::from_secs(number * 60),
        "S" => Span::from_secs(number),
        "m" => Span::from_millis(number),
        "u" => Span::from_micros(number),
        "n" => Span::from_micros(number / 1_000),
        _ => return None,
    })
}

/// `span` as the value of a `grpc-timeout` header: exact if eight digits of some unit hold it, else rounded
/// up in the finest unit that does.
#[must_use]
pub fn format_timeout(span: Span) -> String {
    const UNITS: [(u64, char); 5] =
        [(1, 'u'), (1_000, 'm'), (1_000_000, 'S'), (60_000_000, 'M'), (3_600_000_000, 'H')];
    let micros = span.as_micros();
    let fits = |(unit, _): &(u64, char)| micros.div_ceil(*unit) <= MAX_DIGITS;
    let exact = |(unit, _): &(u64, char)| micros.is_multiple_of(*unit);
    let found =
        UNITS.iter().find(|unit| fits(unit) && exact(unit)).or_else(|| UNITS.iter().find(|unit| fits(unit)));
    // 285 years, the longest span, are 2 502 000 hours
    let (unit, letter) = found.copied().unwrap_or(UNITS[4]);
    let mut text = String::with_capacity(9);
    // writing into a string cannot fail
    let _ = write!(text, "{}{letter}", micros.div_ceil(unit));
    text
}

/// Until when an answer is of use, and since when it has been asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadline {
    start: Time,
    /// [`Time::MAX`] is never.
    end: Time,
}

impl Deadline {
    /// No deadline, for a call that starts at `now`.
    #[must_use]
    pub const fn none(now: Time) -> Deadline {
        Deadline { start: now, end: Time::MAX }
    }

    /// `timeout` after `now`.
    #[must_use]
    pub fn after(now: Time, timeout: Span) -> Deadline {
        Deadline { start: now, end: now + timeout }
    }

    /// That of an inbound call with this `timeout`, less `margin` for the way back; of a timeout shorter than
    /// two margins, half.
    #[must_use]
    pub fn inbound(now: Time, timeout: Span, margin: Span) -> Deadline {
        let half = Span::from_micros(timeout.as_micros() / 2);
        Deadline::after(now, timeout - margin.min(half))
    }

    /// The earlier of this and `timeout` after `now`, for a call that starts at `now`.
    #[must_use]
    pub fn tightened(self, now: Time, timeout: Span) -> Deadline {
        Deadline { start: now, end: self.end.min(now + timeout) }
    }

    /// What is left at `now`: zero when it has passed, `None` if there is no deadline.
    #[must_use]
    pub fn remaining(self, now: Time) -> Option<Span> {
        (self.end < Time::MAX).then(|| self.end - now)
    }

    /// Whether it has passed at `now`.
    #[must_use]
    pub fn is_over(self, now: Time) -> bool {
        self.end < Time::MAX && now >= self.end
    }

    /// Whether work that takes `span` from `now` on would be done in time.
    #[must_use]
    pub fn allows(self, now: Time, span: Span) -> bool {
        self.remaining(now).is_none_or(|left| !left.is_zero() && span <= left)
    }

    /// Whether a timeout of this call says something about the callee: whether it was given at least `min`.
    #[must_use]
    pub fn attributable(self, min: Span) -> bool {
        self.end - self.start >= min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1_000)
    }

    fn ms(millis: u64) -> Span {
        Span::from_millis(millis)
    }

    #[test]
    fn a_timeout_has_eight_digits_and_a_unit() {
        let parsed = ["20m", "7u", "3S", "2M", "1H", "1999n", "0m", "99999999H"].map(parse_timeout);
        let long = Span::from_secs(99_999_999 * 3_600);
        let secs = Span::from_secs;
        let expected =
            [ms(20), Span::from_micros(7), secs(3), secs(120), secs(3_600), Span::MICRO, Span::ZERO, long];
        assert_eq!(parsed, expected.map(Some));
        for wrong in ["", "m", "20", "123456789m", "-1m", "+1m", "2x", "1 m", "1µ", "½m"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_timeout_is_written_exactly_if_it_can_be() {
        let written = |micros| format_timeout(Span::from_micros(micros));
        assert_eq!(written(0), "0u");
        assert_eq!(written(99_999_999), "99999999u");
        assert_eq!(written(100_000_000), "100000m");
        assert_eq!(written(100_000_001), "100001m", "rounded up");
        assert_eq!(written(99_999_999_000_001), "1666667M", "one digit too many for seconds");
    }

    #[test]
    fn an_inbound_deadline_keeps_a_margin() {
        let deadline = Deadline::inbound(at(1_000), ms(20), MARGIN);
        assert_eq!(deadline.remaining(at(1_000)), Some(ms(15)));
        assert_eq!(deadline.remaining(at(1_020)), Some(Span::ZERO));
        assert_eq!((deadline.is_over(at(1_014)), deadline.is_over(at(1_015))), (false, true));
        assert_eq!(Deadline::inbound(at(0), ms(4), MARGIN).remaining(at(0)), Some(ms(2)), "half");
    }

    #[test]
    fn the_earlier_end_counts() {
        let inbound = Deadline::inbound(at(0), ms(105), MARGIN);
        assert_eq!(inbound.tightened(at(40), ms(50)).remaining(at(40)), Some(ms(50)));
        assert_eq!(inbound.tightened(at(40), ms(500)).remaining(at(40)), Some(ms(60)));
        assert_eq!(Deadline::none(at(0)).tightened(at(40), ms(5)).remaining(at(40)), Some(ms(5)));
    }

    #[test]
    fn none_never_ends() {
        let none = Deadline::none(at(0));
        assert_eq!((none.remaining(at(5)), none.is_over(Time::MAX)), (None, false));
        assert!(none.allows(at(5), Span::MAX) && none.attributable(Span::from_secs(1)));
    }

    #[test]
    fn work_is_allowed_that_ends_in_time() {
        let deadline = Deadline::after(at(0), ms(10));
        assert!(deadline.allows(at(4), ms(6)) && !deadline.allows(at(5), ms(6)));
        assert!(!deadline.allows(at(10), Span::ZERO));
    }

    #[test]
    fn who_gave_no_time_blames_nobody() {
        let late = Deadline::inbound(at(0), ms(100), MARGIN).tightened(at(94), ms(50));
        assert!(!late.attributable(MIN_ATTRIBUTABLE), "one millisecond was left");
        assert!(Deadline::after(at(0), ms(10)).attributable(MIN_ATTRIBUTABLE));
    }
}
