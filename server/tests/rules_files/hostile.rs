//! Bad, huge and malicious input: an error or the rules, soon.

use std::time::{Duration, Instant};

use tollgate_core::rules::{Defaults, Matcher};
use tollgate_server::config::rules::{DirOptions, Loaded, Options, Problem, read_dir};

use super::{load, load_one, shown, source};

/// Every input here takes a few seconds at most in a debug build; work that is not linear would take minutes.
const LONGEST: Duration = Duration::from_secs(30);

/// Runs `work`, which must not take longer than that on a busy machine.
#[expect(clippy::disallowed_methods, reason = "the test is about real time")]
fn within<T>(work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    let took = begin.elapsed();
    assert!(took < LONGEST, "took {took:?}");
    done
}

/// The errors of `text`, found within seconds, at most one line each.
fn refused(text: impl Into<Vec<u8>>) -> Vec<String> {
    match within(|| load_one(text)) {
        Ok(_) => panic!("loads"),
        Err(errors) => shown(&errors),
    }
}

/// Loads `text` within seconds.
fn accepted(text: String) -> Loaded {
    match within(|| load_one(text)) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{:?}", shown(&errors[..errors.len().min(5)])),
    }
}

fn siblings(count: usize, line: impl Fn(usize) -> String) -> String {
    let lines: String = (0..count).map(line).collect();
    format!("domain: d\ndescriptors:\n{lines}")
}

#[test]
fn bytes_that_are_no_utf_8_are_named() {
    for (bytes, place) in [
        (&b"\xff"[..], "a.yaml:1:1: error loading config file: byte 0 is not UTF-8"),
        (b"domain: d\nkey: \xc3\x28", "a.yaml:2:6: error loading config file: byte 15 is not UTF-8"),
        (b"domain: \xe2\x82", "a.yaml:1:9: error loading config file: byte 8 is not UTF-8"),
        (b"\xff\xfed\0o\0", "a.yaml:1:1: error loading config file: byte 0 is not UTF-8"),
    ] {
        assert_eq!(refused(bytes), [place]);
    }
}

#[test]
fn a_hundred_thousand_siblings_load_soon() {
    let line = |place: usize| {
        format!("- {{key: k, value: v{place}, rate_limit: {{unit: day, requests_per_unit: 5}}}}\n")
    };
    let loaded = accepted(siblings(100_000, line));
    assert_eq!((loaded.domains[0].descriptors.len(), loaded.warnings.len()), (100_000, 0));
    let matcher = within(|| Matcher::build(loaded.domains, Defaults::default())).unwrap();
    assert_eq!(matcher.rules().len(), 100_000);
}

#[test]
fn a_hundred_thousand_patterns_load_soon() {
    let loaded = accepted(siblings(100_000, |place| format!("- {{key: k, value: '*{place}x'}}\n")));
    assert_eq!(loaded.domains[0].descriptors.len(), 100_000);
    within(|| Matcher::build(loaded.domains, Defaults::default())).unwrap();
}

#[test]
fn a_hundred_thousand_names_that_replace_each_other_load_soon() {
    let line = |place: usize| {
        let next = (place + 1) % 20_000;
        format!(
            "- {{key: k{place}, rate_limit: {{unit: day, requests_per_unit: 5, name: n{place}, replaces: [{{name: n{next}}}]}}}}\n"
        )
    };
    let loaded = accepted(siblings(20_000, line));
    assert_eq!(loaded.warnings.len(), 20_000);
}

#[test]
fn ten_megabytes_load_within_seconds() {
    let rule = "  rate_limit:\n    unit: minute\n    requests_per_unit: 100\n    # comment\n    name: a rule with a long name\n";
    let text = siblings(90_000, |place| format!("- key: path\n  value: /api/v1/{place}\n{rule}"));
    assert!(text.len() > 10_000_000);
    assert_eq!(accepted(text).domains[0].descriptors.len(), 90_000);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), "#".repeat(10 << 20)).unwrap();
    let options =
        DirOptions { ignore_dot_files: true, app_prefix: None, only_yaml: false, max_file_bytes: 16 << 20 };
    let sources = read_dir(dir.path(), &options).unwrap();
    assert_eq!(within(|| load(&sources, &Options::default())).unwrap_err().len(), 1);
}

