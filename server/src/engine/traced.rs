//! What a trace says of a decision.

use tokio::time::Instant;
use tollgate_core::rules::{By, Decision, Descriptor, Outcome, Query, RuleRef};

use super::{Engine, Undecided};
use crate::store::{Replies, Request};
use crate::telemetry::trace::{self, Step};

/// The rule of a limit that came with the request: its path would show the request's values.
const OVERRIDE: &str = "override";

/// A decision, or why there is none, as far as a trace shows it.
pub(super) type Decided<'d, 'm> = Result<&'d Decision<'m>, &'d Undecided>;

impl Engine {
    /// Asks a store that has to be waited for, and times it.
    pub(super) async fn charge(&self, request: Request<'_>) -> Replies {
        let mut step = trace::step("tollgate.store");
        let began = self.metrics.times_calls().then(Instant::now);
        let hits = request.hits.len();
        let replies = self.store.charge(request).await;
        let fault = replies.iter().find_map(|reply| reply.err());
        if let Some(began) = began.filter(|_| hits > 0) {
            self.metrics.stored(fault, began.elapsed());
        }
        if let (Some(step), Some(fault)) = (&mut step, fault) {
            step.fail(fault.name());
        }
        replies
    }
}

/// Says in `step` what was decided.
#[cold]
pub(super) fn tell(step: &mut Step, query: &Query<'_>, decided: Decided<'_, '_>) {
    step.set_texts("tollgate.domain", vec![query.domain.to_owned()]);
    if step.shows_values() {
        step.set_texts("tollgate.descriptors", query.descriptors.iter().map(shown).collect());
    }
    match decided {
        Ok(decision) => {
            step.set_text("tollgate.decision", if decision.allowed() { "allowed" } else { "refused" });
            let rules = decision.outcomes.iter().filter_map(rule);
            let (rules, by): (Vec<_>, Vec<_>) = rules.unzip();
            step.set_texts("tollgate.rule", rules);
            step.set_texts("tollgate.by", by);
        }
        Err(undecided) => step.fail(undecided.fault.name()),
    }
}

/// A rule, and who answered for it.
fn rule(outcome: &Outcome<'_>) -> Option<(String, String)> {
    let path = |rule: &RuleRef<'_>| match rule {
        RuleRef::Configured(rule) => rule.path.to_string(),
        RuleRef::Override(_) => OVERRIDE.to_owned(),
    };
    match outcome {
        Outcome::Decided { rule, answer, .. } => Some((path(rule), by(answer.by).to_owned())),
        Outcome::Failed { rule, .. } => Some((path(rule), "nobody".to_owned())),
        Outcome::Unlimited(rule) => Some((rule.path.to_string(), "unlimited".to_owned())),
        _ => None,
    }
}

const fn by(by: By) -> &'static str {
    match by {
        By::Memory => "memory",
        By::Full => "full",
        By::Redis => "redis",
        By::Denial => "denial",
        By::Fallback => "fallback",
        By::Share => "share",
    }
}

fn shown(descriptor: &Descriptor<'_>) -> String {
    let entries = descriptor.entries.iter().map(|(key, value)| format!("{key}={value}"));
    entries.collect::<Vec<_>>().join(",")
}
