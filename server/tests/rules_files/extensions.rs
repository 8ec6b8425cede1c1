//! The keys that the reference does not know.

use tollgate_core::limit::{
    Calendar, CalendarUnit, FixedWindow, LeakyBucket, Limit, Rate, Refused, SlidingLog, SlidingWindow,
    TokenBucket, Window,
};
use tollgate_core::rules::{Accuracy, OnFailure};
use tollgate_core::time::Span;

use super::{errors_of, rule, rule_errors};

const DAY: Span = Span::from_secs(86_400);
const FIVE_DAYS: Span = Span::from_secs(5 * 86_400);

fn limit(fields: &str) -> Limit {
    match rule(fields).limit {
        Some(limit) => limit,
        None => panic!("{fields}: unlimited"),
    }
}

fn fixed(limit: u64, window: Window, refused: Refused) -> Limit {
    Limit::FixedWindow(FixedWindow::new(limit, window, refused).unwrap())
}

/// The only error of a rule with these fields: its column and its text, the key it is about taken off.
fn error(fields: &str, key: &str) -> (usize, String) {
    let errors = rule_errors(fields);
    assert_eq!(errors.len(), 1, "{fields}: {errors:?}");
    let path = format!(" (at d: descriptors[0].rate_limit.{key})");
    let Some(rest) = errors[0].strip_prefix("a.yaml:4:").and_then(|rest| rest.strip_suffix(&path)) else {
        panic!("{fields}: {errors:?}")
    };
    match rest.split_once(": ") {
        Some((column, text)) => (column.parse().unwrap(), text.to_owned()),
        None => panic!("{fields}: {errors:?}"),
    }
}

/// The column of the last value in `fields`.
fn last_column(fields: &str) -> usize {
    18 + fields.rfind(": ").unwrap() + 2
}

#[test]
fn algorithms() {
    let fields = "unit: day, requests_per_unit: 6";
    let rate = Rate::new(6, DAY).unwrap();
    let five = Rate::new(6, FIVE_DAYS).unwrap();
    for (more, expected) in [
        ("", fixed(6, Window::Epoch(DAY), Refused::Counts)),
        ("algorithm: fixed_window", fixed(6, Window::Epoch(DAY), Refused::Counts)),
        ("unit_multiplier: 5", fixed(6, Window::Epoch(FIVE_DAYS), Refused::Counts)),
        ("anchored: yes", fixed(6, Window::Anchored(DAY), Refused::Counts)),
        ("algorithm: token_bucket", Limit::TokenBucket(TokenBucket::new(rate, 6).unwrap())),
        ("algorithm: token_bucket, burst: 0x10", Limit::TokenBucket(TokenBucket::new(rate, 16).unwrap())),
        (
            "algorithm: token_bucket, unit_multiplier: 5",
            Limit::TokenBucket(TokenBucket::new(five, 6).unwrap()),
        ),
        ("algorithm: leaky_bucket", Limit::LeakyBucket(LeakyBucket::new(rate, 0).unwrap())),
        ("algorithm: leaky_bucket, queue: 7", Limit::LeakyBucket(LeakyBucket::new(rate, 7).unwrap())),
        ("algorithm: sliding_window", Limit::SlidingWindow(SlidingWindow::new(6, DAY).unwrap())),
        (
            "algorithm: sliding_window, precision: counter",
            Limit::SlidingWindow(SlidingWindow::new(6, DAY).unwrap()),
        ),
        ("algorithm: sliding_window, precision: log", Limit::SlidingLog(SlidingLog::new(6, DAY).unwrap())),
    ] {
        assert_eq!(limit(&format!("{fields}, {more}")), expected, "{more}");
    }
    let berlin = Calendar::new(CalendarUnit::Day, 2, "Europe/Berlin").unwrap();
    assert_eq!(
        limit(&format!("{fields}, unit_multiplier: 2, time_zone: Europe/Berlin")),
        fixed(6, Window::Calendar(berlin), Refused::Counts)
    );
}

