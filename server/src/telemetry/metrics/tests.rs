use std::thread;

use tollgate_core::limit::{FixedState, FixedWindow, Limit, Refused, State, Window};
use tollgate_core::rules::{
    Accuracy, Answer, By, Defaults, DescriptorSpec, DomainSpec, OnFailure, Override, Quota, RuleSpec, Unit,
};
use tollgate_core::time::{Span, Time};

use super::*;
use crate::telemetry::meter::Tally;

const OPTIONS: MetricOptions = MetricOptions {
    near_limit_ratio: 0.8,
    reference_names: false,
    stripes: 2,
    response_time_as_milliseconds: false,
};

fn limited(key: &str, limit: Option<u32>) -> DescriptorSpec {
    let quota = Quota { requests_per_unit: limit.unwrap_or(0), unit: Unit::Hour, multiplier: 1 };
    let window = |limit: u32| FixedWindow::new(limit.into(), Window::Epoch(quota.span()), Refused::Counts);
    let rule = RuleSpec {
        limit: limit.map(|limit| Limit::FixedWindow(window(limit).unwrap())),
        quota,
        name: String::new(),
        replaces: Vec::new(),
        on_failure: OnFailure::Error,
        accuracy: Accuracy::Auto,
        max_hold: Span::ZERO,
    };
    DescriptorSpec { key: key.into(), rule: Some(rule), ..DescriptorSpec::default() }
}

fn matcher(descriptors: Vec<DescriptorSpec>) -> Matcher {
    let domain = DomainSpec { name: "shop".into(), descriptors, ..DomainSpec::default() };
    Matcher::build(vec![domain], Defaults::default()).unwrap()
}

fn rules(metrics: &Metrics, descriptors: Vec<DescriptorSpec>) -> Ruleset {
    Ruleset::new(matcher(descriptors), metrics)
}

fn query<'a>(domain: &'a str, key: &'a str, value: &'a str) -> Query<'a> {
    let descriptor = Descriptor { entries: [(key, value)].into_iter().collect(), ..Descriptor::default() };
    Query { domain, descriptors: [descriptor].into_iter().collect(), ..Query::default() }
}

/// Decides with a counter that already holds `before`, and counts the decision.
fn decide(metrics: &Metrics, rules: &Ruleset, query: &Query<'_>, before: u64) {
    let plan = rules.matcher().plan(query);
    let now = Time::from_micros(1);
    let count = FixedState { start: Time::EPOCH, end: Time::from_micros(3_600_000_000), count: before };
    let answers: Vec<_> = plan
        .hits()
        .iter()
        .map(|hit| {
            let limit = hit.rule.limit.as_ref().unwrap();
            let verdict = limit.step(Some(&State::FixedWindow(count)), now, hit.ask).verdict;
            Ok::<_, ()>(Answer { verdict, by: By::Memory })
        })
        .collect();
    metrics.decided(rules, query, &plan.settle(&answers));
}

fn tally(metrics: &Metrics, rule: &str) -> Tally {
    let rules = metrics.counts.registry.rules();
    let found = rules.iter().find(|(path, _)| &*path.rule == rule);
    found.map(|(_, counted)| counted.meter.tally()).unwrap_or_default()
}

fn reference(metrics: &Metrics, name: &str) -> Tally {
    metrics.counts.series.as_ref().unwrap().fixed(name).tally()
}

#[test]
fn a_decision_counts_for_its_rule() {
    let metrics = Metrics::new(OPTIONS);
    let rules = rules(&metrics, vec![limited("user", Some(10))]);
    decide(&metrics, &rules, &query("shop", "user", "a"), 8);
    decide(&metrics, &rules, &query("shop", "user", "a"), 10);
    let expected = Tally {
        total_hits: 2,
        within_limit: 1,
        near_limit: 1,
        over_limit: 1,
        allowed: 1,
        refused: 1,
        ..Tally::default()
    };
    assert_eq!(tally(&metrics, "user"), expected);
}

#[test]
fn a_refund_counts_alone_and_a_look_not_at_all() {
    let metrics = Metrics::new(OPTIONS);
    let rules = rules(&metrics, vec![limited("user", Some(10)), limited("free", None)]);
    for key in ["user", "free"] {
        let mut asked = query("shop", key, "a");
        asked.descriptors[0].hits = Some(0);
        decide(&metrics, &rules, &asked, 5);
        asked.descriptors[0] = Descriptor { hits: Some(3), refund: true, ..asked.descriptors[0].clone() };
        decide(&metrics, &rules, &asked, 5);
        assert_eq!(tally(&metrics, key), Tally { refunded_hits: 3, ..Tally::default() });
    }
}

#[test]
fn hits_without_a_limit_are_counted() {
    let metrics = Metrics::new(OPTIONS);
    let rules = rules(&metrics, vec![limited("free", None)]);
    let asked = Query { hits: 4, ..query("shop", "free", "a") };
    decide(&metrics, &rules, &asked, 0);
    assert_eq!(tally(&metrics, "free"), Tally { total_hits: 4, allowed: 1, ..Tally::default() });
}

#[test]
fn what_meets_no_limit_counts_for_its_domain() {
    let metrics = Metrics::new(OPTIONS);
    let rules = rules(&metrics, vec![limited("user", Some(10))]);
    decide(&metrics, &rules, &query("shop", "nobody", "a"), 0);
    decide(&metrics, &rules, &query("nowhere", "user", "a"), 0);
    let missed = metrics.counts.registry.missed();
    assert_eq!(missed, [("shop".into(), [1, 0])]);
    assert_eq!(metrics.unknown_domains(), [("nowhere".into(), 1)]);
}

