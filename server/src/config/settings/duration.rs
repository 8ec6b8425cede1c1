//! Durations as Go writes them: `150us`, `1m30s`, `1.5h`, `0`. The reference's syntax, so ours in every layer.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Unit, and its length in nanoseconds; of two units that begin alike the longer one comes first.
const UNITS: [(&str, u128); 8] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

/// Go counts nanoseconds in an `i64`: a little over 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

/// The duration that `text` states, or `None` when Go would not accept it, or when it is negative.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let (part, after) = leading_part(rest)?;
        nanos += part;
        rest = after;
        if nanos > MAX_NANOS {
            return None;
        }
    }
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// The shortest exact form that [`parse`] reads back: `1m30s`, `24h`, `1500us` as `1ms500us`, `0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, length) in [UNITS[0], UNITS[2], UNITS[3], UNITS[1], UNITS[4], UNITS[7]] {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `1.5h30m` as 1.5 hours in nanoseconds and `30m`.
fn leading_part(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = leading_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => leading_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (length, rest) =
        UNITS.iter().find_map(|(unit, length)| rest.strip_prefix(unit).map(|rest| (*length, rest)))?;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    Some((u128::from(whole) * length + share(fraction, length), rest))
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// `0.fraction` of `length`, cut to whole nanoseconds.
fn share(fraction: &str, length: u128) -> u128 {
    let mut nanos = 0;
    let mut scale = 1;
    // an hour has 3.6 * 10^12 nanoseconds: digits from the 15th on weigh nothing
    for digit in fraction.bytes().take(15) {
        scale *= 10;
        nanos = nanos * 10 + u128::from(digit - b'0');
    }
    nanos * length / scale
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| serde::de::Error::custom("not a duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_go_accepts_is_accepted() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("+5s", 5_000_000_000),
            ("150us", 150_000),
            ("150\u{b5}s", 150_000),
            ("150\u{3bc}s", 150_000),
            ("1m30s", 90_000_000_000),
            ("24h", 86_400_000_000_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3ns", 3),
            ("30s1m", 90_000_000_000),
            ("0.1ns", 0),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "5",
            "s",
            ".s",
            "1 s",
            "-1s",
            "1d",
            "1S",
            "++1s",
            "+",
            "1m30",
            "9223372036854775808ns",
            "1e3s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
