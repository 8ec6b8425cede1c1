//! What a plain scalar means in YAML 1.1, as Go's yaml.v2 reads it.

/// A plain scalar resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolved {
    /// `~`, `null`, nothing.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// An integer of at most 64 bits: decimal, `0x`, `0b`, octal with a leading 0, with underscores.
    Int(i128),
    /// A decimal integer beyond that, or a number with a point or an exponent.
    Float(f64),
    /// Anything else.
    Text,
}

/// Resolves a plain scalar.
#[must_use]
pub fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Resolved::Text;
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return number;
    }
    float(&plain).map_or(Resolved::Text, Resolved::Float)
}

fn integer(text: &str) -> Option<Resolved> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok();
    let number = magnitude.map(|magnitude| if negative { -magnitude } else { magnitude });
    let fits = |number: &i128| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(number);
    number.filter(fits).map(Resolved::Int)
}

fn float(text: &str) -> Option<f64> {
    let legal = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let digit = text.chars().any(|c| c.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| digit && number.is_finite() && text.chars().all(legal))
}
