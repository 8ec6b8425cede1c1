//! Questions and answers of the wire, decided by the core.

use std::sync::atomic::Ordering::Relaxed;

use tollgate_core::limit::{Cost, Retry, Verdict};
use tollgate_core::rules::{
    Answer, By, Charge, Decision, Descriptor, Hit, Outcome, Plan, Query, Refusal, refuses,
};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1::limit_status::Outcome as WireOutcome;
use tollgate_proto::tollgate::v1::{
    Accuracy, CheckRequest, CheckResponse, DecidedBy, Descriptor as WireDescriptor, LimitStatus,
};
use tonic::Status;

use super::{InProcessLimiter, States};

/// A look at what the wire asks.
pub(super) fn query<'a>(
    domain: &'a str,
    descriptors: &'a [WireDescriptor],
    cost: u64,
    refund: bool,
) -> Result<Query<'a>, Status> {
    if domain.is_empty() || descriptors.is_empty() {
        return Err(Status::invalid_argument("domain and descriptors are needed"));
    }
    let descriptor = |wire: &'a WireDescriptor| Descriptor {
        entries: wire.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
        hits: Some(wire.cost.unwrap_or(cost)),
        refund,
        limit: None,
    };
    let descriptors = descriptors.iter().map(descriptor).collect();
    Ok(Query { domain, hits: 1, descriptors, patience: Span::MAX, waits_itself: true })
}

impl InProcessLimiter {
    /// Decides one question.
    pub(super) fn decide(&self, check: &CheckRequest) -> Result<CheckResponse, Status> {
        self.0.questions.fetch_add(1, Relaxed);
        if let Some(answer) = self.0.answers.get(&check.idempotency_key) {
            return Ok(answer);
        }
        let cost = check.cost.unwrap_or(1);
        let mut query = query(&check.domain, &check.descriptors, cost, check.refund)?;
        if let Some(wait) = &check.max_wait {
            query.patience = span(wait);
        }
        let plan = self.0.matcher.plan(&query);
        let answers = self.charge(&plan);
        let answers: Vec<Result<Answer, ()>> = answers.into_iter().map(Ok).collect();
        let response = response(&plan.settle(&answers), check.explain);
        if !check.idempotency_key.is_empty() {
            self.0.answers.insert(check.idempotency_key.clone(), response.clone());
        }
        Ok(response)
    }

    fn charge(&self, plan: &Plan<'_>) -> Vec<Answer> {
        let mut states = self.states();
        let now = self.0.clock.now();
        self.charge_at(&mut states, now, plan)
    }

    /// Charges all hits or none. A limit that is hit twice is charged twice.
    pub(super) fn charge_at(&self, states: &mut States, now: Time, plan: &Plan<'_>) -> Vec<Answer> {
        let mut before = Vec::with_capacity(plan.hits().len());
        let mut answers = Vec::with_capacity(plan.hits().len());
        for hit in plan.hits() {
            let Some(limit) = &hit.rule.limit else { continue };
            let old = states.counters.get(&hit.key).cloned();
            let step = limit.step(old.as_ref().map(|(state, _)| state), now, hit.ask);
            if let Some(state) = step.state {
                states.put(now, hit.key.clone(), state, limit);
            }
            before.push((hit.key.clone(), old));
            answers.push(Answer { verdict: step.verdict, by: By::Memory });
        }
        let refused = refuses(plan.hits(), &answers) != Refusal::None;
        if refused && plan.charge() == Charge::AllOrNothing {
            for (key, old) in before.into_iter().rev() {
                match old {
                    Some(old) => drop(states.counters.insert(key, old)),
                    None => drop(states.counters.remove(&key)),
                }
            }
        } else {
            self.count(plan.hits(), &answers);
        }
        answers
    }

    /// Counts what was charged to the first limit.
    fn count(&self, hits: &[Hit<'_>], answers: &[Answer]) {
        let (Some(hit), Some(answer)) = (hits.first(), answers.first()) else { return };
        let counted = match hit.ask.cost {
            Cost::Take(units) if answer.verdict.allowed => self.0.admitted.fetch_add(units, Relaxed),
            Cost::Refund(_) => {
                let returned = answer.verdict.used_before.saturating_sub(answer.verdict.used);
                self.0.admitted.fetch_sub(returned, Relaxed)
            }
            Cost::Take(_) => return,
        };
        tracing::trace!(counted, "charged");
    }
}

/// A duration of the wire; negative ones are none.
pub(super) fn span(wire: &prost_types::Duration) -> Span {
    Span::from_wide(std::time::Duration::try_from(*wire).map_or(0, |wait| wait.as_micros()))
}

pub(super) fn to_wire(span: Span) -> prost_types::Duration {
    let micros = span.as_micros();
    prost_types::Duration {
        seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0),
    }
}

fn response(decision: &Decision<'_>, explain: bool) -> CheckResponse {
    let retry = decision.retry_after();
    let retry_after = retry.and_then(after);
    CheckResponse {
        allowed: decision.allowed(),
        limits: decision.outcomes.iter().map(|outcome| status(outcome, explain)).collect(),
        retry_after: retry_after.map(to_wire),
        never: retry == Some(Retry::Never),
        retry_jitter: retry_after.map(|after| to_wire(Span::from_micros(after.as_micros() / 10))),
        wait: Some(to_wire(decision.wait())),
        pressure: decision.tightest().map_or(0.0, |(_, verdict)| pressure(verdict)),
    }
}

fn after(retry: Retry) -> Option<Span> {
    match retry {
        Retry::After(span) => Some(span),
        Retry::Never => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn pressure(verdict: &Verdict) -> f32 {
    (verdict.used as f32 / verdict.limit.max(1) as f32).clamp(0.0, 1.0)
}

pub(super) fn status(outcome: &Outcome<'_>, explain: bool) -> LimitStatus {
    let plain = |outcome: WireOutcome| LimitStatus { outcome: outcome.into(), ..LimitStatus::default() };
    match outcome {
        Outcome::UnknownDomain => plain(WireOutcome::UnknownDomain),
        Outcome::Unmatched => plain(WireOutcome::Unmatched),
        Outcome::Replaced => plain(WireOutcome::Replaced),
        Outcome::Unlimited(_) => plain(WireOutcome::Unlimited),
        Outcome::Failed { .. } => plain(WireOutcome::Failed),
        Outcome::Decided { rule, answer, .. } => {
            let verdict = &answer.verdict;
            LimitStatus {
                allowed: verdict.allowed,
                limit: verdict.limit,
                remaining: verdict.remaining,
                retry_after: (!verdict.allowed).then(|| after(verdict.retry_after).map(to_wire)).flatten(),
                never: !verdict.allowed && verdict.retry_after == Retry::Never,
                reset_after: Some(to_wire(verdict.reset_after)),
                wait: Some(to_wire(verdict.wait)),
                by: DecidedBy::Memory.into(),
                accuracy: Accuracy::Strict.into(),
                rule: if explain { rule.path.to_string() } else { String::new() },
                ..plain(WireOutcome::Decided)
            }
        }
    }
}
