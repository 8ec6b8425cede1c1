//! Whatever is in a file, reading it ends, says the same every time, and what loads can be compiled.

use proptest::prelude::*;
use tollgate_core::rules::{Defaults, Matcher};
use tollgate_server::config::rules::{Loaded, Options, Problem};

use super::{load, source};

const VALID: &str = include_str!("../rules/edge.yml");
const OURS: &str = include_str!("../../config/rules/example.yaml");

/// Loads `texts` twice, compiles what loads; whether it does.
fn check(texts: &[&[u8]]) -> bool {
    let sources: Vec<_> =
        texts.iter().enumerate().map(|(place, text)| source(&format!("{place}.yaml"), *text)).collect();
    let mut any = false;
    for merge_domains in [false, true] {
        let options = Options { merge_domains, ..Options::default() };
        let (one, two) = (load(&sources, &options), load(&sources, &options));
        assert_eq!(summary(&one), summary(&two));
        match one {
            Ok(loaded) => {
                any = true;
                Matcher::build(loaded.domains, Defaults::default()).unwrap();
            }
            Err(errors) => errors.iter().for_each(|error| check_error(error, texts.len())),
        }
    }
    any
}

fn check_error(error: &Problem, files: usize) {
    let known = (0..files).any(|place| error.file == format!("{place}.yaml"));
    assert!(known && error.line > 0 && error.column > 0 && !error.text.is_empty(), "{error:?}");
    assert!(error.to_string().len() < 3_000, "{error:?}");
}

fn summary(loaded: &Result<Loaded, Vec<Problem>>) -> String {
    format!("{loaded:?}")
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "domain", "key", "value", "descriptors", "rate_limit", "unit", "requests_per_unit", "unlimited",
            "shadow_mode", "quota_mode", "name", "replaces", "detailed_metric", "value_to_metric",
            "share_threshold", "metadata", "charge", "partition", "on_overload", "unit_multiplier", "algorithm", "burst", "queue",
            "max_hold", "precision", "time_zone", "anchored", "on_failure", "accuracy", "<<",
        ]).prop_map(str::to_owned),
        4 => prop::sample::select(vec![
            "day", "second", "token_bucket", "leaky_bucket", "sliding_window", "log", "all_or_nothing", "each",
            "Europe/Berlin", "15ms", "local", "leased", "yes", "no", "~", "0", "1", "5", "010", "0x10", "1.5",
            "99999999999999999999", "'1'", "\"a\"", "*", "a*", "*a*b", "*x", "&x a", "!!str 5", "!!int a", "{}", "[]",
        ]).prop_map(str::to_owned),
        1 => "[a-c*_]{0,3}",
    ]
}

/// A random document in flow style.
fn structured() -> impl Strategy<Value = String> {
    words().prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((words(), inner), 0..6).prop_map(|pairs| {
                let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    })
}

/// The fields of a descriptor that is mostly right.
fn descriptors() -> impl Strategy<Value = String> {
    let leaf = Just("{key: z, rate_limit: {unit: day, requests_per_unit: 1}}".to_owned());
    leaf.prop_recursive(3, 24, 4, |inner| {
        let limit = prop::sample::select(vec![
            "rate_limit: {unit: day, requests_per_unit: 5}",
            "rate_limit: {unit: second, requests_per_unit: 5, algorithm: token_bucket}",
            "rate_limit: {unit: hour, requests_per_unit: 0, algorithm: leaky_bucket, queue: 3, max_hold: 1s}",
            "rate_limit: {unit: month, requests_per_unit: 5, time_zone: Asia/Kolkata, name: n, replaces: [{name: m}]}",
            "rate_limit: {unlimited: true, name: m, replaces: [{name: n}]}",
            "shadow_mode: true",
        ]);
        let parts = ("[a-b_]{1,3}", "[a-b_*]{0,3}", limit, prop::collection::vec(inner, 0..4));
        parts.prop_map(|(key, value, limit, below)| {
            format!("{{key: '{key}', value: '{value}', {limit}, descriptors: [{}]}}", below.join(", "))
        })
    })
}

/// `text` with some of its lines left out, doubled, moved, or its bytes changed.
fn mutated(text: &str, edits: &[(u8, usize, usize)]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
    for &(kind, place, more) in edits {
        let (count, place) = (lines.len(), place % lines.len());
        let line = &mut lines[place];
        let at = more % line.len().max(1);
        match kind {
            0 if !line.is_empty() => line[at] ^= 1 << (more % 8),
            1 if !line.is_empty() => line[at] = b"\n\t :-{}[]*&#'\"|>!%@,?~\0"[more % 23],
            2 if !line.is_empty() => drop(line.remove(at)),
            3 => line.insert(at, b' '),
            4 => lines.insert(place, lines[more % count].clone()),
            5 if count > 1 => drop(lines.remove(place)),
            _ => lines.swap(place, more % count),
        }
    }
    lines.concat()
}

fn edits() -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
    prop::collection::vec((0..7_u8, 0..10_000_usize, 0..10_000_usize), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&[&bytes]);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}", marks in "[a-c:\\-{}\\[\\]*&#'\"|>!%@,?~<\n\t ]{0,200}") {
        check(&[text.as_bytes()]);
        check(&[marks.as_bytes()]);
        check(&[format!("domain: d\ndescriptors:\n{marks}").as_bytes()]);
    }

    #[test]
    fn files_that_were_valid(edits in edits(), ours in any::<bool>()) {
        let text = mutated(if ours { OURS } else { VALID }, &edits);
        check(&[&text, VALID.as_bytes()]);
    }

    #[test]
    fn structured_yaml(root in structured(), below in structured()) {
        check(&[root.as_bytes()]);
        check(&[format!("domain: d\ndescriptors: {below}").as_bytes(), root.as_bytes()]);
    }

    #[test]
    fn mostly_right_rules(
        one in prop::collection::vec(descriptors(), 0..4),
        two in prop::collection::vec(descriptors(), 0..4),
        charge in prop::sample::select(vec!["", "charge: admitted", "charge: all_or_nothing"]),
    ) {
        let file = |list: &[String]| format!("domain: d\n{charge}\ndescriptors: [{}]\n", list.join(", "));
        check(&[file(&one).as_bytes(), file(&two).as_bytes()]);
    }
}

#[test]
fn the_seeds_are_valid() {
    assert!(check(&[VALID.as_bytes()]));
    assert!(check(&[OURS.as_bytes(), VALID.as_bytes()]));
}
