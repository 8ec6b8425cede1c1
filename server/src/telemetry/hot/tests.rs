use std::sync::Arc;
use std::thread;

use tollgate_core::limit::{Ask, Verdict};
use tollgate_core::rules::{Answer, By, Descriptor, Matcher, Plan, Rule};
use tollgate_core::time::Span;

use super::*;
use crate::config::compile::compile;
use crate::config::rules::{Options, Source};

const RULES: &str = "domain: shop\ndescriptors:\n  - key: user\n    rate_limit: { unit: minute, requests_per_unit: 5 }\n  - key: dark\n    shadow_mode: true\n    rate_limit: { unit: minute, requests_per_unit: 5 }\n";

fn matcher() -> Matcher {
    let source = Source { name: "r.yaml".into(), bytes: RULES.into() };
    compile(&[source], &Options::default(), Default::default()).unwrap().matcher
}

fn keys() -> HotKeys {
    HotKeys::new(Stripes::for_threads(2))
}

/// One decision on one key, with `used` of 5.
fn decide(keys: &HotKeys, matcher: &Matcher, (key, value): (&str, &str), used: u64) {
    let descriptor = Descriptor { entries: [(key, value)].into_iter().collect(), ..Descriptor::default() };
    let query = Query { domain: "shop", descriptors: [descriptor].into_iter().collect(), ..Query::default() };
    let plan: Plan<'_> = matcher.plan(&query);
    let verdict = Verdict {
        allowed: used < 5,
        limit: 5,
        remaining: 5_u64.saturating_sub(used),
        used_before: used,
        used,
        retry_after: Retry::After(Span::from_millis(1_500)),
        reset_after: Span::ZERO,
        wait: Span::ZERO,
    };
    let replies = [Ok::<Answer, crate::store::Fault>(Answer { verdict, by: By::Memory })];
    keys.decided(&query, &plan.settle(&replies));
}

fn shown(sketch: &Sketch) -> Vec<(String, u64)> {
    sketch.top(9).iter().map(|frequent| (frequent.key.text.to_string(), frequent.count)).collect()
}

#[test]
fn a_refused_key_is_told_with_its_rule_and_its_figures() {
    let (keys, matcher) = (keys(), matcher());
    (0..8).for_each(|used| decide(&keys, &matcher, ("user", "ann"), used));
    decide(&keys, &matcher, ("user", "bob"), 0);
    let view = keys.view();
    assert_eq!(shown(&view.asked), [("user=ann".to_owned(), 8), ("user=bob".to_owned(), 1)]);
    assert_eq!(shown(&view.refused), [("user=ann".to_owned(), 3)]);
    let top = view.refused.top(1);
    assert_eq!((&*top[0].key.rule, &*top[0].key.domain), ("shop.user", "shop"));
    let expected = Seen { used: 7, limit: 5, retry_ms: 1_500, ..Seen::default() };
    assert_eq!((*top[0].value, top[0].error), (expected, 0));
}

#[test]
fn what_a_rule_in_shadow_would_refuse_is_told_as_such() {
    let (keys, matcher) = (keys(), matcher());
    decide(&keys, &matcher, ("dark", "x"), 9);
    let view = keys.view();
    assert!(view.refused.top(1)[0].value.shadow);
}

#[test]
fn looks_and_descriptors_without_a_limit_are_not_told() {
    let (keys, matcher) = (keys(), matcher());
    let descriptor =
        |key, hits| Descriptor { entries: [(key, "a")].into_iter().collect(), hits, ..Descriptor::default() };
    for descriptor in [descriptor("user", Some(0)), descriptor("nobody", None)] {
        let query =
            Query { domain: "shop", descriptors: [descriptor].into_iter().collect(), ..Query::default() };
        let plan = matcher.plan(&query);
        let verdict = Verdict {
            allowed: false,
            limit: 5,
            remaining: 0,
            used_before: 5,
            used: 5,
            retry_after: Retry::Never,
            reset_after: Span::ZERO,
            wait: Span::ZERO,
        };
        let replies =
            vec![Ok::<Answer, crate::store::Fault>(Answer { verdict, by: By::Memory }); plan.hits().len()];
        keys.decided(&query, &plan.settle(&replies));
    }
    assert!(keys.view().asked.is_empty() && keys.view().refused.is_empty());
}

#[test]
fn old_counts_go_after_two_generations() {
    let (keys, matcher) = (keys(), matcher());
    decide(&keys, &matcher, ("user", "ann"), 9);
    (0..GENERATION).for_each(|_| keys.turn());
    assert_eq!(keys.view().covers, GENERATION);
    decide(&keys, &matcher, ("user", "bob"), 9);
    assert_eq!(shown(&keys.view().refused).len(), 2);
    (0..GENERATION).for_each(|_| keys.turn());
    assert_eq!(shown(&keys.view().refused), [("user=bob".to_owned(), 1)]);
    assert_eq!((keys.view().now, keys.view().refused.top(1)[0].value.second), (2 * GENERATION, GENERATION));
    (0..GENERATION).for_each(|_| keys.turn());
    assert!(keys.view().refused.is_empty());
}

#[test]
fn a_busy_servers_figures_have_an_error_bar_that_holds() {
    let (keys, matcher) = (keys(), matcher());
    for round in 0..200_000 {
        let value = if round % 4 == 0 { "hot".to_owned() } else { format!("{}", round % 5_000) };
        decide(&keys, &matcher, ("user", &value), 0);
    }
    let view = keys.view();
    let top = view.asked.top(1);
    let (count, noise) = (top[0].count, top[0].value.noise());
    assert_eq!(&*top[0].key.text, "user=hot");
    assert!(noise > 0 && count + noise >= 50_000, "{count} ± {noise}");
    assert!(count.saturating_sub(top[0].error + noise) <= 50_000, "{count} ± {noise}");
    assert!(view.asked.len() <= KEYS);
}

#[test]
fn threads_are_added_up() {
    let (keys, matcher) = (Arc::new(keys()), matcher());
    thread::scope(|scope| {
        let work = || (0..100).for_each(|_| decide(&keys, &matcher, ("user", "ann"), 9));
        (0..4).for_each(|_| drop(scope.spawn(work)));
    });
    let top = shown(&keys.view().refused);
    assert_eq!(top[0].0, "user=ann");
    // threads that share a stripe may each take what the other left
    assert!((360..=440).contains(&top[0].1), "{top:?}");
}

#[test]
fn the_name_of_a_rule_is_that_of_rlconfig() {
    let matcher = matcher();
    let paths: Vec<&Rule> = matcher.rules().iter().collect();
    assert_eq!(&*paths[0].path, "shop.user");
    assert_eq!(Ask::take(1).cost, Cost::Take(1));
}

#[test]
fn the_latest_counts_and_within_one_second_the_fullest() {
    let seen = |second, used| Seen { second, used, ..Seen::default() };
    let joined = |mut one: Seen, other: Seen| {
        one.join(&other);
        one.used
    };
    assert_eq!(joined(seen(1, 9), seen(2, 1)), 1);
    assert_eq!(joined(seen(2, 1), seen(1, 9)), 1);
    assert_eq!(joined(seen(2, 4), seen(2, 2)), 4);
    assert_eq!(joined(seen(2, 2), seen(2, 4)), 4);
}