#[test]
fn other_keys() {
    let fields = "unit: day, requests_per_unit: 6, ";
    for (text, expected) in [
        ("error", OnFailure::Error),
        ("allow", OnFailure::Allow),
        ("deny", OnFailure::Deny),
        ("local", OnFailure::Local),
    ] {
        assert_eq!(rule(&format!("{fields}on_failure: {text}")).on_failure, expected);
        assert_eq!(rule(&format!("unlimited: true, on_failure: {text}")).on_failure, expected);
    }
    for (text, expected) in
        [("auto", Accuracy::Auto), ("strict", Accuracy::Strict), ("leased", Accuracy::Leased)]
    {
        assert_eq!(rule(&format!("{fields}accuracy: {text}")).accuracy, expected);
    }
    for (text, expected) in [
        ("15ms", 15_000),
        ("1s", 1_000_000),
        ("1m30s", 90_000_000),
        ("150us", 150),
        ("0", 0),
        ("'1.5s'", 1_500_000),
    ] {
        let hold = rule(&format!("{fields}algorithm: leaky_bucket, max_hold: {text}")).max_hold;
        assert_eq!(hold, Span::from_micros(expected), "{text}");
    }
    let plain = rule(&format!("{fields}name: x"));
    assert_eq!(
        (plain.on_failure, plain.accuracy, plain.max_hold),
        (OnFailure::Error, Accuracy::Auto, Span::ZERO)
    );
}

#[test]
fn nothing_per_unit_refuses_everything_whatever_the_algorithm() {
    for (algorithm, refused) in [
        ("fixed_window", Refused::Counts),
        ("token_bucket", Refused::Free),
        ("leaky_bucket, queue: 5", Refused::Free),
        ("sliding_window", Refused::Free),
        ("sliding_window, precision: log", Refused::Free),
    ] {
        let limit = limit(&format!("unit: day, requests_per_unit: 0, algorithm: {algorithm}"));
        assert_eq!(limit, fixed(0, Window::Epoch(DAY), refused), "{algorithm}");
    }
    let fields = "unit: day, requests_per_unit: 0, algorithm: token_bucket, burst: 0";
    assert_eq!(error(fields, "burst").1, "burst 0 is out of range: 1 to 10000000");
}

#[test]
fn words_are_from_their_list() {
    for (key, algorithm, words) in [
        ("algorithm", "", "fixed_window, token_bucket, leaky_bucket, sliding_window"),
        ("precision", "algorithm: sliding_window, ", "counter, log"),
        ("on_failure", "", "error, allow, deny, local"),
        ("accuracy", "", "auto, strict, leased"),
    ] {
        for word in ["Allow", "'no one'", "5", "''"] {
            let fields = format!("unit: day, requests_per_unit: 1, {algorithm}{key}: {word}");
            let text = format!("{key} '{}' is none of {words}", word.trim_matches('\''));
            assert_eq!(error(&fields, key), (last_column(&fields), text));
        }
    }
}

#[test]
fn values_have_their_type() {
    for (fields, key, wanted) in [
        ("unit_multiplier: x", "unit_multiplier", "an integer from 0 to 4294967295, not x"),
        ("unit_multiplier: -1", "unit_multiplier", "an integer from 0 to 4294967295, not -1"),
        ("unit_multiplier: '5'", "unit_multiplier", "an integer from 0 to 4294967295, not 5"),
        ("algorithm: token_bucket, burst: many", "burst", "an integer from 0 to 4294967295, not many"),
        (
            "algorithm: token_bucket, burst: 4294967296",
            "burst",
            "an integer from 0 to 4294967295, not 4294967296",
        ),
        ("algorithm: leaky_bucket, queue: yes", "queue", "an integer from 0 to 4294967295, not yes"),
        ("anchored: 'yes'", "anchored", "true or false, not yes"),
        ("anchored: 1", "anchored", "true or false, not 1"),
        ("algorithm: {}", "algorithm", "a text, not a mapping"),
        ("algorithm: leaky_bucket, max_hold: {}", "max_hold", "a text, not a mapping"),
        ("on_failure: {}", "on_failure", "a text, not a mapping"),
        ("time_zone: {}", "time_zone", "a text, not a mapping"),
    ] {
        let fields = format!("unit: day, requests_per_unit: 1, {fields}");
        let text = format!("error loading config file: yaml: unmarshal errors: {key} has to be {wanted}");
        assert_eq!(error(&fields, key), (last_column(&fields), text));
    }
    for hold in ["5", "soon", "-1s", "1 s", "''", "1d"] {
        let fields = format!("unit: day, requests_per_unit: 1, algorithm: leaky_bucket, max_hold: {hold}");
        let text = format!("max_hold '{}' is no duration such as 15ms or 1s", hold.trim_matches('\''));
        assert_eq!(error(&fields, "max_hold"), (last_column(&fields), text));
    }
}

