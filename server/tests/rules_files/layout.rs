//! What rules may be when their counters are shared with the reference.

use tollgate_core::rules::{Defaults, Layout};
use tollgate_server::config::compile::compile;
use tollgate_server::config::rules::{self, Options, Source};

use super::{errors_of, shown, source, with_descriptor};

fn errors_with(layout: Layout, text: &str) -> Vec<String> {
    let sources = [source("a.yaml", text)];
    rules::load(&sources, &Options::default(), layout).map_or_else(|errors| shown(&errors), |_| Vec::new())
}

/// The errors of a rule with these fields, from line 4, column 18 on.
fn rule_errors(fields: &str) -> Vec<String> {
    errors_with(Layout::Reference, &with_descriptor(&format!("rate_limit: {{{fields}}}")))
}

#[test]
fn rules_of_the_reference_and_what_changes_no_counter_load() {
    for fields in [
        "unit: day, requests_per_unit: 1",
        "unit: day, requests_per_unit: 1, algorithm: fixed_window",
        "unit: day, requests_per_unit: 1, unit_multiplier: 5",
        "unit: day, requests_per_unit: 1, anchored: false",
        "unit: day, requests_per_unit: 1, time_zone: ~",
        "unit: day, requests_per_unit: 1, accuracy: auto, on_failure: local",
        "unit: day, requests_per_unit: 1, accuracy: strict",
        "unlimited: true",
    ] {
        assert_eq!(rule_errors(fields), [""; 0], "{fields}");
    }
    for root in ["", "charge: each\n", "on_overload: deny\n"] {
        assert_eq!(errors_with(Layout::Reference, &format!("domain: d\n{root}")), [""; 0], "{root}");
    }
}

#[test]
fn what_the_reference_cannot_count_is_an_error_with_its_place() {
    for (fields, key, column, why) in [
        ("algorithm: token_bucket", "algorithm", 62, "has fixed windows only"),
        ("algorithm: leaky_bucket, queue: 1", "algorithm", 62, "has fixed windows only"),
        ("algorithm: sliding_window", "algorithm", 62, "has fixed windows only"),
        ("algorithm: sliding_window, precision: log", "algorithm", 62, "has fixed windows only"),
        ("time_zone: UTC", "time_zone", 62, "has no windows in a time zone"),
        ("anchored: true", "anchored", 61, "has no anchored windows"),
        ("accuracy: leased", "accuracy", 61, "has no leases"),
    ] {
        let fields = format!("unit: day, requests_per_unit: 1, {fields}");
        assert_eq!(
            rule_errors(&fields),
            [format!(
                "a.yaml:4:{column}: store.redis.layout = \"reference\" {why} (at d: descriptors[0].rate_limit.{key})"
            )]
        );
        assert_eq!(errors_of(with_descriptor(&format!("rate_limit: {{{fields}}}"))), [""; 0], "{fields}");
    }
}

#[test]
fn every_limit_is_charged() {
    for (charge, partition) in
        [("admitted", ""), ("all_or_nothing", ""), ("all_or_nothing", "partition: tenant\n")]
    {
        let text = format!("domain: d\ncharge: {charge}\n{partition}");
        assert_eq!(
            errors_with(Layout::Reference, &text),
            ["a.yaml:2:9: store.redis.layout = \"reference\" has charge: each only (at d: charge)"]
        );
        assert_eq!(errors_with(Layout::Tollgate, &text), [""; 0]);
    }
}

#[test]
fn every_error_is_reported_at_once() {
    let text = "domain: d\ncharge: admitted\ndescriptors:\n- key: a\n  rate_limit: {unit: day, requests_per_unit: 1, \
                time_zone: UTC, accuracy: leased}\n  descriptors:\n  - key: b\n    rate_limit: {unit: day, \
                requests_per_unit: 1, algorithm: token_bucket}\n";
    let errors = errors_with(Layout::Reference, text);
    let places: Vec<&str> = errors.iter().filter_map(|error| error.split(": ").next()).collect();
    assert_eq!(places, ["a.yaml:2:9", "a.yaml:5:60", "a.yaml:5:75", "a.yaml:8:62"]);
}

#[test]
fn a_wrong_word_is_still_the_only_error() {
    let errors = rule_errors("unit: day, requests_per_unit: 1, algorithm: bucket");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("algorithm 'bucket' is none of"), "{errors:?}");
    let errors = rule_errors("unit: day, requests_per_unit: 1, algorithm: {}");
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn the_layout_comes_with_the_defaults_of_all_rules() {
    let text = with_descriptor("rate_limit: {unit: day, requests_per_unit: 1, algorithm: token_bucket}");
    let sources: [Source; 1] = [source("a.yaml", text)];
    let compiled =
        |layout| compile(&sources, &Options::default(), Defaults { layout, ..Defaults::default() });
    assert_eq!(compiled(Layout::Tollgate).unwrap().matcher.rules().len(), 1);
    assert_eq!(compiled(Layout::Reference).unwrap_err().len(), 1);
}
