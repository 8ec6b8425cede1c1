//! Rules: which limits a request meets, under which keys, and what their verdicts add up to.

mod decision;
mod explain;
mod key;
mod known;
mod matcher;
mod plan;
mod query;
mod rollout;
mod spec;
mod wildcard;

pub use decision::{Answer, By, Decision, Outcome, Refusal, Status, refuses, told_remaining};
pub use explain::{Explanation, MatchedBy, NoRule, Walked};
pub use key::{Key, KeyBuilder, Layout, Shared};
pub use known::Known;
pub use matcher::{BuildError, Defaults, Matcher};
pub use plan::{Hit, Plan, RuleRef};
pub use query::{Descriptor, Entries, Override, Query};
pub use rollout::{NoPercentage, Outside, Percentage, Rollout, RolloutSpec};
pub use spec::{
    Accuracy, Charge, DescriptorSpec, DomainSpec, Metadata, OnFailure, Quota, RuleSpec, UNIT_NAMES, Unit,
};

use crate::lease::{self, Terms};
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
    /// The limit that every request is charged to; `None` is `unlimited: true`. Less than the rule states if a
    /// part of its capacity is set aside for leases.
    pub limit: Option<Limit>,
    /// How the limit is leased; `None` if it is not.
    pub lease: Option<Terms>,
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
    /// Which keys the rule is enforced for; `None` is all of them.
    pub rollout: Option<Rollout>,
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

    fn of(spec: RuleSpec, id: usize, path: &str) -> Rule {
        Rule {
            id,
            path: path.into(),
            name: spec.name.into(),
            limit: spec.limit,
            lease: None,
            quota: spec.quota,
            shadow: false,
            alternative: false,
            replaces: spec.replaces.into_iter().map(Into::into).collect(),
            metadata: None,
            on_failure: spec.on_failure,
            accuracy: spec.accuracy,
            max_hold: spec.max_hold,
            metric: Metric::default(),
            rollout: None,
        }
    }

    /// Sets aside what may lie in leases.
    fn divide(&mut self) {
        if let Some(limit) = self.limit.take() {
            let (left, terms) = lease::divide(limit, self.accuracy);
            (self.limit, self.lease) = (Some(left), terms);
        }
        if let Some(twin) = self.rollout.as_mut().and_then(|rollout| rollout.shadow.as_mut()) {
            twin.divide();
        }
    }

    /// The capacity that the rule states, of which a part may be set aside for leases; `None` without a limit.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        match &self.lease {
            Some(Terms::Pool(pool)) => Some(pool.capacity()),
            _ => self.limit.as_ref().map(Limit::capacity),
        }
    }
}
