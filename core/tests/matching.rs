//! The reference's matching, rule by rule (`docs/adr/0006`): order, depth, wildcards, replaces, overrides.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "matching/store.rs"]
mod store;

use tollgate_core::limit::{Ask, Cost, FixedWindow, Limit, Refused, Retry, Verdict, Window};
use tollgate_core::rules::{
    Accuracy, Answer, By, Charge, Decision, Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher,
    OnFailure, Outcome, Override, Query, Quota, RuleSpec, Status, Unit,
};
use tollgate_core::time::Span;

fn per_hour(requests: u32) -> RuleSpec {
    let window = Window::Epoch(Span::from_secs(3600));
    RuleSpec {
        limit: Some(Limit::FixedWindow(FixedWindow::new(requests.into(), window, Refused::Counts).unwrap())),
        quota: Quota { requests_per_unit: requests, unit: Unit::Hour, multiplier: 1 },
        name: String::new(),
        replaces: Vec::new(),
        on_failure: OnFailure::Error,
        accuracy: Accuracy::Auto,
        max_hold: Span::ZERO,
    }
}

fn unlimited() -> RuleSpec {
    RuleSpec { limit: None, quota: Quota::default(), ..per_hour(0) }
}

/// A node whose limit is told apart by its number.
fn node(key: &str, value: &str, requests: u32) -> DescriptorSpec {
    let rule = (requests > 0).then(|| per_hour(requests));
    DescriptorSpec { key: key.into(), value: value.into(), rule, ..DescriptorSpec::default() }
}

fn with(parent: DescriptorSpec, descriptors: Vec<DescriptorSpec>) -> DescriptorSpec {
    DescriptorSpec { descriptors, ..parent }
}

fn named(name: &str, replaces: &[&str], node: DescriptorSpec) -> DescriptorSpec {
    let replaces = replaces.iter().map(ToString::to_string).collect();
    let rule = node.rule.map(|rule| RuleSpec { name: name.into(), replaces, ..rule });
    DescriptorSpec { rule, ..node }
}

fn matcher(descriptors: Vec<DescriptorSpec>) -> Matcher {
    matcher_with(descriptors, Charge::Each, Defaults::default())
}

fn matcher_with(descriptors: Vec<DescriptorSpec>, charge: Charge, defaults: Defaults) -> Matcher {
    let domain = DomainSpec { name: "d".into(), charge, descriptors, ..DomainSpec::default() };
    Matcher::build(vec![domain], defaults).unwrap()
}

fn descriptor<'a>(entries: &[(&'a str, &'a str)]) -> Descriptor<'a> {
    Descriptor { entries: entries.iter().copied().collect(), ..Descriptor::default() }
}

fn query<'a>(descriptors: impl IntoIterator<Item = Descriptor<'a>>) -> Query<'a> {
    Query { domain: "d", descriptors: descriptors.into_iter().collect(), ..Query::default() }
}

/// The limit of the rule that matches `entries`; 0 if none does.
fn found(matcher: &Matcher, entries: &[(&str, &str)]) -> u32 {
    let query = query([descriptor(entries)]);
    let plan = matcher.plan(&query);
    plan.hits().first().map_or(0, |hit| hit.rule.quota.requests_per_unit)
}

/// Whether two descriptors share a counter.
fn share(matcher: &Matcher, one: &[(&str, &str)], two: &[(&str, &str)]) -> bool {
    let query = query([descriptor(one), descriptor(two)]);
    let plan = matcher.plan(&query);
    assert_eq!(plan.hits().len(), 2, "both have to be limited");
    plan.hits()[0].key == plan.hits()[1].key
}

fn verdict(allowed: bool) -> Answer {
    let verdict = Verdict {
        allowed,
        limit: 1,
        remaining: u64::from(allowed),
        used_before: 0,
        used: 1,
        retry_after: if allowed { Retry::After(Span::ZERO) } else { Retry::After(Span::SECOND) },
        reset_after: Span::SECOND,
        wait: Span::ZERO,
    };
    Answer { verdict, by: By::Memory }
}

fn settled<'m>(matcher: &'m Matcher, query: &Query<'_>, allowed: &[bool]) -> Decision<'m> {
    let plan = matcher.plan(query);
    let answers: Vec<Answer> = allowed.iter().map(|&allowed| verdict(allowed)).collect();
    assert_eq!(plan.hits().len(), answers.len());
    let answers: Vec<Result<Answer, ()>> = answers.into_iter().map(Ok).collect();
    plan.settle(&answers)
}

