//! Keys cannot collide, and patterns are found as if they were tried one by one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use tollgate_core::limit::{FixedWindow, Limit, Refused, Window};
use tollgate_core::rules::{
    Accuracy, Defaults, Descriptor, DescriptorSpec, DomainSpec, KeyBuilder, Layout, Matcher, OnFailure,
    Query, Quota, RuleSpec, Shared, Unit,
};
use tollgate_core::time::Span;

type Level = (String, String, bool);

/// Texts that are likely to be confused: short, over a small alphabet, with the separators in use.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab_=*\u{0}\u{1}]{0,4}", 1 => "[a-z]{120,140}", 1 => "\\PC{0,3}"]
}

fn levels() -> impl Strategy<Value = Vec<Level>> {
    prop::collection::vec((text(), text(), any::<bool>()), 0..4)
}

fn key(domain: &str, levels: &[Level]) -> Vec<u8> {
    let mut key = KeyBuilder::rule(Layout::Tollgate, domain);
    for (name, value, shared) in levels {
        key.level(name, value, if *shared { Shared::Yes } else { Shared::No });
    }
    key.finish().as_bytes().to_vec()
}

fn rule(order: usize) -> RuleSpec {
    let window = Window::Epoch(Span::SECOND);
    let requests_per_unit = u32::try_from(order).unwrap() + 1;
    RuleSpec {
        limit: Some(Limit::FixedWindow(
            FixedWindow::new(requests_per_unit.into(), window, Refused::Counts).unwrap(),
        )),
        quota: Quota { requests_per_unit, unit: Unit::Second, multiplier: 1 },
        name: String::new(),
        replaces: Vec::new(),
        on_failure: OnFailure::Error,
        accuracy: Accuracy::Auto,
        max_hold: Span::ZERO,
    }
}

/// The definition: `*` stands for any bytes, everything else for itself.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|cut| matches(rest, &text[cut..])),
        Some((first, rest)) => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn two_requests_have_one_key_only_if_they_are_the_same(
        one_domain in text(), one in levels(), two_domain in text(), two in levels(),
    ) {
        let same = one_domain == two_domain && one == two;
        prop_assert_eq!(key(&one_domain, &one) == key(&two_domain, &two), same);
    }

    #[test]
    fn keys_are_bounded(domain in text(), levels in levels()) {
        prop_assert!(key(&domain, &levels).len() <= 256);
    }

    #[test]
    fn the_first_pattern_that_matches_wins(
        patterns in prop::collection::hash_set("[ab*]{0,3}\\*[ab*]{0,3}", 1..8),
        value in "[ab]{0,6}",
    ) {
        let patterns: Vec<String> = patterns.into_iter().collect();
        let node = |(order, pattern): (usize, &String)| DescriptorSpec {
            key: "k".into(), value: pattern.clone(), rule: Some(rule(order)), ..DescriptorSpec::default()
        };
        let descriptors = patterns.iter().enumerate().map(node).collect();
        let domain = DomainSpec { name: "d".into(), descriptors, ..DomainSpec::default() };
        let matcher = Matcher::build(vec![domain], Defaults::default()).unwrap();
        let descriptor = Descriptor { entries: [("k", value.as_str())].into_iter().collect(), ..Descriptor::default() };
        let query = Query { domain: "d", descriptors: [descriptor].into_iter().collect(), ..Query::default() };
        let plan = matcher.plan(&query);
        let found = plan.hits().first().map(|hit| hit.rule.quota.requests_per_unit as usize - 1);
        let expected = patterns.iter().position(|pattern| matches(pattern.as_bytes(), value.as_bytes()));
        prop_assert_eq!(found, expected);
    }
}
