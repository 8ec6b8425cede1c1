//! What a rules file says, already parsed and checked: the input of [`Matcher::build`](super::Matcher::build).

use super::rollout::RolloutSpec;
use crate::limit::{CalendarUnit, Limit};
use crate::time::Span;

/// All rules of one domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainSpec {
    /// Name, compared exactly.
    pub name: String,
    /// What a refusal leaves behind.
    pub charge: Charge,
    /// Descriptor key whose value decides on which node of a cluster the request's counters live.
    pub partition: Option<String>,
    /// What a request is answered that the store has no time for; `None` is [`OnFailure::Local`].
    pub on_overload: Option<OnFailure>,
    /// Top-level descriptors in file order.
    pub descriptors: Vec<DescriptorSpec>,
}

/// One node of the tree of descriptors.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of the file, one by one")]
pub struct DescriptorSpec {
    /// Key; may contain `*`.
    pub key: String,
    /// Value; empty matches every value; may contain `*`.
    pub value: String,
    /// The limit that applies when this is the last entry; `None` limits nothing here.
    pub rule: Option<RuleSpec>,
    /// All values that match this wildcard share one counter.
    pub share_threshold: bool,
    /// `shadow_mode`
    pub shadow: bool,
    /// `quota_mode`
    pub alternative: bool,
    /// `detailed_metric`
    pub detailed_metric: bool,
    /// `value_to_metric`
    pub value_to_metric: bool,
    /// `metadata`
    pub metadata: Option<Metadata>,
    /// `rollout` and `rollout_outside`; `None` enforces the rule for every key.
    pub rollout: Option<RolloutSpec>,
    /// Children in file order.
    pub descriptors: Vec<DescriptorSpec>,
}

/// The `rate_limit` of a descriptor.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// The compiled limit; `None` is `unlimited: true`.
    pub limit: Option<Limit>,
    /// The limit as the file states it.
    pub quota: Quota,
    /// `name`
    pub name: String,
    /// `replaces`
    pub replaces: Vec<String>,
    /// `on_failure`
    pub on_failure: OnFailure,
    /// `accuracy`
    pub accuracy: Accuracy,
    /// `max_hold`; zero means that a caller is never held.
    pub max_hold: Span,
}

/// What is charged when one of several limits refuses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Charge {
    /// Every matched limit is charged; fixed windows count refused hits too (the reference's accounting).
    #[default]
    Each,
    /// A limit that refuses is not charged; the others are.
    Admitted,
    /// A refusal by one limit charges none.
    AllOrNothing,
}

/// A limit in the words of the file: requests per (multiplier × unit).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// Requests per window, or the refill per window of a bucket.
    pub requests_per_unit: u32,
    /// The unit of time.
    pub unit: Unit,
    /// How many units make the window; at least 1, and 0 where there is no limit.
    pub multiplier: u32,
}

/// Units of time with the numbers of `RateLimitResponse.RateLimit.Unit`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Unit {
    /// No unit: an unlimited rule.
    #[default]
    Unknown = 0,
    /// 1 second
    Second = 1,
    /// 60 seconds
    Minute = 2,
    /// 3 600 seconds
    Hour = 3,
    /// 86 400 seconds
    Day = 4,
    /// 30 days
    Month = 5,
    /// 365 days
    Year = 6,
    /// 7 days
    Week = 7,
}

/// Every unit that a file may name, in lower case.
pub const UNIT_NAMES: [(&str, Unit); 7] = [
    ("second", Unit::Second),
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("year", Unit::Year),
];

impl Unit {
    /// The unit that a file names, in any case: `second` to `year`, `week` included.
    #[must_use]
    pub fn parse(name: &str) -> Option<Unit> {
        UNIT_NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, unit)| unit)
    }

    /// The unit with this number on the wire; `None` for 0 and for numbers out of range.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Unit> {
        UNIT_NAMES.iter().find(|&&(_, unit)| unit as i32 == number).map(|&(_, unit)| unit)
    }

    /// Name in capitals, as in the wire's enum.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Unknown => "UNKNOWN",
            Unit::Second => "SECOND",
            Unit::Minute => "MINUTE",
            Unit::Hour => "HOUR",
            Unit::Day => "DAY",
            Unit::Month => "MONTH",
            Unit::Year => "YEAR",
            Unit::Week => "WEEK",
        }
    }

    /// Length in the reference's arithmetic: 30-day months, 365-day years; zero for `Unknown`.
    #[must_use]
    pub const fn span(self) -> Span {
        Span::from_secs(match self {
            Unit::Unknown => 0,
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Week => 604_800,
            Unit::Month => 2_592_000,
            Unit::Year => 31_536_000,
        })
    }

    /// The calendar unit of the same name; `None` for `Unknown`.
    #[must_use]
    pub const fn calendar(self) -> Option<CalendarUnit> {
        Some(match self {
            Unit::Unknown => return None,
            Unit::Second => CalendarUnit::Second,
            Unit::Minute => CalendarUnit::Minute,
            Unit::Hour => CalendarUnit::Hour,
            Unit::Day => CalendarUnit::Day,
            Unit::Week => CalendarUnit::Week,
            Unit::Month => CalendarUnit::Month,
            Unit::Year => CalendarUnit::Year,
        })
    }
}

impl Quota {
    /// `multiplier` × `unit` in the reference's arithmetic.
    #[must_use]
    pub const fn span(self) -> Span {
        Span::from_micros(self.unit.span().as_micros().saturating_mul(self.multiplier as u64))
    }
}

/// What to answer for a rule when the store cannot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnFailure {
    /// The request fails; the caller's own failure mode decides.
    #[default]
    Error,
    /// Admit.
    Allow,
    /// Refuse.
    Deny,
    /// The same limit divided by the live servers, in memory.
    Local,
}

/// Whether a limit may be spent from a lease.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Accuracy {
    /// Leases once a key is hot and far from its limit.
    #[default]
    Auto,
    /// Every decision asks the store.
    Strict,
    /// Leases from the first decision on.
    Leased,
}

/// A JSON-like value, as `google.protobuf.Value` can carry it.
#[derive(Clone, Debug, PartialEq)]
pub enum Metadata {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A double.
    Number(f64),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Metadata>),
    /// Fields in file order, each name once.
    Struct(Vec<(String, Metadata)>),
}