#[test]
fn each_key_is_for_its_algorithms_only() {
    let all = ["fixed_window", "token_bucket", "leaky_bucket", "sliding_window"];
    for (key, value, owner) in [
        ("burst", "5", "token_bucket"),
        ("queue", "5", "leaky_bucket"),
        ("max_hold", "5s", "leaky_bucket"),
        ("precision", "counter", "sliding_window"),
        ("time_zone", "UTC", "fixed_window"),
        ("anchored", "true", "fixed_window"),
        ("anchored", "false", "fixed_window"),
    ] {
        for algorithm in all {
            let fields = format!("unit: day, requests_per_unit: 1, algorithm: {algorithm}, {key}: {value}");
            if algorithm == owner {
                assert!(rule_errors(&fields).is_empty(), "{fields}");
            } else {
                let text = format!("{key} is for {owner} only, not for {algorithm}");
                assert_eq!(error(&fields, key), (last_column(&fields), text));
            }
        }
    }
    let both = error("unit: day, requests_per_unit: 1, time_zone: UTC, anchored: true", "anchored");
    assert_eq!(both.1, "a window is either anchored or in a time_zone");
    for algorithm in ["leaky_bucket", "sliding_window, precision: log"] {
        let fields = format!("unit: day, requests_per_unit: 1, algorithm: {algorithm}, accuracy: leased");
        assert_eq!(error(&fields, "accuracy").1, "a leaky bucket or an exact log cannot be leased");
    }
}

/// Fields, the key that is out of range, and what is said about it.
const OUT_OF_RANGE: [(&str, &str, &str); 15] = [
    (
        "requests_per_unit: 10000001, unit: second, algorithm: token_bucket, burst: 1",
        "requests_per_unit",
        "rate of 10000001 per 1s is out of range: 1 per year to 10000000 per second",
    ),
    (
        "requests_per_unit: 10000001, unit: second, algorithm: leaky_bucket",
        "requests_per_unit",
        "rate of 10000001 per 1s is out of range: 1 per year to 10000000 per second",
    ),
    (
        "requests_per_unit: 1, unit: day, unit_multiplier: 367, algorithm: token_bucket",
        "requests_per_unit",
        "rate of 1 per 31708800s is out of range: 1 per year to 10000000 per second",
    ),
    (
        "requests_per_unit: 1, unit: year, unit_multiplier: 2, algorithm: leaky_bucket",
        "requests_per_unit",
        "rate of 1 per 63072000s is out of range: 1 per year to 10000000 per second",
    ),
    (
        "unit: day, requests_per_unit: 1, algorithm: token_bucket, burst: 0",
        "burst",
        "burst 0 is out of range: 1 to 10000000",
    ),
    (
        "unit: day, requests_per_unit: 1, algorithm: token_bucket, burst: 10000001",
        "burst",
        "burst 10000001 is out of range: 1 to 10000000",
    ),
    (
        "unit: day, requests_per_unit: 1, algorithm: leaky_bucket, queue: 10000001",
        "queue",
        "queue 10000001 is out of range: 0 to 10000000",
    ),
    (
        "unit: day, requests_per_unit: 1, unit_multiplier: 0",
        "unit_multiplier",
        "unit_multiplier must not be 0",
    ),
    (
        "unit: day, requests_per_unit: 1, unit_multiplier: 36526",
        "unit_multiplier",
        "window of 3155846400s is out of range: 1us to 100 years",
    ),
    (
        "unit: day, requests_per_unit: 1, anchored: true, unit_multiplier: 36526",
        "unit_multiplier",
        "window of 3155846400s is out of range: 1us to 100 years",
    ),
    (
        "unit: day, requests_per_unit: 1, algorithm: sliding_window, unit_multiplier: 36526",
        "unit_multiplier",
        "window of 3155846400s is out of range: 1us to 100 years",
    ),
    (
        "unit: day, requests_per_unit: 99999, algorithm: token_bucket, unit_multiplier: 36526",
        "unit_multiplier",
        "window of 3155846400s is out of range: 1us to 100 years",
    ),
    (
        "algorithm: sliding_window, precision: log, unit: day, requests_per_unit: 1001",
        "requests_per_unit",
        "limit 1001 is too large for an exact log: 0 to 1000",
    ),
    (
        "unit: day, requests_per_unit: 1, time_zone: Mars/Olympus",
        "time_zone",
        "unknown time zone 'Mars/Olympus'",
    ),
    ("unit: day, requests_per_unit: 1, time_zone: ''", "time_zone", "unknown time zone ''"),
];

