//! [`Decision`] to wire response.

use prost_types::Duration as WireDuration;
use tollgate_core::limit::{Retry, Verdict};
use tollgate_core::rules::{Answer, By, Decision, Outcome, Rule, Status, told_remaining};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::limit_status::Outcome as WireOutcome;

use super::NotDecided;

/// Who was refused by a limit comes again spread over this part of its window …
const JITTER_SHARE: u64 = 10;
/// … at least over this, and at most over that.
const JITTER: (Span, Span) = (Span::from_millis(1), Span::from_secs(10));

pub(super) fn response(decision: &Decision<'_>, explain: bool) -> wire::CheckResponse {
    let limits = decision.outcomes.iter().map(|outcome| limit_status(outcome, explain)).collect();
    let wait = decision.wait();
    let mut response = wire::CheckResponse {
        allowed: decision.allowed(),
        limits,
        wait: (!wait.is_zero()).then(|| duration(wait)),
        pressure: pressure(decision),
        ..wire::CheckResponse::default()
    };
    match decision.retry_after() {
        None => {}
        Some(Retry::Never) => response.never = true,
        Some(Retry::After(retry)) => {
            response.retry_after = Some(duration(retry));
            response.retry_jitter = Some(duration(jitter(decision)));
        }
    }
    response
}

pub(super) fn limit_status(outcome: &Outcome<'_>, explain: bool) -> wire::LimitStatus {
    let passed = |outcome: WireOutcome| wire::LimitStatus {
        outcome: outcome.into(),
        allowed: outcome != WireOutcome::Failed,
        ..wire::LimitStatus::default()
    };
    match outcome {
        Outcome::UnknownDomain => passed(WireOutcome::UnknownDomain),
        Outcome::Unmatched => passed(WireOutcome::Unmatched),
        Outcome::Replaced => passed(WireOutcome::Replaced),
        Outcome::Unlimited(rule) => {
            wire::LimitStatus { rule: named(rule, explain), ..passed(WireOutcome::Unlimited) }
        }
        Outcome::Failed { rule, .. } => {
            wire::LimitStatus { rule: named(rule, explain), ..passed(WireOutcome::Failed) }
        }
        Outcome::Decided { rule, answer, status, .. } => {
            wire::LimitStatus { rule: named(rule, explain), ..decided(answer, *status) }
        }
    }
}

fn decided(answer: &Answer, status: Status) -> wire::LimitStatus {
    let verdict = &answer.verdict;
    let refused = !verdict.allowed;
    wire::LimitStatus {
        outcome: WireOutcome::Decided.into(),
        allowed: status == Status::Ok,
        limit: verdict.limit,
        remaining: told_remaining(verdict),
        retry_after: match verdict.retry_after {
            Retry::After(retry) if refused => Some(duration(retry)),
            _ => None,
        },
        never: refused && verdict.retry_after == Retry::Never,
        reset_after: Some(duration(verdict.reset_after)),
        wait: (!verdict.wait.is_zero()).then(|| duration(verdict.wait)),
        by: by(answer.by).into(),
        accuracy: accuracy(answer.by).into(),
        shadowed: refused && status == Status::Ok,
        rule: String::new(),
    }
}

pub(super) fn named(rule: &Rule, explain: bool) -> String {
    match (explain, &*rule.name) {
        (false, _) => String::new(),
        (true, "") => rule.path.to_string(),
        (true, name) => name.to_owned(),
    }
}

pub(super) const fn by(by: By) -> wire::DecidedBy {
    match by {
        By::Memory => wire::DecidedBy::Memory,
        By::Redis => wire::DecidedBy::Redis,
        By::Denial => wire::DecidedBy::Denial,
        By::Full => wire::DecidedBy::Full,
        By::Fallback => wire::DecidedBy::Fallback,
        By::Share => wire::DecidedBy::Share,
    }
}

pub(super) const fn accuracy(by: By) -> wire::Accuracy {
    match by {
        By::Memory | By::Redis | By::Denial => wire::Accuracy::Strict,
        By::Full | By::Fallback | By::Share => wire::Accuracy::Approximate,
    }
}

/// How full the fullest limit is.
pub(super) fn pressure(decision: &Decision<'_>) -> f32 {
    let shares = decision.outcomes.iter().map(|outcome| match outcome {
        Outcome::Decided { answer, .. } => fullness(&answer.verdict),
        _ => 0.0,
    });
    shares.fold(0.0, f32::max)
}

#[expect(clippy::cast_precision_loss, reason = "a share of 1, for a float of 24 bits")]
fn fullness(verdict: &Verdict) -> f32 {
    if !verdict.allowed || verdict.limit == 0 {
        return 1.0;
    }
    (verdict.used as f32 / verdict.limit as f32).min(1.0)
}

/// Over how long those who were refused spread when they come again: a part of the longest window that refuses.
pub(super) fn jitter(decision: &Decision<'_>) -> Span {
    let windows = decision.outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Decided { rule, status: Status::OverLimit, .. } => Some(rule.quota.span()),
        _ => None,
    });
    let longest = windows.max().unwrap_or(Span::ZERO);
    Span::from_micros(longest.as_micros() / JITTER_SHARE).clamp(JITTER.0, JITTER.1)
}

/// A time on the wire. Beyond what the wire can carry it is cut: 10 000 years.
pub(super) fn duration(span: Span) -> WireDuration {
    let seconds = i64::try_from(span.as_micros() / 1_000_000).unwrap_or(i64::MAX).min(315_576_000_000);
    let nanos = i32::try_from(span.as_micros() % 1_000_000).unwrap_or(0) * 1_000;
    WireDuration { seconds, nanos }
}

/// Why one item of a stream has no answer.
pub(super) fn item_error(error: &NotDecided) -> wire::ItemError {
    let pause = error.code().retry_after();
    wire::ItemError {
        code: error.code().grpc().into(),
        message: error.to_string(),
        retry_after: pause.map(|pause| duration(Span::from_wide(pause.as_micros()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(allowed: bool, used: u64, limit: u64) -> Verdict {
        Verdict {
            allowed,
            limit,
            remaining: limit.saturating_sub(used),
            used_before: used,
            used,
            retry_after: Retry::Never,
            reset_after: Span::ZERO,
            wait: Span::ZERO,
        }
    }

    #[test]
    fn pressure_goes_from_empty_to_full() {
        for (allowed, used, limit, full) in
            [(true, 0, 10, 0.0), (true, 5, 10, 0.5), (true, 10, 10, 1.0), (true, 20, 10, 1.0)]
        {
            assert!((fullness(&verdict(allowed, used, limit)) - full).abs() < f32::EPSILON);
        }
        assert!((fullness(&verdict(false, 3, 10)) - 1.0).abs() < f32::EPSILON, "a refusal is full");
        assert!((fullness(&verdict(true, 0, 0)) - 1.0).abs() < f32::EPSILON, "a limit of nothing is full");
    }

    #[test]
    fn a_time_is_carried_exactly() {
        let told = duration(Span::from_micros(3_000_001));
        assert_eq!((told.seconds, told.nanos), (3, 1_000));
    }
}
