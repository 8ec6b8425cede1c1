use std::time::Duration;

use prometheus::TextEncoder;
use tollgate_core::limit::{FixedWindow, Limit, Refused, Window};
use tollgate_core::rules::{
    Answer, By, Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher, Query, Quota, RuleSpec, Unit,
};
use tollgate_core::time::Time;

use super::*;
use crate::config::ruleset::Ruleset;
use crate::telemetry::metrics::{Loaded, MetricOptions, Metrics};

fn metrics() -> Metrics {
    Metrics::new(MetricOptions {
        near_limit_ratio: 0.8,
        reference_names: true,
        stripes: 2,
        response_time_as_milliseconds: false,
    })
}

fn node(key: &str, value: &str) -> DescriptorSpec {
    DescriptorSpec { key: key.into(), value: value.into(), ..DescriptorSpec::default() }
}

/// Limits `node` to 10 an hour.
fn limited(node: DescriptorSpec) -> DescriptorSpec {
    let quota = Quota { requests_per_unit: 10, unit: Unit::Hour, multiplier: 1 };
    let window = FixedWindow::new(10, Window::Epoch(quota.span()), Refused::Counts).unwrap();
    let rule = RuleSpec {
        limit: Some(Limit::FixedWindow(window)),
        quota,
        name: String::new(),
        replaces: Vec::new(),
        on_failure: Default::default(),
        accuracy: Default::default(),
        max_hold: Default::default(),
    };
    DescriptorSpec { rule: Some(rule), ..node }
}

fn rules(metrics: &Metrics, domain: &str, descriptors: Vec<DescriptorSpec>) -> Ruleset {
    let spec = DomainSpec { name: domain.into(), descriptors, ..DomainSpec::default() };
    Ruleset::new(Matcher::build(vec![spec], Defaults::default()).unwrap(), metrics)
}

/// Takes `hits` from fresh limits.
fn take(metrics: &Metrics, rules: &Ruleset, domain: &str, entries: &[(&str, &str)], hits: u32) {
    let descriptor = Descriptor { entries: entries.iter().copied().collect(), ..Descriptor::default() };
    let query = Query { domain, hits, descriptors: [descriptor].into_iter().collect(), ..Query::default() };
    let plan = rules.matcher().plan(&query);
    let judge = |hit: &tollgate_core::rules::Hit<'_>| {
        let verdict = hit.rule.limit.as_ref().unwrap().step(None, Time::EPOCH, hit.ask).verdict;
        Ok(Answer { verdict, by: By::Memory })
    };
    let answers: Vec<Result<Answer, ()>> = plan.hits().iter().map(judge).collect();
    metrics.decided(rules, &query, &plan.settle(&answers));
}

/// The reference's lines of the page.
fn lines(metrics: &Metrics) -> Vec<String> {
    let page = metrics.render();
    page.lines().filter(|line| line.starts_with("ratelimit_")).map(ToOwned::to_owned).collect()
}

#[track_caller]
fn has(metrics: &Metrics, line: &str) {
    let lines = lines(metrics);
    assert!(lines.iter().any(|there| there == line), "no '{line}' in {lines:#?}");
}

#[test]
fn nothing_is_shown_before_it_happens() {
    let metrics = metrics();
    let _rules = rules(&metrics, "shop", vec![limited(node("user", ""))]);
    assert_eq!(lines(&metrics), [""; 0]);
}

#[test]
fn a_rule_has_its_domain_and_two_levels_as_labels() {
    let metrics = metrics();
    let deep = DescriptorSpec { descriptors: vec![limited(node("c", ""))], ..limited(node("b", "x:y")) };
    let rules =
        rules(&metrics, "shop", vec![DescriptorSpec { descriptors: vec![deep], ..limited(node("a", "")) }]);
    take(&metrics, &rules, "shop", &[("a", "1")], 9);
    take(&metrics, &rules, "shop", &[("a", "1"), ("b", "x:y")], 1);
    take(&metrics, &rules, "shop", &[("a", "1"), ("b", "x:y"), ("c", "")], 12);
    for line in [
        r#"ratelimit_service_rate_limit_total_hits{domain="shop",key1="a"} 9"#,
        r#"ratelimit_service_rate_limit_near_limit{domain="shop",key1="a"} 1"#,
        r#"ratelimit_service_rate_limit_within_limit{domain="shop",key1="a"} 9"#,
        r#"ratelimit_service_rate_limit_total_hits{domain="shop",key1="a",key2="b_x_y"} 13"#,
        r#"ratelimit_service_rate_limit_over_limit{domain="shop",key1="a",key2="b_x_y"} 2"#,
    ] {
        has(&metrics, line);
    }
}

