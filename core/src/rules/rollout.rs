//! A rule for a part of its keys: the first step of bringing a new limit in.

use std::fmt;
use std::str::FromStr;

use super::Rule;
use crate::load::random::{hash_bytes, mix64};

/// A share of all keys, `0%` to `100%` in steps of a ten-thousandth of a percent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Percentage {
    millionths: u32,
}

/// Why a text is no [`Percentage`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a percentage from 0% to 100% with at most four decimals, such as 10% or 0.5%")]
pub struct NoPercentage;

impl Percentage {
    /// Every key.
    pub const ALL: Percentage = Percentage { millionths: 1_000_000 };

    /// `millionths` millionths of all keys; more than a million are all of them.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Percentage {
        Percentage { millionths: if millionths > 1_000_000 { 1_000_000 } else { millionths } }
    }

    /// Millionths, `0..=1_000_000`.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.millionths
    }
}

impl FromStr for Percentage {
    type Err = NoPercentage;

    fn from_str(text: &str) -> Result<Percentage, NoPercentage> {
        let number = text.strip_suffix('%').ok_or(NoPercentage)?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > 4 {
            return Err(NoPercentage);
        }
        let millionths: u32 = format!("{whole}{decimals:0<4}").parse().map_err(|_| NoPercentage)?;
        if millionths > Percentage::ALL.millionths {
            Err(NoPercentage)
        } else {
            Ok(Percentage { millionths })
        }
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.millionths / 10_000, self.millionths % 10_000);
        match rest {
            0 => write!(f, "{whole}%"),
            _ => write!(f, "{}%", format!("{whole}.{rest:04}").trim_end_matches('0')),
        }
    }
}

/// What holds for the keys that a rule has not been rolled out to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Outside {
    /// The limit is counted and never enforced; what the rule replaces stays in force.
    #[default]
    Shadow,
    /// As if the rule limited nothing: nothing is counted either.
    Skip,
}

/// `rollout` and `rollout_outside` of a descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RolloutSpec {
    /// The share of the rule's keys that it is enforced for.
    pub share: Percentage,
    /// What holds for the others.
    pub outside: Outside,
}

/// How far a rule is rolled out.
///
/// A key's place among all keys depends on the key and on the rule's name (its path, if it has no name) alone.
/// So every server picks the same keys, a larger share picks these and more, and each rule picks its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    share: Percentage,
    salt: u64,
    /// The same rule in shadow; `None` skips it.
    pub(super) shadow: Option<Box<Rule>>,
}

impl Rollout {
    /// The rollout of `rule`, of which a key outside meets a twin in shadow.
    pub(super) fn of(spec: RolloutSpec, rule: &Rule) -> Rollout {
        let name = if rule.name.is_empty() { &rule.path } else { &rule.name };
        let twin = || Box::new(Rule { shadow: true, replaces: Box::default(), ..rule.clone() });
        let shadow = (spec.outside == Outside::Shadow).then(twin);
        Rollout { share: spec.share, salt: hash_bytes(name.as_bytes()), shadow }
    }

    /// The share of the rule's keys that it is enforced for.
    #[must_use]
    pub const fn share(&self) -> Percentage {
        self.share
    }

    /// Whether the rule is enforced for the counter named `key`.
    #[must_use]
    pub fn includes(&self, key: &[u8]) -> bool {
        let place = mix64(hash_bytes(key) ^ self.salt);
        // place / 2^64 < millionths / 10^6, exactly
        u128::from(place) * 1_000_000 < u128::from(self.share.millionths) << 64
    }
}

impl Rule {
    /// The rule as it holds for the counter named `key`: itself, its twin in shadow, or none.
    pub(super) fn rolled_out(&self, key: &[u8]) -> Option<&Rule> {
        match &self.rollout {
            Some(rollout) if !rollout.includes(key) => rollout.shadow.as_deref(),
            _ => Some(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_and_shown_exactly() {
        for (text, millionths) in
            [("0%", 0), ("10%", 100_000), ("0.5%", 5_000), ("99.9999%", 999_999), ("100%", 1_000_000)]
        {
            let read: Percentage = text.parse().unwrap();
            assert_eq!((read.millionths(), read.to_string().as_str()), (millionths, text));
        }
        assert_eq!("010.50 %".parse(), Ok(Percentage::from_millionths(105_000)));
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        for text in ["", "%", "10", "-1%", "100.0001%", "101%", "1.%", ".5%", "1.00001%", "1e1%", "NaN%"] {
            assert_eq!(text.parse::<Percentage>(), Err(NoPercentage), "{text}");
        }
    }
}
