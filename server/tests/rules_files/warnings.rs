//! What loads and may not be meant.

use tollgate_server::config::rules::Options;

use super::{load, loaded, shown, source, with_descriptor};

const RATE: &str = "rate_limit: {unit: day, requests_per_unit: 1}";

fn warnings(text: &str) -> Vec<String> {
    loaded(text).1
}

/// The warnings of rules with these names, each replacing those after the colon.
fn names(rules: &str) -> Vec<String> {
    let mut text = "domain: d\ndescriptors:\n".to_owned();
    for (place, rule) in rules.split_whitespace().enumerate() {
        let (name, replaces) = rule.split_once(':').unwrap();
        let replaces: Vec<String> = replaces
            .split(',')
            .filter(|other| !other.is_empty())
            .map(|other| format!("{{name: {other}}}"))
            .collect();
        let replaces = replaces.join(", ");
        text += &format!(
            "- key: k{place}\n  rate_limit: {{unit: day, requests_per_unit: 1, name: '{name}', replaces: [{replaces}]}}\n"
        );
    }
    warnings(&text).iter().map(|text| text.split(" (at").next().unwrap_or_default().to_owned()).collect()
}

/// The patterns, of one level and in this order, that can never match.
fn shadowed(values: &str) -> Vec<String> {
    let descriptors: String =
        values.split(' ').map(|value| format!("- {{key: k, value: '{value}'}}\n")).collect();
    let found = warnings(&format!("domain: d\ndescriptors:\n{descriptors}"));
    found.iter().map(|text| text.split('\'').nth(1).unwrap_or_default().replace("k_", "")).collect()
}

#[test]
fn a_key_of_the_reference_in_the_wrong_place_does_nothing() {
    for (text, expected) in [
        (
            "key: a\ndomain: d\n",
            "1:1: 'key' has no effect in the root of the file: it belongs to a descriptor (at d: key)",
        ),
        (
            "unit: {}\ndomain: d\n",
            "1:1: 'unit' has no effect in the root of the file: it belongs to rate_limit (at d: unit)",
        ),
        (
            "metadata: [1.5]\ndomain: d\n",
            "1:1: 'metadata' has no effect in the root of the file: it belongs to a descriptor (at d: metadata)",
        ),
    ] {
        assert_eq!(warnings(text), [format!("a.yaml:{expected}")]);
    }
    for (line, other) in [
        ("unit: day", "rate_limit"),
        ("name: n", "rate_limit"),
        ("domain: 5", "the root of the file"),
        ("unlimited: {}", "rate_limit"),
    ] {
        let key = line.split(':').next().unwrap_or_default();
        let text = with_descriptor(&format!("{line}\n{RATE}"));
        let expected = format!(
            "'{key}' has no effect in a descriptor: it belongs to {other} (at d: descriptors[0].{key})"
        );
        assert_eq!(warnings(&text), [format!("a.yaml:4:5: {expected}")]);
    }
    for key in ["shadow_mode", "quota_mode", "value_to_metric", "key", "metadata", "share_threshold"] {
        let text = with_descriptor(&format!("rate_limit: {{{key}: ~, unit: day, requests_per_unit: 1}}"));
        let path = format!("descriptors[0].rate_limit.{key}");
        let expected =
            format!("'{key}' has no effect in rate_limit: it belongs to a descriptor (at d: {path})");
        assert_eq!(warnings(&text), [format!("a.yaml:4:18: {expected}")]);
    }
    let replaces = "rate_limit: {unit: day, requests_per_unit: 1, name: a, replaces: [{name: b, unit: day}]}\ndescriptors:\n- {key: x, rate_limit: {unit: day, requests_per_unit: 1, name: b}}";
    assert_eq!(
        warnings(&with_descriptor(replaces)),
        [
            "a.yaml:4:81: 'unit' has no effect in a replaces entry: it belongs to rate_limit (at d: descriptors[0].rate_limit.replaces[0].unit)"
        ]
    );
}