#[test]
fn all_limits_that_come_with_requests_share_one_meter_per_domain() {
    let metrics = Metrics::new(OPTIONS);
    let rules = rules(&metrics, vec![limited("user", Some(10))]);
    for value in ["a", "b", "c"] {
        let mut asked = query("shop", "anything", value);
        let quota = Quota { requests_per_unit: 5, unit: Unit::Hour, multiplier: 1 };
        asked.descriptors[0].limit = Some(Box::new(Override::new(quota).unwrap()));
        decide(&metrics, &rules, &asked, 0);
    }
    assert_eq!(tally(&metrics, "override").allowed, 3);
    assert_eq!(metrics.counts.registry.rules().len(), 2);
}

#[test]
fn a_rule_keeps_its_counts_over_a_reload() {
    let metrics = Metrics::new(OPTIONS);
    let old = rules(&metrics, vec![limited("user", Some(10)), limited("route", Some(10))]);
    decide(&metrics, &old, &query("shop", "route", "a"), 0);
    let new = rules(&metrics, vec![limited("route", Some(99)), limited("user", Some(10))]);
    decide(&metrics, &old, &query("shop", "route", "a"), 0);
    decide(&metrics, &new, &query("shop", "route", "a"), 0);
    assert_eq!(tally(&metrics, "route").allowed, 3);
    assert_eq!(tally(&metrics, "user").allowed, 0);
}

#[test]
fn a_rule_that_is_gone_keeps_its_counts_only_if_it_has_any() {
    let metrics = Metrics::new(OPTIONS);
    let old = rules(&metrics, vec![limited("used", Some(10)), limited("idle", Some(10))]);
    decide(&metrics, &old, &query("shop", "used", "a"), 0);
    drop(old);
    let _new = rules(&metrics, vec![limited("user", Some(10))]);
    let mut known: Vec<_> = metrics.counts.registry.rules().into_iter().map(|(path, _)| path.rule).collect();
    known.sort_unstable();
    assert_eq!(known, ["override", "used", "user"].map(Arc::<str>::from));
}

#[test]
fn request_values_are_named_only_for_rules_that_ask_and_only_with_the_references_names() {
    let detailed = || {
        vec![
            DescriptorSpec { detailed_metric: true, ..limited("user", Some(10)) },
            limited("plain", Some(10)),
        ]
    };
    let plain = Metrics::new(OPTIONS);
    let plain_rules = rules(&plain, detailed());
    decide(&plain, &plain_rules, &query("shop", "user", "ann"), 0);
    assert!(plain.counts.series.is_none());

    let named = Metrics::new(MetricOptions { reference_names: true, ..OPTIONS });
    let named_rules = rules(&named, detailed());
    for value in ["ann", "ann", "bob"] {
        decide(&named, &named_rules, &query("shop", "user", value), 0);
        decide(&named, &named_rules, &query("shop", "plain", value), 0);
    }
    assert_eq!(reference(&named, "shop.user_ann").total_hits, 2);
    assert_eq!(reference(&named, "shop.user_bob").total_hits, 1);
    assert_eq!(tally(&named, "user").total_hits, 3);
    assert_eq!(named.counts.series.as_ref().unwrap().all().len(), 3);
}

#[test]
fn the_global_shadow_mode_is_counted_by_request() {
    let metrics = Metrics::new(OPTIONS);
    let spec = DomainSpec {
        name: "shop".into(),
        descriptors: vec![limited("user", Some(1))],
        ..DomainSpec::default()
    };
    let defaults = Defaults { shadow: true, ..Defaults::default() };
    let rules = Ruleset::new(Matcher::build(vec![spec], defaults).unwrap(), &metrics);
    decide(&metrics, &rules, &query("shop", "user", "a"), 1);
    assert_eq!(metrics.counts.shadowed.sum(0), 1);
    assert_eq!(tally(&metrics, "user").refused, 1);
}

#[test]
fn counts_are_exact_over_threads_and_reloads() {
    let metrics = Metrics::new(MetricOptions { reference_names: true, ..OPTIONS });
    let descriptors = || vec![DescriptorSpec { detailed_metric: true, ..limited("user", Some(10)) }];
    thread::scope(|scope| {
        for thread in 0..4 {
            let (metrics, descriptors) = (&metrics, &descriptors);
            scope.spawn(move || {
                let rules = rules(metrics, descriptors());
                let value = format!("{thread}");
                (0..2_000).for_each(|_| decide(metrics, &rules, &query("shop", "user", &value), 0));
            });
        }
    });
    assert_eq!(tally(&metrics, "user").total_hits, 8_000);
    assert_eq!(reference(&metrics, "shop.user_3").total_hits, 2_000);
}

#[test]
fn refusals_in_the_log_name_rules_and_no_values() {
    use std::io::Write;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let metrics = Metrics::new(OPTIONS);
    metrics.log_refusals(2);
    let rules = rules(&metrics, vec![limited("user", Some(10))]);
    let lines = Lines::default();
    let written = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
    tracing::subscriber::with_default(log, || {
        decide(&metrics, &rules, &query("shop", "user", "hunter2"), 0);
        (0..5).for_each(|_| decide(&metrics, &rules, &query("shop", "user", "hunter2"), 10));
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    // a second may end meanwhile
    assert!((2..=4).contains(&text.lines().count()), "{text}");
    assert!(text.contains(r#"refused domain="shop" rules="shop.user""#), "{text}");
    assert!(!text.contains("hunter2"));
}
