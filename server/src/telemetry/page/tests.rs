use std::sync::Arc;

use tollgate_core::rules::{Defaults, DescriptorSpec, DomainSpec, Hit, Matcher, Query, RuleSpec};

use tollgate_core::time::Time;

use super::*;
use crate::config::ruleset::Ruleset;
use crate::store::{Charging, Clearing, Forgetting, Full, Replies, Request, Store, Usage};
use crate::telemetry::metrics::{
    Answered, Api, Authorities, ConnectionKind, ErrorKind, Loaded, MetricOptions, Metrics,
};

struct Stuffed;

impl Store for Stuffed {
    fn charge<'a>(&'a self, _: Request<'a>) -> Charging<'a> {
        Box::pin(std::future::ready(Replies::new()))
    }

    fn forget<'a>(&'a self, _: &'a [Hit<'a>], _: Time) -> Forgetting<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear(&self) -> Clearing<'_> {
        Box::pin(std::future::ready(Ok(7)))
    }

    fn usage(&self) -> Usage {
        Usage {
            keys: 7,
            bytes: 800,
            full: Full { denied: 1, allowed: 2, evicted: 3 },
            swept: 9,
            ..Usage::default()
        }
    }
}

fn metrics(reference_names: bool) -> Metrics {
    let (near_limit_ratio, stripes, response_time_as_milliseconds) = (0.8, 2, false);
    Metrics::new(MetricOptions { near_limit_ratio, reference_names, stripes, response_time_as_milliseconds })
}

/// Rules without limits, `rules` of them.
fn unlimited(metrics: &Metrics, rules: usize) -> Ruleset {
    let descriptor = |number: usize| {
        let rule = RuleSpec {
            limit: None,
            quota: Default::default(),
            name: String::new(),
            replaces: Vec::new(),
            on_failure: Default::default(),
            accuracy: Default::default(),
            max_hold: Default::default(),
        };
        DescriptorSpec { key: format!("k{number}"), rule: Some(rule), ..DescriptorSpec::default() }
    };
    let spec = DomainSpec {
        name: "shop".into(),
        descriptors: (0..rules).map(descriptor).collect(),
        ..DomainSpec::default()
    };
    Ruleset::new(Matcher::build(vec![spec], Defaults::default()).unwrap(), metrics)
}

fn ask_each(metrics: &Metrics, rules: &Ruleset, domain: &str) {
    for number in 0..rules.matcher().rules().len() {
        let key = format!("k{number}");
        let descriptor = tollgate_core::rules::Descriptor {
            entries: [(key.as_str(), "v")].into_iter().collect(),
            ..Default::default()
        };
        let query = Query { domain, descriptors: [descriptor].into_iter().collect(), ..Query::default() };
        metrics.decided(rules, &query, &rules.matcher().plan(&query).settle::<()>(&[]));
    }
}

#[track_caller]
fn has(page: &str, line: &str) {
    assert!(page.lines().any(|there| there == line), "no line '{line}' in\n{page}");
}

#[test]
fn the_page_shows_what_was_counted() {
    let metrics = metrics(false);
    let rules = unlimited(&metrics, 1);
    ask_each(&metrics, &rules, "shop");
    metrics.request(Api::Rls, Answered::Ok);
    metrics.rls_error(ErrorKind::Service);
    metrics.config_loaded(Loaded { at: Time::from_micros(5_000_000), rules: 3, domains: 2, warnings: 1 });
    metrics.config_failed();
    metrics.watch_authorities(|| Authorities { mended: 4, reencoded: 0, stopped: 1 });
    let _open = metrics.connected(ConnectionKind::Grpc);
    let _held = metrics.holding();
    metrics.watch_store(Arc::new(Stuffed));
    let page = metrics.render();
    for line in [
        "# TYPE tollgate_decisions_total counter",
        r#"tollgate_decisions_total{domain="shop",outcome="allowed",rule="k0"} 1"#,
        r#"tollgate_decisions_total{domain="shop",outcome="refused",rule="k0"} 0"#,
        r#"tollgate_hits_total{domain="shop",kind="total",rule="k0"} 1"#,
        r#"tollgate_unmatched_total{domain="shop"} 0"#,
        r#"tollgate_requests_total{api="rls",result="ok"} 1"#,
        r#"tollgate_requests_total{api="rls",result="service_error"} 1"#,
        r#"tollgate_config_loads_total{result="success"} 1"#,
        r#"tollgate_config_loads_total{result="error"} 1"#,
        "tollgate_config_last_load_ok 0",
        "tollgate_config_last_good_timestamp_seconds 5",
        r#"tollgate_config_entries{kind="warnings"} 1"#,
        r#"tollgate_authorities_total{done="mended"} 4"#,
        r#"tollgate_authorities_total{done="stopped"} 1"#,
        r#"tollgate_connections{kind="grpc"} 1"#,
        "tollgate_held 1",
        "tollgate_store_keys 7",
        "tollgate_store_bytes 800",
        r#"tollgate_store_full_total{answer="evicted"} 3"#,
        "tollgate_store_swept_total 9",
    ] {
        has(&page, line);
    }
    assert!(!page.contains("ratelimit_") && !page.contains("otel_") && !page.contains("target_info"));
}

#[test]
fn text_of_requests_is_never_a_label_of_ours() {
    let metrics = metrics(false);
    let rules = unlimited(&metrics, 1);
    ask_each(&metrics, &rules, "nowhere");
    let page = metrics.render();
    has(&page, "tollgate_unknown_domain_total 1");
    assert!(!page.contains("nowhere"));
}

#[test]
fn five_thousand_rules_have_their_own_series() {
    let metrics = metrics(true);
    let rules = unlimited(&metrics, 5_000);
    ask_each(&metrics, &rules, "shop");
    let page = metrics.render();
    let series = |name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series("tollgate_decisions_total{"), 15_000);
    assert_eq!(series("tollgate_hits_total{"), 30_000);
    assert_eq!(series("ratelimit_service_rate_limit_total_hits{"), 5_000);
    assert!(!page.contains("overflow"));
}

#[test]
fn the_page_is_prometheus_text() {
    assert_eq!(CONTENT_TYPE, "text/plain; version=0.0.4");
    assert!(metrics(true).render().ends_with('\n'));
}