#[test]
fn a_mode_without_a_limit_does_nothing() {
    for line in ["shadow_mode: true", "quota_mode: no", "detailed_metric: true", "metadata: {a: 1}"] {
        let (key, _) = line.split_once(':').unwrap();
        let text = with_descriptor(&format!("{line}\ndescriptors:\n- key: x\n  {RATE}"));
        let expected = format!(
            "a.yaml:4:{}: '{key}' has no effect: this descriptor has no rate_limit of its own (at d: descriptors[0].{key})",
            key.len() + 7
        );
        assert_eq!(warnings(&text), [expected]);
        assert!(warnings(&with_descriptor(&format!("{line}\n{RATE}"))).is_empty());
    }
    for line in ["value_to_metric: true", "value: a*\nshare_threshold: true"] {
        assert!(warnings(&with_descriptor(line)).is_empty(), "acts without a limit");
    }
}

#[test]
fn no_number_means_zero() {
    for fields in ["unit: day", "unit: day, requests_per_unit: ~"] {
        let found = warnings(&with_descriptor(&format!("rate_limit: {{{fields}}}")));
        let column = if fields.contains('~') { 48 } else { 17 };
        let text = "requests_per_unit is missing and so 0: this refuses every request";
        assert_eq!(
            found,
            [format!("a.yaml:4:{column}: {text} (at d: descriptors[0].rate_limit.requests_per_unit)")]
        );
    }
    assert!(warnings(&with_descriptor("rate_limit: {unlimited: true}")).is_empty());
    assert!(warnings(&with_descriptor("rate_limit: {unit: day, requests_per_unit: 0}")).is_empty());
}

#[test]
fn a_pattern_after_one_that_covers_it_never_matches() {
    for (values, expected) in [
        ("a* ab*", "ab*"),
        ("* a*", "a*"),
        ("* a* b*", "a* b*"),
        ("*b a*b", "a*b"),
        ("a*c* a*b*c*", "a*b*c*"),
        ("*a*b* x*aab*", "x*aab*"),
        ("a** a*", "a*"),
        ("ab* a*", ""),
        ("a*b a*c", ""),
        ("a*a a*", ""),
        ("a*ba ab*a", ""),
        ("a* b ab", ""),
        ("a*b*c a*c", ""),
        ("ä*ö ä*bö", "ä*bö"),
    ] {
        assert_eq!(shadowed(values).join(" "), expected, "{values}");
    }
    let text = "domain: d\ndescriptors:\n- key: x\n  descriptors:\n  - {key: a, value: '*'}\n  - {key: a, value: b*}\n- key: y\n  descriptors:\n  - {key: a, value: b*}\n";
    assert_eq!(
        warnings(text),
        [
            "a.yaml:6:5: 'a_b*' never matches: 'a_*' in line 5 stands before it and matches all that (at d: descriptors[0].descriptors[1])"
        ]
    );
}

#[test]
fn replaces_lead_somewhere_and_not_back() {
    let cycle = |line: usize, name: &str| {
        format!(
            "a.yaml:{line}:15: '{name}' replaces itself through others: when they match together, none of them limits"
        )
    };
    let unknown = |line: usize, name: &str| {
        format!("a.yaml:{line}:15: replaces '{name}', but no rule of the domain has that name")
    };
    assert_eq!(names("a:b b:c c:"), [""; 0]);
    assert_eq!(names("a:b b:a"), [cycle(4, "a"), cycle(6, "b")]);
    assert_eq!(names("x:a a:b b:c c:a y:a"), [cycle(6, "a"), cycle(8, "b"), cycle(10, "c")]);
    assert_eq!(names("a:b,c b:a c:d d:c"), [cycle(4, "a"), cycle(6, "b"), cycle(8, "c"), cycle(10, "d")]);
    assert_eq!(names("a:b b:a b:c c:d d:e e:"), [cycle(4, "a"), cycle(6, "b"), cycle(8, "b")]);
    assert_eq!(
        names("a:b b:a a:x x:c c:d d:c"),
        [cycle(4, "a"), cycle(6, "b"), cycle(8, "a"), cycle(12, "c"), cycle(14, "d")]
    );
    assert_eq!(names("a:z :a"), [unknown(4, "z")]);
    assert_eq!(names(":z a:"), [unknown(4, "z")]);
}

