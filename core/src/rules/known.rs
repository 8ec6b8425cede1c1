//! A limit that was found before: a request that is asked again need not be matched again.

use smallvec::smallvec;

use super::Rule;
use super::decision::{Answer, Decision, Outcome, Status};
use super::key::Key;
use super::matcher::Matcher;
use super::plan::{Plan, RuleRef, Slot};
use crate::limit::Ask;

/// What a matcher found for a request with one descriptor: one configured limit, which is enforced. It holds for
/// every request with the same domain and entries, whatever they cost, as long as that matcher is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Known {
    key: Key,
    /// [`Rule::id`]
    rule: usize,
    alternative: bool,
}

impl Known {
    /// What was found for the request of `plan`. `None` if that is anything but one limit.
    #[must_use]
    pub fn of(plan: &Plan<'_>) -> Option<Known> {
        let ([hit], [Slot::Hit], true) = (plan.hits(), &plan.slots[..], plan.enforced()) else { return None };
        let RuleRef::Configured(rule) = &hit.rule else { return None };
        Some(Known { key: hit.key.clone(), rule: rule.id, alternative: hit.alternative })
    }

    /// The counter.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The rule that limits it. `None` if `matcher` is not the one that found it.
    #[must_use]
    pub fn rule<'m>(&self, matcher: &'m Matcher) -> Option<&'m Rule> {
        // a rule that is rolled out in part has a twin of the same id for the keys outside
        matcher.rules().get(self.rule)?.rolled_out(self.key.as_bytes())
    }

    /// What [`Plan::settle`] says of `answer` to what was asked of `rule`.
    #[must_use]
    #[inline]
    pub fn settle<'m>(&self, rule: &'m Rule, ask: Ask, answer: Answer) -> Decision<'m> {
        let status = if answer.verdict.allowed || rule.shadow { Status::Ok } else { Status::OverLimit };
        let alternative = self.alternative;
        let outcome = Outcome::Decided { rule: RuleRef::Configured(rule), ask, answer, status, alternative };
        Decision { status, shadowed: false, enforced: true, undecided: false, outcomes: smallvec![outcome] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Cost, FixedWindow, Limit, Refused, Retry, Verdict, Window};
    use crate::rules::{
        Accuracy, By, Charge, Defaults, Descriptor, DescriptorSpec, DomainSpec, OnFailure, Outside, Query,
        Quota, RolloutSpec, RuleSpec,
    };
    use crate::time::Span;

    fn rule(limit: Option<u64>) -> RuleSpec {
        let window = Window::Epoch(Span::SECOND);
        let limit = limit.map(|limit| FixedWindow::new(limit, window, Refused::Free).unwrap());
        RuleSpec {
            limit: limit.map(Limit::FixedWindow),
            quota: Quota::default(),
            name: "n".into(),
            replaces: Vec::new(),
            on_failure: OnFailure::Error,
            accuracy: Accuracy::Auto,
            max_hold: Span::MAX,
        }
    }

    fn matcher(defaults: Defaults) -> Matcher {
        let node =
            |key: &str, rule| DescriptorSpec { key: key.into(), rule: Some(rule), ..Default::default() };
        let half = RolloutSpec { share: "50%".parse().unwrap(), outside: Outside::Shadow };
        let itself = RuleSpec { replaces: vec!["n".into()], ..rule(Some(3)) };
        let descriptors = vec![
            node("plain", rule(Some(3))),
            DescriptorSpec { shadow: true, ..node("shadow", rule(Some(3))) },
            DescriptorSpec { alternative: true, ..node("alternative", rule(Some(3))) },
            node("free", rule(None)),
            node("itself", itself),
            DescriptorSpec { rollout: Some(half), ..node("half", rule(Some(3))) },
        ];
        let charge = Charge::AllOrNothing;
        let domain = DomainSpec { name: "d".into(), charge, descriptors, ..DomainSpec::default() };
        Matcher::build(vec![domain], defaults).unwrap()
    }

    fn query(keys: &[&'static str]) -> Query<'static> {
        let descriptor = |&key: &&'static str| Descriptor {
            entries: [(key, "v")].into_iter().collect(),
            hits: Some(2),
            ..Descriptor::default()
        };
        let descriptors = keys.iter().map(descriptor).collect();
        Query { domain: "d", descriptors, patience: Span::SECOND, waits_itself: true, ..Query::default() }
    }

    fn answer(allowed: bool) -> Answer {
        let verdict = Verdict {
            allowed,
            limit: 3,
            remaining: 1,
            used_before: 0,
            used: 2,
            retry_after: Retry::After(Span::SECOND),
            reset_after: Span::SECOND,
            wait: Span::ZERO,
        };
        Answer { verdict, by: By::Memory }
    }

    #[test]
    fn a_known_limit_settles_as_its_plan_does() {
        for alternative in [false, true] {
            let matcher = matcher(Defaults { alternative, ..Defaults::default() });
            ["plain", "shadow", "alternative"].into_iter().for_each(|key| settles_alike(&matcher, key));
        }
    }

    #[test]
    fn of_a_rule_that_is_rolled_out_in_part_each_key_meets_its_side() {
        let matcher = matcher(Defaults::default());
        let mut sides = [false; 2];
        for value in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
            let mut query = query(&["half"]);
            query.descriptors[0].entries[0].1 = value;
            let shadow = alike(&matcher, &matcher.plan(&query), value);
            sides[usize::from(shadow)] = true;
        }
        assert_eq!(sides, [true; 2], "both sides were met");
    }

    fn settles_alike(matcher: &Matcher, key: &'static str) {
        alike(matcher, &matcher.plan(&query(&[key])), key);
    }

    /// Whether the rule that was met is in shadow.
    fn alike<'m>(matcher: &'m Matcher, plan: &Plan<'m>, key: &str) -> bool {
        let known = Known::of(plan).unwrap();
        assert_eq!(known.key(), &plan.hits()[0].key);
        let rule = known.rule(matcher).unwrap();
        let ask = Ask { cost: Cost::Take(2), patience: Span::SECOND };
        for answer in [answer(true), answer(false)] {
            let settled = known.settle(rule, ask, answer);
            assert_eq!(settled, plan.clone().settle(&[Ok::<_, ()>(answer)]), "{key}");
        }
        rule.shadow
    }

    #[test]
    fn only_one_enforced_limit_is_known() {
        let known = |defaults, keys| Known::of(&matcher(defaults).plan(&query(keys)));
        let plain = Defaults::default();
        assert!(known(plain, &["plain"]).is_some());
        let unknown =
            [&["free"][..], &["itself"], &["nobody"], &["plain", "shadow"], &["plain", "nobody"], &[]];
        for keys in unknown {
            assert_eq!(known(plain, keys), None, "{keys:?}");
        }
        assert_eq!(known(Defaults { shadow: true, ..plain }, &["plain"]), None, "nothing is enforced");
        let elsewhere = Query { domain: "nowhere", ..query(&["plain"]) };
        assert_eq!(Known::of(&matcher(plain).plan(&elsewhere)), None);
    }
}
