//! Every error of the reference, in its words, with its place.

use super::errors_of;

/// A file and every error that it has.
type Row = (&'static str, &'static [&'static str]);

fn check(rows: &[Row]) {
    for (text, expected) in rows {
        assert_eq!(errors_of(*text), *expected, "{text}");
    }
}

#[test]
fn e1_a_file_has_to_be_yaml_with_a_mapping_at_its_root() {
    check(&[
        ("- a", &["a.yaml:1:1: error loading config file: the root has to be a mapping, not a list"]),
        (
            "just text",
            &["a.yaml:1:1: error loading config file: the root has to be a mapping, not just text"],
        ),
        ("5", &["a.yaml:1:1: error loading config file: the root has to be a mapping, not 5"]),
    ]);
    for (text, place) in [
        ("domain: [d", "a.yaml:2:1: "),
        ("domain: d\ndescriptors:\n\t- key: a\n", "a.yaml:3:2: "),
        ("domain: d\n  key: x\n", "a.yaml:2:6: "),
        ("domain: *nothing\n", "a.yaml:1:9: "),
        ("domain: \"d\n", "a.yaml:"),
        ("domain: @d\n", "a.yaml:1:9: "),
    ] {
        let errors = errors_of(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].starts_with(place), "{text}: {errors:?}");
        assert!(errors[0].contains(": error loading config file: "), "{text}: {errors:?}");
    }
}

#[test]
fn e2_keys_are_texts() {
    check(&[
        ("domain: d\n1: x\n", &["a.yaml:2:1: config error, key is not of type string: 1"]),
        ("domain: d\n0x10: x\n", &["a.yaml:2:1: config error, key is not of type string: 16"]),
        ("domain: d\nyes: x\n", &["a.yaml:2:1: config error, key is not of type string: true"]),
        ("domain: d\n~: x\n", &["a.yaml:2:1: config error, key is not of type string: <nil>"]),
        ("domain: d\n1.5: x\n", &["a.yaml:2:1: config error, key is not of type string: 1.5"]),
        ("domain: d\n? [a, 1]\n: x\n", &["a.yaml:2:3: config error, key is not of type string: [a 1]"]),
        (
            "domain: d\ndescriptors:\n  - key: a\n    rate_limit:\n      unit: day\n      requests_per_unit: 1\n      5: 5\n",
            &["a.yaml:7:7: config error, key is not of type string: 5 (at d: descriptors[0].rate_limit)"],
        ),
    ]);
}

#[test]
fn e3_keys_are_known() {
    check(&[
        ("domain: d\nfoo: x\n", &["a.yaml:2:1: config error, unknown key 'foo'"]),
        ("domain: d\n\"1\": x\n", &["a.yaml:2:1: config error, unknown key '1'"]),
        ("domain: d\n\"<<\": {}\n", &["a.yaml:2:1: config error, unknown key '<<'"]),
        (
            "Domain: d\n",
            &[
                "a.yaml:1:1: config error, unknown key 'Domain'",
                "a.yaml:1:1: config file cannot have empty domain (at domain)",
            ],
        ),
        (
            "domain: d\ndescriptors:\n  - key: a\n    descriptors:\n      - key: b\n        Value: c\n",
            &["a.yaml:6:9: config error, unknown key 'Value' (at d: descriptors[0].descriptors[0])"],
        ),
    ]);
}

#[test]
fn e4_lists_hold_mappings() {
    const TEXT: &str = "config error, yaml file contains list of type other than map: ";
    for (item, shown) in [
        ("x", "x"),
        ("5", "5"),
        ("~", "<nil>"),
        ("", "<nil>"),
        ("yes", "true"),
        ("[a, [1, b]]", "[a [1 b]]"),
        ("[{a: 1}]", "[map[a:1]]"),
    ] {
        let errors = errors_of(format!("domain: d\ndescriptors:\n  - {item}\n"));
        assert_eq!(errors, [format!("a.yaml:3:5: {TEXT}{shown} (at d: descriptors[0])")], "{item}");
    }
    check(&[
        (
            "domain: [a]\n",
            &["a.yaml:1:10: config error, yaml file contains list of type other than map: a (at domain[0])"],
        ),
        (
            "domain: d\ndescriptors:\n- key: [k]\n  value: [a, b]\n",
            &[
                "a.yaml:3:9: config error, yaml file contains list of type other than map: k (at d: descriptors[0].key[0])",
                "a.yaml:4:11: config error, yaml file contains list of type other than map: a (at d: descriptors[0].value[0])",
                "a.yaml:4:14: config error, yaml file contains list of type other than map: b (at d: descriptors[0].value[1])",
            ],
        ),
        (
            "domain: d\ndescriptors:\n- key: k\n  rate_limit: {unit: day, requests_per_unit: 1, replaces: [x]}\n",
            &[
                "a.yaml:4:60: config error, yaml file contains list of type other than map: x (at d: descriptors[0].rate_limit.replaces[0])",
            ],
        ),
    ]);
}

#[test]
fn e5_numbers_are_integers_of_64_bits() {
    for number in [
        "1.5",
        "5.0",
        "1e3",
        ".5",
        "1.",
        "-.inf",
        ".nan",
        "08",
        "9223372036854775808",
        "18446744073709551615",
        "123456789012345678901234567890",
    ] {
        for (text, place, path) in [
            (format!("domain: d\ndescriptors:\n- key: k\n  value: {number}\n"), "4:10", "value"),
            (
                format!(
                    "domain: d\ndescriptors:\n- key: k\n  rate_limit: {{unit: day, requests_per_unit: {number}}}\n"
                ),
                "4:46",
                "rate_limit.requests_per_unit",
            ),
        ] {
            let expected = format!(
                "a.yaml:{place}: error checking config: {number} is no text, integer, boolean or null (at d: descriptors[0].{path})"
            );
            assert_eq!(errors_of(text), [expected]);
        }
    }
}

#[test]
fn e6_values_have_their_type() {
    let at = |place: &str, path: &str, text: &str| {
        format!("a.yaml:{place}: error loading config file: yaml: unmarshal errors: {text} (at d: {path})")
    };
    let root = |text: &str| errors_of(format!("domain: d\n{text}\n"));
    assert_eq!(
        root("descriptors: foo"),
        [at("2:14", "descriptors", "descriptors has to be a list, not foo")]
    );
    assert_eq!(
        root("descriptors: {}"),
        [at("2:14", "descriptors", "descriptors has to be a list, not a mapping")]
    );
    let below = |text: &str| errors_of(format!("domain: d\ndescriptors:\n- key: k\n  {text}\n"));
    let mapping = "not a mapping";
    for (text, column, path, wrong) in [
        ("value: {key: a}", 10, "value", format!("value has to be a text, {mapping}")),
        ("rate_limit: 5", 15, "rate_limit", "rate_limit has to be a mapping, not 5".to_owned()),
        ("rate_limit: []", 15, "rate_limit", "rate_limit has to be a mapping, not a list".to_owned()),
        ("metadata: []", 13, "metadata", "metadata has to be a mapping, not a list".to_owned()),
        ("metadata: x", 13, "metadata", "metadata has to be a mapping, not x".to_owned()),
        (
            "shadow_mode: \"true\"",
            16,
            "shadow_mode",
            "shadow_mode has to be true or false, not true".to_owned(),
        ),
        ("quota_mode: 'yes'", 15, "quota_mode", "quota_mode has to be true or false, not yes".to_owned()),
        (
            "detailed_metric: 1",
            20,
            "detailed_metric",
            "detailed_metric has to be true or false, not 1".to_owned(),
        ),
        (
            "value_to_metric: maybe",
            20,
            "value_to_metric",
            "value_to_metric has to be true or false, not maybe".to_owned(),
        ),
        (
            "share_threshold: {}",
            20,
            "share_threshold",
            format!("share_threshold has to be true or false, {mapping}"),
        ),
    ] {
        assert_eq!(
            below(text),
            [at(&format!("4:{column}"), &format!("descriptors[0].{path}"), &wrong)],
            "{text}"
        );
    }
}

#[test]
fn e6_in_a_rate_limit() {
    let at = |place: &str, path: &str, text: &str| {
        let text = format!("error loading config file: yaml: unmarshal errors: {text}");
        format!("a.yaml:{place}: {text} (at d: descriptors[0].{path})")
    };
    let below = |text: &str| errors_of(format!("domain: d\ndescriptors:\n- key: k\n  {text}\n"));
    for number in ["-1", "4294967296", "\"5\"", "yes", "five", "{}"] {
        let shown = if number == "{}" { "a mapping" } else { number.trim_matches('"') };
        let text = format!("requests_per_unit has to be an integer from 0 to 4294967295, not {shown}");
        let errors = below(&format!("rate_limit: {{unit: day, requests_per_unit: {number}}}"));
        assert_eq!(errors, [at("4:46", "rate_limit.requests_per_unit", &text)]);
    }
    let errors = below("rate_limit: {unit: day, requests_per_unit: 1, replaces: {name: x}}");
    assert_eq!(errors, [at("4:59", "rate_limit.replaces", "replaces has to be a list, not a mapping")]);
    let errors = below("rate_limit: {unit: {}, requests_per_unit: 1}");
    assert_eq!(errors, [at("4:22", "rate_limit.unit", "unit has to be a text, not a mapping")]);
}

#[test]
fn e7_a_file_has_a_domain() {
    for text in ["", "\n\n", "# only a comment\n", "---\n", "~", "---\n...\n", "---\n---\ndomain: d\n"] {
        assert_eq!(errors_of(text), ["a.yaml:1:1: config file cannot have empty domain"], "{text:?}");
    }
    check(&[
        ("domain: ~\n", &["a.yaml:1:9: config file cannot have empty domain (at domain)"]),
        ("domain: ''\n", &["a.yaml:1:9: config file cannot have empty domain (at domain)"]),
        ("{}", &["a.yaml:1:1: config file cannot have empty domain (at domain)"]),
        ("# c\ndescriptors: []\n", &["a.yaml:2:1: config file cannot have empty domain (at domain)"]),
    ]);
    assert!(errors_of("domain: ' '\n").is_empty(), "spaces are a domain");
}

#[test]
fn e9_a_descriptor_has_a_key() {
    const TEXT: &str = "descriptor has empty key (at d: descriptors[0].key)";
    for (line, column) in [("value: x", 5), ("key: ~", 10), ("key:", 8), ("key: ''", 10), ("{}", 5)] {
        let errors = errors_of(format!("domain: d\ndescriptors:\n  - {line}\n"));
        assert_eq!(errors, [format!("a.yaml:3:{column}: {TEXT}")], "{line}");
    }
}

#[test]
fn e10_siblings_differ_in_their_composite() {
    for (one, other, composite) in [
        ("key: a", "key: a", "a"),
        ("{key: a, value: b}", "{key: a, value: b}", "a_b"),
        ("{key: a, value: b_c}", "{key: a_b, value: c}", "a_b_c"),
        ("key: a_b", "{key: a, value: b}", "a_b"),
        ("key: a", "{key: a, value: ''}", "a"),
    ] {
        let top = errors_of(format!("domain: d\ndescriptors:\n  - {one}\n  - {other}\n"));
        let text = "duplicate descriptor composite key";
        assert_eq!(top, [format!("a.yaml:4:5: {text} 'd.{composite}' (at d: descriptors[1])")]);
        let nested = errors_of(format!(
            "domain: d\ndescriptors:\n  - key: x\n    value: y\n    descriptors:\n    - {one}\n    - {other}\n"
        ));
        let path = "descriptors[0].descriptors[1]";
        assert_eq!(nested, [format!("a.yaml:7:7: {text} 'd.x_y.{composite}' (at d: {path})")]);
    }
}

#[test]
fn e11_to_e14_a_rate_limit_makes_sense() {
    let at = |column: usize, key: &str, text: &str| {
        vec![format!("a.yaml:4:{column}: {text} (at d: descriptors[0].rate_limit.{key})")]
    };
    for unit in ["seconds", "fortnight", "unknown", "' day'", "5", "''"] {
        let text = format!("invalid rate limit unit '{}'", unit.trim_matches('\''));
        assert_eq!(super::rule_errors(&format!("unit: {unit}, requests_per_unit: 1")), at(24, "unit", &text));
    }
    for fields in ["requests_per_unit: 1", "requests_per_unit: 1, unit: ~"] {
        let column = if fields.contains('~') { 46 } else { 17 };
        assert_eq!(super::rule_errors(fields), at(column, "unit", "invalid rate limit unit ''"));
    }
    let both = "should not specify rate limit unit when unlimited";
    assert_eq!(super::rule_errors("unlimited: yes, unit: Day"), at(40, "unit", both));
    assert!(super::rule_errors("unlimited: yes, unit: days").is_empty());
    assert!(super::rule_errors("unlimited: yes, requests_per_unit: 5").is_empty());
    let empty = "should not have an empty replaces entry";
    for (entry, column) in [("{}", 58), ("{name: ''}", 65), ("{name: ~}", 65)] {
        let errors = super::rule_errors(&format!("unit: day, requests_per_unit: 1, replaces: [{entry}]"));
        assert_eq!(errors, at(column + 4, "replaces[0].name", empty), "{entry}");
    }
    let same = "replaces should not contain name of same descriptor";
    let errors =
        super::rule_errors("unit: day, requests_per_unit: 1, name: n, replaces: [{name: m}, {name: n}]");
    assert_eq!(errors, at(89, "replaces[1].name", same));
}

#[test]
fn e15_only_wildcards_share_a_threshold() {
    for (fields, composite) in [("{key: k, ", "k"), ("{key: k, value: v, ", "k_v")] {
        let column = 5 + fields.len() + "share_threshold: ".len();
        let errors = errors_of(format!("domain: d\ndescriptors:\n  - {fields}share_threshold: true}}\n"));
        assert_eq!(
            errors,
            [format!(
                "a.yaml:3:{column}: share_threshold can only be used with wildcard values (containing '*'), but found key '{composite}' (at d: descriptors[0].share_threshold)"
            )]
        );
    }
    for fields in ["key: k, value: 'v*'", "key: '*'", "key: k, value: v, share_threshold: no"] {
        let text = format!("domain: d\ndescriptors:\n  - {{{fields}}}\n");
        assert!(errors_of(text).is_empty(), "{fields}");
    }
}

#[test]
fn e16_metadata_is_a_struct() {
    let rate = "rate_limit: {unit: day, requests_per_unit: 1}";
    for (metadata, place, why) in [
        ("{a: .nan}", "5:19", ".nan is not finite"),
        ("{a: [1, -.inf]}", "5:23", "-.inf is not finite"),
        ("{[a]: 1}", "5:16", "a key has to be a text"),
    ] {
        let text = format!("domain: d\ndescriptors:\n  - key: k\n    {rate}\n    metadata: {metadata}\n");
        let expected =
            format!("a.yaml:{place}: error parsing metadata: {why} (at d: descriptors[0].metadata)");
        assert_eq!(errors_of(text), [expected], "{metadata}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file() {
    let text = "
domain: d
chargee: each
descriptors:
- value: x
  rate_limit: {unit: days, requests_per_unit: -1}
- key: [b]
- key: c
  shadow_mode: 'no'
  rate_limit: {}
  descriptors:
  - key: e
  - key: e
";
    let places: Vec<String> = errors_of(text)
        .iter()
        .map(|error| error.split(':').skip(1).take(2).collect::<Vec<_>>().join(":"))
        .collect();
    assert_eq!(places, ["3:1", "5:3", "6:22", "6:47", "7:9", "9:16", "10:15", "13:5"]);
}
