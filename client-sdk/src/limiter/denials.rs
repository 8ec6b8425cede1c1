//! Refusals that still hold: who is over the limit stops asking.

use std::time::Duration;

use tollgate_core::time::Time;

use super::decision::{Decision, DecisionSource};
use super::key::Key;
use super::lease::LeasedKey;
use super::memory::{Remembered, remembered};
use super::request::Ask;
use crate::clock::{duration, span};

#[derive(Clone, Debug)]
struct Denial {
    /// Refused until then, on this process' clock.
    until: Time,
    /// The smallest cost that was refused; a smaller one might be admitted.
    cost: u64,
    /// The longest wait that was refused; who can wait longer might be admitted.
    max_wait: Option<Duration>,
    /// What was advised on top.
    jitter: Duration,
    decision: Decision,
}

/// A bounded number of refusals. One of a smaller cost holds for a larger one as well: `retry_after` is then the
/// earliest instant at which asking makes sense.
#[derive(Clone, Debug)]
pub(super) struct Denials(Remembered<Denial>);

impl Denials {
    pub(super) fn new(capacity: u64) -> Denials {
        Denials(remembered(capacity))
    }

    /// The refusal that holds for `ask`, if one does.
    pub(super) fn find(&self, ask: &Ask, now: impl FnOnce() -> Time) -> Option<Decision> {
        let cost = ask.plain_cost()?;
        let denial = self.0.get(&ask.key)?;
        let now = now();
        if now >= denial.until {
            self.0.invalidate(&ask.key);
            return None;
        }
        if cost < denial.cost || is_longer(ask.max_wait, denial.max_wait) {
            return None;
        }
        let left = duration(denial.until - now);
        Some(Decision {
            retry_after: Some(left),
            retry_advice: Some(left.saturating_add(denial.jitter)),
            source: DecisionSource::CachedDenial,
            ..denial.decision
        })
    }

    /// Remembers a refusal of the limiter. What it says is counted from the moment at which it was asked, so
    /// that it never holds for longer than the limiter meant.
    pub(super) fn remember(&self, ask: &Ask, asked: Time, decision: &Decision) {
        let (Some(cost), Some(after)) = (ask.plain_cost(), decision.retry_after) else { return };
        if decision.allowed || after.is_zero() {
            return;
        }
        let jitter = decision.retry_advice.unwrap_or(after).saturating_sub(after);
        let until = asked + span(after);
        let max_wait = ask.max_wait;
        self.0.insert(ask.key.clone(), Denial { until, cost, max_wait, jitter, decision: decision.clone() });
    }

    /// Remembers that a leased key's limit has nothing left, for any cost.
    pub(super) fn remember_exhausted(&self, key: &LeasedKey, asked: Time, decision: &Decision) {
        let Some(after) = decision.retry_after else { return };
        let jitter = decision.retry_advice.unwrap_or(after).saturating_sub(after);
        let denial = Denial {
            until: asked + span(after),
            cost: 1,
            max_wait: None,
            jitter,
            decision: decision.clone(),
        };
        self.0.insert(key.key.clone(), denial);
    }

    /// Forgets a refusal that something given back may have ended.
    pub(super) fn forget(&self, key: &Key) {
        self.0.invalidate(key);
    }
}

/// Whether `one` is a longer wait than `other`; `None` is any.
fn is_longer(one: Option<Duration>, other: Option<Duration>) -> bool {
    other.is_some_and(|other| one.is_none_or(|one| one > other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::request::Request;
    use tollgate_core::time::Span;

    fn at(millis: u64) -> Time {
        Time::EPOCH + Span::from_secs(1) + Span::from_millis(millis)
    }

    fn ask(cost: u64) -> Ask {
        let request = Request::of([("tenant", "acme")]).cost(cost);
        request.prepare("shop", Duration::from_millis(50)).unwrap()
    }

    fn refused(millis: u64) -> Decision {
        Decision {
            retry_after: Some(Duration::from_millis(millis)),
            retry_advice: Some(Duration::from_millis(millis + 5)),
            ..Decision::bare(false, DecisionSource::Service)
        }
    }

    #[test]
    fn a_refusal_holds_until_the_instant_the_limiter_named() {
        let denials = Denials::new(10);
        denials.remember(&ask(2), at(0), &refused(100));
        let told = denials.find(&ask(2), || at(40)).unwrap();
        assert_eq!(told.retry_after, Some(Duration::from_millis(60)));
        assert_eq!(told.retry_advice, Some(Duration::from_millis(65)));
        assert_eq!(told.source, DecisionSource::CachedDenial);
        assert!(denials.find(&ask(3), || at(99)).is_some());
        assert!(denials.find(&ask(2), || at(100)).is_none());
    }

    #[test]
    fn smaller_costs_looks_refunds_and_the_patient_ask_the_limiter() {
        let denials = Denials::new(10);
        denials.remember(&ask(2), at(0), &refused(100));
        assert!(denials.find(&ask(1), || at(1)).is_none());
        assert!(denials.find(&ask(0), || at(1)).is_none());
        let request = || Request::of([("tenant", "acme")]).cost(2);
        let millis = |wait| request().max_wait(Duration::from_millis(wait));
        let prepared = |request: Request| request.prepare("shop", Duration::from_millis(50)).unwrap();
        assert!(denials.find(&prepared(request().into_refund()), || at(1)).is_none());
        denials.remember(&prepared(millis(50)), at(0), &refused(100));
        assert!(denials.find(&prepared(millis(50)), || at(1)).is_some());
        assert!(denials.find(&prepared(millis(51)), || at(1)).is_none());
        assert!(denials.find(&ask(2), || at(1)).is_none(), "any wait will do");
        denials.forget(&ask(2).key);
        assert!(denials.find(&ask(2), || at(1)).is_none());
    }

    #[test]
    fn admissions_and_refusals_without_a_time_are_not_kept() {
        let denials = Denials::new(10);
        let never = Decision { never: true, retry_after: None, ..refused(0) };
        denials.remember(&ask(1), at(0), &never);
        denials.remember(&ask(1), at(0), &Decision::bare(true, DecisionSource::Service));
        assert!(denials.find(&ask(1), || at(0)).is_none());
    }
}