#[test]
fn exact_beats_wildcard_beats_key() {
    let matcher = matcher(vec![node("k", "", 1), node("k", "v*", 2), node("k", "val", 3)]);
    assert_eq!(found(&matcher, &[("k", "val")]), 3);
    assert_eq!(found(&matcher, &[("k", "vx")]), 2);
    assert_eq!(found(&matcher, &[("k", "x")]), 1);
    assert_eq!(found(&matcher, &[("k", "")]), 1);
    assert_eq!(found(&matcher, &[("other", "val")]), 0);
}

#[test]
fn the_first_wildcard_in_the_file_wins() {
    let matcher = matcher(vec![node("k", "a*", 1), node("k", "ab*", 2), node("k", "*d", 3)]);
    assert_eq!(found(&matcher, &[("k", "abd")]), 1);
    assert_eq!(found(&matcher, &[("k", "bd")]), 3);
}

#[test]
fn a_star_in_the_key_matches_across_the_underscore() {
    let matcher = matcher(vec![node("star*", "", 1)]);
    assert_eq!(found(&matcher, &[("starX", "y")]), 1);
    assert_eq!(found(&matcher, &[("star", "zz")]), 1);
    assert_eq!(found(&matcher, &[("sta", "r")]), 0);
}

#[test]
fn an_empty_value_meets_a_wildcard_that_matches_nothing() {
    let matcher = matcher(vec![node("k", "**", 1)]);
    assert_eq!(found(&matcher, &[("k", "")]), 1);
}

#[test]
fn the_limit_has_to_sit_at_the_depth_of_the_last_entry() {
    let matcher = matcher(vec![with(node("a", "", 1), vec![with(node("b", "", 0), vec![node("c", "", 3)])])]);
    assert_eq!(found(&matcher, &[("a", "x")]), 1);
    assert_eq!(found(&matcher, &[("a", "x"), ("b", "y")]), 0);
    assert_eq!(found(&matcher, &[("a", "x"), ("b", "y"), ("c", "z")]), 3);
    assert_eq!(found(&matcher, &[("a", "x"), ("b", "y"), ("c", "z"), ("d", "w")]), 0);
    assert_eq!(found(&matcher, &[("b", "y")]), 0);
    assert_eq!(found(&matcher, &[]), 0);
}

#[test]
fn there_is_no_way_back_to_a_less_specific_sibling() {
    let matcher = matcher(vec![
        with(node("k", "", 1), vec![node("sub", "", 2)]),
        node("k", "val", 0),
        with(node("k", "w*", 0), vec![node("other", "", 4)]),
    ]);
    assert_eq!(found(&matcher, &[("k", "val")]), 0, "an exact value without a limit is an exception");
    assert_eq!(found(&matcher, &[("k", "val"), ("sub", "x")]), 0);
    assert_eq!(found(&matcher, &[("k", "w1"), ("sub", "x")]), 0);
    assert_eq!(found(&matcher, &[("k", "x"), ("sub", "x")]), 2);
}

#[test]
fn composite_texts_match_however_they_were_cut_but_count_apart() {
    let matcher = matcher(vec![node("foo_bar", "", 1), node("a", "b_c", 2)]);
    assert_eq!(found(&matcher, &[("foo", "bar")]), 1);
    assert_eq!(found(&matcher, &[("a_b", "c")]), 2);
    assert!(!share(&matcher, &[("a", "b_c")], &[("a_b", "c")]));
}

#[test]
fn each_value_counts_apart_unless_the_threshold_is_shared() {
    let shared = DescriptorSpec { share_threshold: true, ..node("files", "img/*", 1) };
    let level = DescriptorSpec { share_threshold: true, ..node("dir", "a*", 0) };
    let matcher = matcher(vec![node("k", "v*", 1), shared, with(level, vec![node("user", "", 2)])]);
    assert!(!share(&matcher, &[("k", "v1")], &[("k", "v2")]));
    assert!(share(&matcher, &[("files", "img/1")], &[("files", "img/2")]));
    assert!(share(&matcher, &[("dir", "a1"), ("user", "u")], &[("dir", "a2"), ("user", "u")]));
    assert!(!share(&matcher, &[("dir", "a1"), ("user", "u")], &[("dir", "a2"), ("user", "v")]));
}

#[test]
fn a_value_that_is_literally_the_pattern_counts_apart() {
    let shared = DescriptorSpec { share_threshold: true, ..node("files", "img/*", 1) };
    let matcher = matcher(vec![shared]);
    assert!(!share(&matcher, &[("files", "img/*")], &[("files", "img/1")]));
}