#[test]
fn names_that_are_not_yaml_are_read_all_the_same() {
    let options = |ignore_non_yaml| Options { ignore_non_yaml, ..Options::default() };
    let bad = [source("README.md", "# Rules\n\n- one\n- two\n"), source("a.yaml", "domain: d\n")];
    let errors = shown(&load(&bad, &options(false)).unwrap_err());
    assert_eq!(
        errors,
        ["README.md:3:1: error loading config file: the root has to be a mapping, not a list"]
    );
    assert_eq!(load(&bad, &options(true)).unwrap().domains.len(), 1);
    let comments = [source("README.md", "# only a title\n")];
    assert_eq!(
        shown(&load(&comments, &options(false)).unwrap_err()),
        ["README.md:1:1: config file cannot have empty domain"]
    );
    let prose = "# Rules\n\nThese are our rules: they `limit` requests.\n\n```yaml\ndomain: d\n```\n";
    assert_eq!(load(&[source("README.md", prose)], &options(false)).unwrap_err().len(), 1);
    for name in ["a.yaml", "b/c.yml", "A.YAML", "x.Yml", ".yaml"] {
        let loaded = load(&[source(name, "domain: d\n")], &options(false)).unwrap();
        assert_eq!(shown(&loaded.warnings), [""; 0], "{name}");
        assert_eq!(load(&[source(name, "domain: d\n")], &options(true)).unwrap().domains.len(), 1);
    }
    for name in ["noext", "a.yaml.bak", "a.json", "yaml", "a.yaml~"] {
        let loaded = load(&[source(name, "domain: d\n")], &options(false)).unwrap();
        let text = format!("{name}: read as rules although its name does not end in .yaml or .yml");
        assert_eq!(shown(&loaded.warnings), [text]);
        assert_eq!(load(&[source(name, "domain: d\n")], &options(true)).unwrap().domains.len(), 0);
    }
}

#[test]
fn strict_makes_every_warning_an_error() {
    let strict = Options { strict: true, ..Options::default() };
    let sources = [
        source("b.yaml", "domain: d\nunit: day\n"),
        source(
            "a.txt",
            with_descriptor("shadow_mode: 'x'\nquota_mode: true").replace("domain: d", "domain: e"),
        ),
    ];
    let errors = shown(&load(&sources, &strict).unwrap_err());
    assert_eq!(
        errors,
        [
            "b.yaml:2:1: 'unit' has no effect in the root of the file: it belongs to rate_limit (at d: unit)",
            "a.txt: read as rules although its name does not end in .yaml or .yml",
            "a.txt:4:18: error loading config file: yaml: unmarshal errors: shadow_mode has to be true or false, not x (at e: descriptors[0].shadow_mode)",
            "a.txt:4:18: 'shadow_mode' has no effect: this descriptor has no rate_limit of its own (at e: descriptors[0].shadow_mode)",
            "a.txt:5:17: 'quota_mode' has no effect: this descriptor has no rate_limit of its own (at e: descriptors[0].quota_mode)",
        ]
    );
    assert!(load(&[source("a.yaml", "domain: d\n")], &strict).is_ok());
    let one = shown(&load(&sources[..1], &Options::default()).unwrap().warnings);
    assert_eq!(one, errors[..1]);
}

#[test]
fn warnings_come_in_the_order_of_the_files() {
    let sources = [
        source("z.yaml", "domain: d\nunit: day\nname: x\n"),
        source(
            "a.yaml",
            "domain: e\ndescriptors:\n- {key: k, value: '*'}\n- {key: k, value: a*}\nunit: day\n",
        ),
    ];
    let found = shown(&load(&sources, &Options::default()).unwrap().warnings);
    let places: Vec<&str> = found.iter().map(|text| text.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(places, ["z.yaml:2:1", "z.yaml:3:1", "a.yaml:4:3", "a.yaml:5:1"]);
}
