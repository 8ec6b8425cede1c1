//! `charge` and `partition`.

use tollgate_core::limit::{FixedWindow, Limit, Refused};
use tollgate_core::rules::Charge;

use super::{errors_of, load_one, sound};

#[test]
fn charge_and_partition() {
    for (text, charge) in [
        ("", Charge::Each),
        ("charge: ~", Charge::Each),
        ("charge: each", Charge::Each),
        ("charge: admitted", Charge::Admitted),
        ("charge: all_or_nothing\npartition: t", Charge::AllOrNothing),
    ] {
        assert_eq!(sound(&format!("domain: d\n{text}\n")).charge, charge);
    }
    let spec = sound("domain: d\ncharge: all_or_nothing\npartition: tenant\n");
    assert_eq!(spec.partition.as_deref(), Some("tenant"));
    let warned = load_one("domain: d\ncharge: all_or_nothing\n").unwrap().warnings;
    assert!(warned[0].text.starts_with("charge: all_or_nothing without partition: on Redis Cluster"));
    assert_eq!(
        errors_of("domain: d\ncharge: some\n"),
        ["a.yaml:2:9: charge 'some' is none of each, admitted, all_or_nothing (at d: charge)"]
    );
    for charge in ["", "charge: each", "charge: admitted"] {
        let errors = errors_of(format!("domain: d\npartition: t\n{charge}\n"));
        assert_eq!(errors, ["a.yaml:2:12: partition needs charge: all_or_nothing (at d: partition)"]);
    }
}

#[test]
fn only_fixed_windows_of_each_count_what_they_refuse() {
    let refused = |charge: &str, window: &str| {
        let text = format!(
            "domain: d\n{charge}\ndescriptors:\n- key: k\n  rate_limit: {{unit: day, requests_per_unit: 1, {window}}}\n"
        );
        match sound(&text).descriptors[0].rule.as_ref().and_then(|rule| rule.limit.clone()) {
            Some(Limit::FixedWindow(limit)) => {
                limit == FixedWindow::new(1, limit.window().clone(), Refused::Counts).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    for window in ["name: x", "anchored: true", "time_zone: UTC"] {
        assert!(refused("", window));
        assert!(refused("charge: each", window));
        assert!(!refused("charge: admitted", window));
        assert!(!refused("charge: all_or_nothing\npartition: t", window));
    }
}

#[test]
fn an_explicit_each_is_for_fixed_windows() {
    for algorithm in ["token_bucket", "leaky_bucket", "sliding_window"] {
        let rule = format!(
            "descriptors:\n- key: k\n  rate_limit: {{unit: day, requests_per_unit: 1, algorithm: {algorithm}}}\n"
        );
        let errors = errors_of(format!("domain: d\ncharge: each\n{rule}"));
        assert_eq!(
            errors,
            [
                "a.yaml:5:60: charge: each is for fixed windows only: other algorithms never charge what they refuse (at d: descriptors[0].rate_limit.algorithm)"
            ]
        );
        for charge in ["", "charge: admitted", "charge: all_or_nothing"] {
            assert!(load_one(format!("domain: d\n{charge}\n{rule}")).is_ok(), "{algorithm} {charge}");
        }
    }
}