#[test]
fn replaces_drops_the_named_rules_of_the_request() {
    let a = named("a", &[], node("a", "", 1));
    let b = named("b", &["a"], node("b", "", 2));
    let c = named("c", &["b"], node("c", "", 3));
    let matcher = matcher(vec![a, b, c]);
    let both = query([descriptor(&[("a", "x")]), descriptor(&[("b", "x")])]);
    let decision = settled(&matcher, &both, &[true]);
    assert_eq!(decision.outcomes[0], Outcome::Replaced);
    assert!(matches!(&decision.outcomes[1], Outcome::Decided { rule, .. } if *rule.name == *"b"));
    // a dropped rule still drops the ones that it names
    let chain = query([descriptor(&[("a", "x")]), descriptor(&[("b", "x")]), descriptor(&[("c", "x")])]);
    let decision = settled(&matcher, &chain, &[true]);
    assert_eq!(decision.outcomes[0], Outcome::Replaced);
    assert_eq!(decision.outcomes[1], Outcome::Replaced);
}

#[test]
fn rules_that_replace_each_other_are_both_dropped() {
    let matcher = matcher(vec![named("a", &["b"], node("a", "", 1)), named("b", &["a"], node("b", "", 2))]);
    let both = query([descriptor(&[("a", "x")]), descriptor(&[("b", "x")])]);
    assert!(settled(&matcher, &both, &[]).allowed());
}

#[test]
fn an_unlimited_rule_replaces_but_cannot_be_replaced() {
    let free = DescriptorSpec { rule: Some(unlimited()), ..node("free", "", 0) };
    let free = named("free", &["a"], free);
    let a = named("a", &["free"], node("a", "", 1));
    let matcher = matcher(vec![free, a]);
    let both = query([descriptor(&[("free", "x")]), descriptor(&[("a", "x")])]);
    let decision = settled(&matcher, &both, &[]);
    assert!(matches!(decision.outcomes[0], Outcome::Unlimited(_)));
    assert_eq!(decision.outcomes[1], Outcome::Replaced);
}

#[test]
fn hits_come_from_the_descriptor_then_from_the_request_then_are_one() {
    let matcher = matcher(vec![node("k", "", 1)]);
    let cost = |hits: u32, own: Option<u64>, refund: bool| {
        let descriptor = Descriptor { hits: own, refund, ..descriptor(&[("k", "v")]) };
        let query = Query { hits, ..query([descriptor]) };
        matcher.plan(&query).hits()[0].ask.cost
    };
    assert_eq!(cost(0, None, false), Cost::Take(1));
    assert_eq!(cost(7, None, false), Cost::Take(7));
    assert_eq!(cost(7, Some(0), false), Cost::Take(0));
    assert_eq!(cost(7, Some(3), true), Cost::Refund(3));
    assert_eq!(cost(7, None, true), Cost::Refund(7));
}

fn override_of(requests_per_unit: u32, unit: Unit, multiplier: u32) -> Option<Box<Override>> {
    Some(Box::new(Override::new(Quota { requests_per_unit, unit, multiplier }).unwrap()))
}

#[test]
fn an_override_goes_before_every_rule_and_needs_none() {
    let shadow = DescriptorSpec { shadow: true, ..node("k", "", 1) };
    let matcher = matcher(vec![shadow]);
    let limit = override_of(9, Unit::Week, 2);
    let query = query([
        Descriptor { limit: limit.clone(), ..descriptor(&[("k", "v")]) },
        Descriptor { limit: limit.clone(), ..descriptor(&[("nobody", "knows")]) },
        Descriptor { limit, ..Descriptor::default() },
    ]);
    let plan = matcher.plan(&query);
    assert_eq!(plan.hits().len(), 3);
    assert!(plan.hits().iter().all(|hit| hit.rule.quota.requests_per_unit == 9 && !hit.shadow));
    assert_eq!(plan.hits()[0].rule.limit.as_ref().unwrap().capacity(), 9);
}

#[test]
fn an_override_shares_the_counter_of_the_rule_with_the_same_window() {
    let matcher = matcher(vec![node("k", "", 1)]);
    let shares = |unit: Unit, multiplier: u32| {
        let limit = override_of(9, unit, multiplier);
        let query = query([descriptor(&[("k", "v")]), Descriptor { limit, ..descriptor(&[("k", "v")]) }]);
        let plan = matcher.plan(&query);
        plan.hits()[0].key == plan.hits()[1].key
    };
    assert!(shares(Unit::Hour, 1));
    assert!(shares(Unit::Minute, 60));
    assert!(!shares(Unit::Minute, 1));
    assert!(!shares(Unit::Hour, 2));
}