#[test]
fn long_scalars_and_lines() {
    let long = "x".repeat(1 << 20);
    assert_eq!(accepted(format!("domain: {long}\n")).domains[0].name, long);
    assert_eq!(accepted(format!("domain: \"{long}\"\n")).domains[0].name, long);
    assert_eq!(accepted(format!("domain: |-\n  {long}\n")).domains[0].name, long);
    let words = "x ".repeat(1 << 20);
    assert_eq!(accepted(format!("domain: {words}\n")).domains[0].name, words.trim());
    accepted(format!("domain: d {}# {long}\n", " ".repeat(1 << 20)));
    refused(format!("{long}: x\n"));
    refused(format!("domain: d\n{}", "\t\n".repeat(1 << 18) + "-"));
    let item = "{key: k}, ".repeat(50_000);
    assert_eq!(refused(format!("{{domain: d, descriptors: [{item}]}}")).len(), 1001);
}

#[test]
fn a_million_keys_in_one_mapping() {
    let unknown: String = (0..1_000_000).map(|place| format!("k{place}: 1\n")).collect();
    let errors = refused(format!("domain: d\n{unknown}"));
    assert_eq!(errors.len(), 1001);
    assert_eq!(errors[0], "a.yaml: 999000 more errors of this file are left out");
    let same = accepted(format!("domain: d\n{}", "domain: d\n".repeat(100_000)));
    assert_eq!(shown(&same.warnings)[0], "a.yaml: 99000 more warnings of this file are left out");
    let fields: String = (0..100_000).map(|place| format!("      k{place}: 1\n")).collect();
    let rate = "    rate_limit: {unit: day, requests_per_unit: 1}\n";
    accepted(format!("domain: d\ndescriptors:\n  - key: k\n{rate}    metadata:\n{fields}"));
}

#[test]
fn nesting_is_bounded() {
    for text in [
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        format!("domain: {}", "[".repeat(200)),
        format!("domain: d\nmetadata: {}1{}", "[".repeat(100), "]".repeat(100)),
        format!("domain: d\nmetadata: {}1{}", "{a: ".repeat(100), "}".repeat(100)),
        (0..2_000).map(|level| format!("{}descriptors:\n", " ".repeat(level))).collect(),
        (0..2_000).map(|level| format!("{}-\n", " ".repeat(level))).collect(),
    ] {
        let errors = refused(text);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("nested deeper than 64 levels"), "{errors:?}");
    }
    for text in [
        "[".repeat(1 << 20),
        format!("domain: {}", "[".repeat(1 << 20)),
        "[{".repeat(1 << 20),
        "{a: ".repeat(1 << 18),
    ] {
        assert_eq!(refused(text).len(), 1);
    }
    let deep = |levels: usize| format!("domain: d\nmetadata: {}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(load_one(deep(63)).is_ok());
    assert!(load_one(deep(64)).is_err());
}

#[test]
fn aliases_do_not_nest_deeper() {
    let nest = |inner: &str| format!("{}{inner}{}", "[".repeat(50), "]".repeat(50));
    let mut text = format!("domain: d\nmetadata:\n  a0: &a0 {}\n", nest("1"));
    for level in 1..200 {
        text += &format!("  a{level}: &a{level} {}\n", nest(&format!("*a{}", level - 1)));
    }
    let errors = refused(text);
    assert!(errors[0].contains("nested deeper than 64 levels"), "{errors:?}");
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut by_alias = "domain: d\nmetadata:\n  a0: &a0 [lol, lol]\n".to_owned();
    let mut by_merge = "domain: d\nmetadata:\n  a0: &a0 {key: lol}\n".to_owned();
    let mut nested = "domain: d\nmetadata:\n  a0: &a0 {key: lol}\n".to_owned();
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        by_alias += &format!("  a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
        by_merge += &format!("  a{level}: &a{level} {{<<: [{}]}}\n", [below.as_str(); 10].join(", "));
        nested += &format!("  a{level}: &a{level} {{<<: {below}, x: {below}}}\n");
    }
    for text in [by_alias, by_merge, nested] {
        let errors = refused(text);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("more than 1000000 nodes, aliases expanded"), "{errors:?}");
    }
}

