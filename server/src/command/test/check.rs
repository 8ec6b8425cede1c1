//! What a decision is against what was expected.

use std::fmt::Display;

use tollgate_core::limit::Retry;
use tollgate_core::rules::{Decision, Outcome, Status, told_remaining};
use tollgate_core::time::Span;

use super::file::{Expect, ExpectLimit};

/// Every difference, in words; none if all is as expected.
pub(super) fn wrong(expect: &Expect, decision: &Decision<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let word = |allowed: bool| if allowed { "allowed" } else { "refused" };
    differs("", expect.allowed.map(word), Some(word(decision.allowed())), &mut wrong);
    let retry = decision.retry_after();
    differs("retry_after ", expect.retry_after.map(told), retry.map(after), &mut wrong);
    differs("wait ", expect.wait, Some(decision.wait()), &mut wrong);
    let remaining = decision.tightest().map(|(_, verdict)| told_remaining(verdict));
    differs("remaining ", expect.remaining, remaining, &mut wrong);
    if !expect.limits.is_empty() && expect.limits.len() != decision.outcomes.len() {
        let (wanted, got) = (expect.limits.len(), decision.outcomes.len());
        wrong.push(format!("expected {wanted} limits, but the request has {got} descriptors"));
    }
    for (place, (limit, outcome)) in expect.limits.iter().zip(&decision.outcomes).enumerate() {
        of_limit(&format!("limits[{place}] "), limit, outcome, &mut wrong);
    }
    wrong
}

/// Notes a difference; nothing expected is never one.
fn differs<T: PartialEq + Display>(
    what: &str,
    expected: Option<T>,
    actual: Option<T>,
    wrong: &mut Vec<String>,
) {
    let Some(expected) = expected else { return };
    match actual {
        Some(actual) if actual == expected => {}
        Some(actual) => wrong.push(format!("{what}expected {expected}, got {actual}")),
        None => wrong.push(format!("{what}expected {expected}, got none")),
    }
}

fn of_limit(what: &str, expect: &ExpectLimit, outcome: &Outcome<'_>, wrong: &mut Vec<String>) {
    let mut note = |name: &str, expected: Option<String>, actual: Option<String>| {
        differs(&format!("{what}{name} "), expected, actual, wrong);
    };
    note("outcome", expect.outcome.clone(), Some(outcome_name(outcome).to_owned()));
    if let Some(wanted) = &expect.rule {
        let (name, path) = rule(outcome).unwrap_or_default();
        let actual = if wanted == name { name } else { path };
        note("rule", Some(wanted.clone()), Some(actual.to_owned()));
    }
    let decided = match outcome {
        Outcome::Decided { answer, status, .. } => Some((answer.verdict, *status)),
        _ => None,
    };
    let text = |number: u64| number.to_string();
    let verdict = decided.map(|(verdict, _)| verdict);
    let allowed = decided.map(|(_, status)| (status == Status::Ok).to_string());
    note("allowed", expect.allowed.map(|flag| flag.to_string()), allowed);
    let shadowed = decided.map(|(verdict, status)| (!verdict.allowed && status == Status::Ok).to_string());
    note("shadowed", expect.shadowed.map(|flag| flag.to_string()), shadowed);
    let remaining = verdict.map(|verdict| text(told_remaining(&verdict)));
    note("remaining", expect.remaining.map(text), remaining);
    note("used", expect.used.map(text), verdict.map(|verdict| text(verdict.used)));
    let retry = verdict.filter(|verdict| !verdict.allowed).map(|verdict| after(verdict.retry_after));
    note("retry_after", expect.retry_after.map(told), retry);
}

fn told(expected: Option<Span>) -> String {
    expected.map_or_else(|| "never".to_owned(), |span| span.to_string())
}

/// When a refused request may come again.
pub(super) fn after(retry: Retry) -> String {
    match retry {
        Retry::After(span) => span.to_string(),
        Retry::Never => "never".to_owned(),
    }
}

/// Name and path of the rule of `outcome`.
pub(super) fn rule<'o>(outcome: &'o Outcome<'_>) -> Option<(&'o str, &'o str)> {
    let rule = match outcome {
        Outcome::Unlimited(rule) => rule,
        Outcome::Decided { rule, .. } | Outcome::Failed { rule, .. } => &**rule,
        Outcome::UnknownDomain | Outcome::Unmatched | Outcome::Replaced => return None,
    };
    Some((&rule.name, &rule.path))
}

/// One word for what became of a descriptor.
pub(super) fn outcome_name(outcome: &Outcome<'_>) -> &'static str {
    match outcome {
        Outcome::UnknownDomain => "unknown_domain",
        Outcome::Unmatched => "unmatched",
        Outcome::Replaced => "replaced",
        Outcome::Unlimited(_) => "unlimited",
        Outcome::Decided { .. } => "decided",
        Outcome::Failed { .. } => "failed",
    }
}
