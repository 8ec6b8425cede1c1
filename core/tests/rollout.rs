//! Percentages of a rule: monotone, even, and each rule on its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use tollgate_core::limit::{FixedWindow, Limit, Refused, Window};
use tollgate_core::rules::{
    Accuracy, Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher, OnFailure, Outside, Percentage,
    Query, Quota, RolloutSpec, RuleSpec, Unit,
};
use tollgate_core::time::Span;

fn spec(name: &str, replaces: &[&str]) -> RuleSpec {
    let window = FixedWindow::new(0, Window::Epoch(Span::SECOND), Refused::Counts).unwrap();
    RuleSpec {
        limit: Some(Limit::FixedWindow(window)),
        quota: Quota { requests_per_unit: 0, unit: Unit::Second, multiplier: 1 },
        name: name.to_owned(),
        replaces: replaces.iter().map(|&name| name.to_owned()).collect(),
        on_failure: OnFailure::Error,
        accuracy: Accuracy::Auto,
        max_hold: Span::ZERO,
    }
}

fn node(key: &str, rule: RuleSpec, share: Option<u32>, outside: Outside) -> DescriptorSpec {
    let rollout =
        share.map(|millionths| RolloutSpec { share: Percentage::from_millionths(millionths), outside });
    DescriptorSpec { key: key.to_owned(), rule: Some(rule), rollout, ..DescriptorSpec::default() }
}

fn matcher(descriptors: Vec<DescriptorSpec>) -> Matcher {
    let spec = DomainSpec { name: "d".to_owned(), descriptors, ..DomainSpec::default() };
    Matcher::build(vec![spec], Defaults::default()).unwrap()
}

fn one(name: &str, share: u32) -> Matcher {
    matcher(vec![node("user", spec(name, &[]), Some(share), Outside::Shadow)])
}

/// Whether the request of each key is enforced; `None` without a limit.
fn enforced(matcher: &Matcher, entries: &[(&str, &str)]) -> Vec<bool> {
    let one = |&entry| Descriptor { entries: std::iter::once(entry).collect(), ..Descriptor::default() };
    let query = Query { domain: "d", descriptors: entries.iter().map(one).collect(), ..Query::default() };
    matcher.plan(&query).hits().iter().map(|hit| !hit.shadow).collect()
}

fn is_in(matcher: &Matcher, user: &str) -> bool {
    enforced(matcher, &[("user", user)])[0]
}

proptest! {
    #[test]
    fn who_is_in_stays_in_as_the_share_grows(user in ".{0,300}", one_share in 0..=1_000_000_u32, more in 0..=1_000_000_u32) {
        let (low, high) = (one_share.min(more), one_share.max(more));
        prop_assert!(!is_in(&one("r", low), &user) || is_in(&one("r", high), &user));
        prop_assert!(is_in(&one("r", 1_000_000), &user) && !is_in(&one("r", 0), &user));
    }

    #[test]
    fn the_share_is_right_within_five_standard_deviations(name in "[a-z]{1,8}", share in 1_000..999_000_u32) {
        let rules = one(&name, share);
        let total = 4_000_u32;
        let count = (0..total).filter(|user| is_in(&rules, &format!("user-{user}"))).count();
        let p = f64::from(share) / 1e6;
        let (expected, deviation) = (f64::from(total) * p, (f64::from(total) * p * (1.0 - p)).sqrt());
        let count = f64::from(u32::try_from(count).unwrap());
        prop_assert!((count - expected).abs() <= 5.0 * deviation + 1.0, "{count} of {expected}");
    }
}

#[test]
fn two_rules_pick_their_keys_independently() {
    let (a, b) = (one("first", 500_000), one("second", 500_000));
    let users: Vec<String> = (0..10_000).map(|user| format!("u{user}")).collect();
    let both = users.iter().filter(|user| is_in(&a, user) && is_in(&b, user)).count();
    assert!((2_250..2_750).contains(&both), "{both} of 10000 are in both halves");
}

#[test]
fn the_pick_is_fixed_for_ever() {
    let rules = one("r", 300_000);
    let picked: Vec<usize> = (0..20).filter(|user| is_in(&rules, &format!("u{user}"))).collect();
    assert_eq!(picked, [0, 7, 13, 15, 19], "servers of two versions would enforce a rule for different keys");
}

#[test]
fn outside_what_a_rule_replaces_stays_in_force() {
    let rules = |share| {
        matcher(vec![
            node("user", spec("old", &[]), None, Outside::Shadow),
            node("account", spec("new", &["old"]), Some(share), Outside::Shadow),
        ])
    };
    let asked = [("user", "ann"), ("account", "7")];
    assert_eq!(enforced(&rules(0), &asked), [true, false], "the old one, and the new one in shadow");
    assert_eq!(enforced(&rules(1_000_000), &asked), [true], "the new one has replaced the old one");
}

#[test]
fn skipped_keys_have_no_limit() {
    let rules = matcher(vec![node("user", spec("", &[]), Some(0), Outside::Skip)]);
    assert_eq!(enforced(&rules, &[("user", "ann")]), [false; 0]);
}