#[test]
fn an_unknown_domain_limits_nothing_not_even_an_override() {
    let matcher = matcher(vec![node("k", "", 1)]);
    let limited = Descriptor { limit: override_of(0, Unit::Hour, 1), ..descriptor(&[("k", "v")]) };
    let query = Query { domain: "nobody", ..query([limited, Descriptor::default()]) };
    let decision = settled(&matcher, &query, &[]);
    assert!(decision.allowed());
    assert!(decision.outcomes.iter().all(|outcome| *outcome == Outcome::UnknownDomain));
}

#[test]
fn shadow_counts_and_never_refuses() {
    let matcher = matcher(vec![DescriptorSpec { shadow: true, ..node("s", "", 1) }, node("k", "", 2)]);
    let both = query([descriptor(&[("s", "x")]), descriptor(&[("k", "x")])]);
    let decision = settled(&matcher, &both, &[false, true]);
    assert!(decision.allowed());
    assert!(matches!(decision.outcomes[0], Outcome::Decided { status: Status::Ok, .. }));
    assert!(!settled(&matcher, &both, &[true, false]).allowed());
}

#[test]
fn global_shadow_changes_only_the_overall_status() {
    let defaults = Defaults { shadow: true, ..Defaults::default() };
    let matcher = matcher_with(vec![node("k", "", 2)], Charge::AllOrNothing, defaults);
    let query = query([descriptor(&[("k", "x")])]);
    assert_eq!(
        matcher.plan(&query).charge(),
        Charge::Admitted,
        "a request that passes charges who admits it"
    );
    let decision = settled(&matcher, &query, &[false]);
    assert!(decision.allowed() && decision.shadowed);
    assert!(matches!(decision.outcomes[0], Outcome::Decided { status: Status::OverLimit, .. }));
}

#[test]
fn alternatives_refuse_only_together() {
    let quota = |key: &str| DescriptorSpec { alternative: true, ..node(key, "", 1) };
    let matcher = matcher(vec![quota("q"), quota("r"), node("k", "", 2)]);
    let allowed = |keys: &[&'static str], verdicts: &[bool]| {
        let query =
            query(keys.iter().map(|key| Descriptor {
                entries: [(*key, "x")].into_iter().collect(),
                ..Descriptor::default()
            }));
        settled(&matcher, &query, verdicts).allowed()
    };
    assert!(allowed(&["q", "r"], &[false, true]));
    assert!(!allowed(&["q", "r"], &[false, false]));
    assert!(!allowed(&["q", "r", "k"], &[true, true, false]));
    assert!(!allowed(&["q", "k"], &[false, true]));
    assert!(!allowed(&["q", "unmatched"], &[false]), "a descriptor without a rule is no alternative");
}

#[test]
fn with_the_global_quota_mode_an_unmatched_descriptor_is_an_open_alternative() {
    let defaults = Defaults { alternative: true, ..Defaults::default() };
    let matcher = matcher_with(vec![node("k", "", 1)], Charge::Each, defaults);
    let unmatched = query([descriptor(&[("k", "x")]), descriptor(&[("other", "x")])]);
    assert!(settled(&matcher, &unmatched, &[false]).allowed());
    assert!(!settled(&matcher, &query([descriptor(&[("k", "x")])]), &[false]).allowed());
}

#[test]
fn the_same_siblings_twice_are_an_error() {
    let domain = |descriptors| DomainSpec { name: "d".into(), descriptors, ..DomainSpec::default() };
    let twice = vec![node("a", "b_c", 1), node("a_b", "c", 1)];
    let error = Matcher::build(vec![domain(twice)], Defaults::default()).unwrap_err();
    assert_eq!(error.to_string(), "duplicate descriptor composite key 'd.a_b_c'");
    let error = Matcher::build(vec![domain(vec![]), domain(vec![])], Defaults::default()).unwrap_err();
    assert_eq!(error.to_string(), "duplicate domain 'd' in config file");
}

#[test]
fn a_leaky_bucket_waits_no_longer_than_the_caller_and_the_rule_allow() {
    let rule = RuleSpec { max_hold: Span::from_millis(15), ..per_hour(1) };
    let matcher = matcher(vec![DescriptorSpec { rule: Some(rule), ..node("k", "", 0) }]);
    let patience = |patience: Span| {
        let query = Query { patience, ..query([descriptor(&[("k", "x")])]) };
        let Ask { patience, .. } = matcher.plan(&query).hits()[0].ask;
        patience
    };
    assert_eq!(patience(Span::MAX), Span::from_millis(15));
    assert_eq!(patience(Span::from_millis(7)), Span::from_millis(7));
}