#[test]
fn numbers_are_in_range() {
    for (fields, key, text) in OUT_OF_RANGE {
        let (column, found) = error(fields, key);
        assert_eq!(found, text, "{fields}");
        let begins = fields.find(&format!("{key}: ")).unwrap() + key.len() + 2;
        assert_eq!(column, 18 + begins, "{fields}");
    }
}

#[test]
fn windows_are_at_most_a_hundred_years_whatever_the_algorithm() {
    for multiplier in ["101", "4294967295"] {
        for algorithm in ["fixed_window", "token_bucket", "leaky_bucket", "sliding_window"] {
            let fields = format!(
                "unit: year, requests_per_unit: 4000000000, algorithm: {algorithm}, unit_multiplier: {multiplier}"
            );
            assert!(error(&fields, "unit_multiplier").1.starts_with("window of "), "{fields}");
        }
        let fields =
            format!("unit: year, requests_per_unit: 1, time_zone: UTC, unit_multiplier: {multiplier}");
        assert!(error(&fields, "unit_multiplier").1.starts_with("window of "), "{fields}");
    }
}

#[test]
fn numbers_at_the_edge_of_their_range_are_fine() {
    for fields in [
        "requests_per_unit: 10000000, unit: second, algorithm: token_bucket",
        "requests_per_unit: 1, unit: day, unit_multiplier: 366, algorithm: token_bucket",
        "requests_per_unit: 1, unit: year, algorithm: leaky_bucket, queue: 10000000",
        "requests_per_unit: 1, unit: day, unit_multiplier: 36525",
        "requests_per_unit: 1, unit: year, unit_multiplier: 100, time_zone: utc",
        "requests_per_unit: 1000, unit: day, algorithm: sliding_window, precision: log",
        "requests_per_unit: 4294967295, unit: second",
        "requests_per_unit: 4294967295, unit: second, algorithm: sliding_window",
        "requests_per_unit: 1, unit: day, algorithm: token_bucket, burst: 10000000",
    ] {
        assert_eq!(rule_errors(fields), [""; 0], "{fields}");
    }
}

#[test]
fn a_default_burst_is_the_number_per_unit_and_so_in_range() {
    let (_, text) = error("requests_per_unit: 20000000, unit: minute, algorithm: token_bucket", "burst");
    assert_eq!(text, "burst 20000000 is out of range: 1 to 10000000");
}

#[test]
fn nothing_limits_what_is_unlimited() {
    for field in [
        "algorithm: token_bucket",
        "unit_multiplier: 1",
        "burst: 1",
        "queue: 1",
        "max_hold: 1s",
        "precision: log",
        "time_zone: UTC",
        "anchored: false",
    ] {
        let (key, _) = field.split_once(':').unwrap();
        let fields = format!("unlimited: true, {field}");
        assert_eq!(
            error(&fields, key),
            (last_column(&fields), format!("should not specify {key} when unlimited"))
        );
    }
    assert!(rule("unlimited: true, accuracy: strict, name: n").limit.is_none());
}

#[test]
fn our_keys_belong_to_one_place() {
    let root = |key: &str| errors_of(format!("domain: d\n{key}: x\n"));
    for key in [
        "unit_multiplier",
        "algorithm",
        "burst",
        "queue",
        "max_hold",
        "precision",
        "time_zone",
        "anchored",
        "on_failure",
        "accuracy",
    ] {
        let text = format!("'{key}' does not belong to the root of the file but to rate_limit (at d: {key})");
        assert_eq!(root(key), [format!("a.yaml:2:1: {text}")]);
        let errors = errors_of(super::with_descriptor(&format!("{key}: x")));
        let text =
            format!("'{key}' does not belong to a descriptor but to rate_limit (at d: descriptors[0].{key})");
        assert_eq!(errors, [format!("a.yaml:4:5: {text}")]);
    }
    for key in ["charge", "partition"] {
        let (column, text) = error(&format!("unit: day, requests_per_unit: 1, {key}: x"), key);
        assert_eq!(
            (column, text),
            (51, format!("'{key}' does not belong to rate_limit but to the root of the file"))
        );
    }
    let (column, text) =
        error("unit: day, requests_per_unit: 1, replaces: [{name: x, burst: 1}]", "replaces[0].burst");
    assert_eq!(
        (column, text),
        (72, "'burst' does not belong to a replaces entry but to rate_limit".to_owned())
    );
}
