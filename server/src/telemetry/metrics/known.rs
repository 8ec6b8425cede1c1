//! What is counted of decisions whose rule was known before the request was looked at.

use tollgate_core::rules::{Decision, Outcome, Query};

use super::{Event, Metrics};
use crate::config::ruleset::Ruleset;

impl Metrics {
    /// Whether what is counted of a decision depends on its rules alone, and not on values of the request.
    #[must_use]
    #[inline]
    pub fn counts_rules_alone(&self) -> bool {
        self.counts.series.is_none()
    }

    /// Counts one decision by configured rules, if [`Metrics::counts_rules_alone`].
    #[inline]
    pub fn decided_known(&self, rules: &Ruleset, decision: &Decision<'_>) {
        for outcome in &decision.outcomes {
            if let Outcome::Decided { rule, ask, answer, status, .. } = outcome
                && let Some(metered) = rules.meters().rule(rule.id)
            {
                Event::of(*ask, answer, *status, self.counts.near).count(&metered.meter);
            }
        }
    }

    /// What is shown of single decisions (hot keys, lines about refusals), for one that was counted by
    /// [`Metrics::decided_known`]. `query` is made only if it is needed.
    #[inline]
    pub fn noticed<'q>(&self, decision: &Decision<'_>, query: impl Fn() -> Option<Query<'q>>) {
        self.hot.noticed(decision, &query);
        if !decision.allowed()
            && let Some((refusals, query)) = self.counts.refusals.get().zip(query())
        {
            refusals.refused(&query, decision);
        }
    }
}
