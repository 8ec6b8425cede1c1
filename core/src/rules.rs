//! Rules: which limits a request meets, under which keys, and what their verdicts add up to.

mod decision;
mod explain;
mod key;
mod matcher;
mod plan;
mod query;
mod spec;
mod wildcard;

pub use decision::{Answer, By, Decision, Outcome, Refusal, Status, refuses, told_remaining};
pub use explain::{Explanation, MatchedBy, NoRule, Walked};
pub use key::{Key, KeyBuilder, Layout, Shared};
pub use matcher::{BuildError, Defaults, Matcher};
pub use plan::{Hit, Plan, RuleRef};
pub use query::{Descriptor, Entries, Override, Query};
pub use spec::{
    Accuracy, Charge, DescriptorSpec, DomainSpec, Metadata, OnFailure, Quota, RuleSpec, UNIT_NAMES, Unit,
};

use crate::limit::Limit;
use crate::time::Span;

/// One compiled rule: a limit (or the lack of one) and how its verdict is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Position in its [`Matcher`]; [`Rule::OVERRIDE`] for a limit that came with the request.
    pub id: usize,
    /// `domain` and the `key[_value]` of each level, joined with dots, as in `/rlconfig`.
    pub path: Box<str>,
    /// `rate_limit.name`; empty when the file gives none. Target of `replaces`.
    pub name: Box<str>,
    /// The limit; `None` is `unlimited: true`.
    pub limit: Option<Limit>,
    /// The limit as the file states it, told to the caller as `current_limit`.
    pub quota: Quota,
    /// Counted but never enforced.
    pub shadow: bool,
    /// One of several alternatives: the request is refused only when all of them are exhausted.
    pub alternative: bool,
    /// Names of the rules that this one switches off when both match a request.
    pub replaces: Box<[Box<str>]>,
    /// Returned in `dynamic_metadata` when the rule passes.
    pub metadata: Option<Metadata>,
    /// What to answer when the store cannot.
    pub on_failure: OnFailure,
    /// Whether the limit may be spent from a lease.
    pub accuracy: Accuracy,
    /// The longest that a leaky bucket may hold an answer back.
    pub max_hold: Span,
    /// How the rule is named in the reference's metrics.
    pub metric: Metric,
}

/// Which request values appear in the reference's metric name of a rule.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metric {
    /// `detailed_metric`: every level shows the request's value.
    pub detailed: bool,
    /// Per level of the path.
    pub levels: Box<[MetricLevel]>,
}

/// How one level of the path appears in the reference's metric name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetricLevel {
    /// `key` or `key_value` as the file has it (the pattern of a wildcard).
    pub composite: Box<str>,
    /// The level was written with `share_threshold`.
    pub shared: bool,
    /// The level was written with `value_to_metric`, and it can match more than one value.
    pub value: bool,
}

impl Rule {
    /// The [`Rule::id`] of a limit that came with the request.
    pub const OVERRIDE: usize = usize::MAX;
}