#[test]
fn aliases_just_below_the_bound_are_read_soon() {
    let mut text = "domain: d\nmetadata:\n  a0: &a0 {unit: day, requests_per_unit: 1}\n".to_owned();
    for level in 1..17 {
        text += &format!("  a{level}: &a{level} {{<<: [*a{0}, *a{0}]}}\n", level - 1);
    }
    for place in 0..3 {
        let metadata = "metadata: *a16, rate_limit: {<<: *a10}";
        text +=
            &format!("{}- {{key: k{place}, {metadata}}}\n", if place == 0 { "descriptors:\n" } else { "" });
    }
    let _ = within(|| load_one(text));
}

#[test]
fn quadratic_anchors_are_refused() {
    let many = "x, ".repeat(2_000);
    let items = "  - *a\n".repeat(2_000);
    let errors = refused(format!("domain: d\nmetadata:\n  a: &a [{many}]\n  b:\n{items}"));
    assert!(errors[0].contains("more than 1000000 nodes"), "{errors:?}");
    let anchors: String = (0..100_000).map(|place| format!("- &a{place} {{key: k{place}}}\n")).collect();
    accepted(format!("domain: d\ndescriptors:\n{anchors}"));
}

#[test]
fn an_error_below_many_aliases_is_said_once() {
    let items = "- *a\n".repeat(10_000);
    let errors = refused(format!("domain: d\ndescriptors:\n- &a {{key: k, nope: 1}}\n{items}"));
    let nope = |error: &&String| error.contains("unknown key 'nope'");
    assert_eq!(errors.iter().filter(nope).count(), 1);
}

#[test]
fn huge_integers() {
    for digits in [100, 100_000] {
        let number = "9".repeat(digits);
        for text in [
            format!("domain: d\nmetadata: {number}\ndescriptors: {number}\n"),
            format!("domain: d\n{number}: 1\n"),
            format!("domain: d\ndescriptors:\n- key: k\n  value: {number}\n"),
        ] {
            // beyond the range of a double Go keeps the text
            let errors = within(|| load_one(text));
            assert_eq!(errors.is_err(), digits == 100 || errors.is_err());
        }
    }
}

#[test]
fn messages_stay_short() {
    let long = "x".repeat(1 << 20);
    let item = format!("[{}]", "a, ".repeat(100_000));
    for text in [
        format!("domain: d\ndescriptors:\n- {item}\n"),
        format!("domain: d\n{long}: 1\n"),
        format!("domain: d\n\"{long}\": 1\n"),
        format!("domain: d\ndescriptors: {long}\n"),
        format!("domain: d\ndescriptors:\n- {long}\n"),
        format!("domain: d\ndescriptors:\n- key: k\n  rate_limit: {{unit: {long}}}\n"),
        format!("domain: {long}\ndescriptors:\n- key: k\n- key: k\n"),
    ] {
        for error in refused(text) {
            assert!(
                error.len() < 2_100,
                "{} bytes: {}",
                error.len(),
                error.chars().take(200).collect::<String>()
            );
        }
    }
}

#[test]
fn many_files() {
    let sources: Vec<_> = (0..5_000)
        .map(|place| {
            source(
                &format!("f{place}.yaml"),
                format!("domain: d\ndescriptors:\n- key: k{place}\n- key: l{place}*\n"),
            )
        })
        .collect();
    let merge = Options { merge_domains: true, ..Options::default() };
    let loaded: Result<Loaded, Vec<Problem>> = within(|| load(&sources, &merge));
    assert_eq!(loaded.unwrap().domains[0].descriptors.len(), 10_000);
    assert_eq!(within(|| load(&sources, &Options::default())).unwrap_err().len(), 4_999);
}

/// 3 MB of text that would be 200 GB of values.
#[test]
fn a_long_text_cannot_be_multiplied_by_aliases() {
    let aliases = "- key: *a\n".repeat(200_000);
    let errors = refused(format!("domain: d\ndescriptors:\n- key: &a {}\n{aliases}", "x".repeat(1_000_000)));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("nodes, aliases expanded"), "{errors:?}");
}