#[test]
fn dots_break_names_as_with_the_reference() {
    let metrics = metrics();
    let rules = rules(&metrics, "my.dom", vec![limited(node("remote_address", "10.0.0.1"))]);
    take(&metrics, &rules, "my.dom", &[("remote_address", "10.0.0.1")], 1);
    let labels = r#"{domain="my",key1="dom",key2="remote_address_10_0_0_1"}"#;
    has(&metrics, &format!("ratelimit_service_rate_limit_total_hits{labels} 1"));
}

#[test]
fn request_values_are_shown_for_rules_that_ask_for_it() {
    let metrics = metrics();
    let detailed = DescriptorSpec { detailed_metric: true, ..limited(node("user", "")) };
    let rules = rules(&metrics, "shop", vec![detailed]);
    take(&metrics, &rules, "shop", &[("user", "ann")], 2);
    has(&metrics, r#"ratelimit_service_rate_limit_total_hits{domain="shop",key1="user_ann"} 2"#);
    assert!(!lines(&metrics).iter().any(|line| line.contains(r#"key1="user""#)));
}

#[test]
fn requests_errors_and_loads_have_their_names() {
    let metrics = metrics();
    metrics.request(Api::Rls, Answered::Ok);
    metrics.request(Api::Json, Answered::Error(ErrorKind::Service));
    metrics.request(Api::Json, Answered::Error(ErrorKind::Malformed));
    metrics.rls_error(ErrorKind::Store);
    metrics.response_time(Duration::from_millis(7));
    metrics.config_loaded(Loaded::default());
    metrics.config_failed();
    for line in [
        r#"ratelimit_service_total_requests{grpc_method="ShouldRateLimit"} 2"#,
        r#"ratelimit_service_should_rate_limit_error{err_type="service_error"} 1"#,
        r#"ratelimit_service_should_rate_limit_error{err_type="redis_error"} 1"#,
        r#"ratelimit_service_response_time_seconds_bucket{grpc_method="ShouldRateLimit",le="0.005"} 0"#,
        r#"ratelimit_service_response_time_seconds_bucket{grpc_method="ShouldRateLimit",le="0.01"} 1"#,
        r#"ratelimit_service_response_time_seconds_bucket{grpc_method="ShouldRateLimit",le="+Inf"} 1"#,
        r#"ratelimit_service_response_time_seconds_count{grpc_method="ShouldRateLimit"} 1"#,
        "ratelimit_service_config_load_success 1",
        "ratelimit_service_config_load_error 1",
    ] {
        has(&metrics, line);
    }
}

#[test]
fn unknown_domains_are_part_of_a_name() {
    let metrics = metrics();
    let rules = rules(&metrics, "shop", vec![limited(node("user", ""))]);
    take(&metrics, &rules, "no-where", &[("user", "ann")], 1);
    take(&metrics, &rules, "no.where", &[("user", "ann")], 1);
    has(&metrics, "ratelimit_service_rate_limit_no_where_domain_not_found 2");
}

#[test]
fn the_memory_of_the_process_is_shown_in_bytes() {
    let families: Vec<_> = memory("Name:\tx\nVmSize:\t    8 kB\nVmRSS:\t    3 kB\n").collect();
    let text = TextEncoder::new().encode_to_string(&families).unwrap();
    assert!(text.contains("process_resident_memory_bytes 3072\n"), "{text}");
    assert!(text.contains("process_virtual_memory_bytes 8192\n"), "{text}");
    assert_eq!(memory("VmRSS:\tmuch\n").count(), 0);
}
