//! YAML 1.1 as the reference reads it.

use tollgate_core::rules::Metadata;

use super::{descriptor, errors_of, loaded, rule, rule_errors, sound};

#[test]
fn a_text_keeps_its_source() {
    for text in [
        "yes",
        "No",
        "on",
        "y",
        "true",
        "0x10",
        "007",
        "010",
        "123",
        "-5",
        "1_000",
        "+1",
        "0b11",
        "2020-01-01",
        "2020-01-01T00:00:00Z",
        "50.0.0.5",
        "1.2.3",
        "12:30",
        "a b",
        "/api/*",
        "0xffffffffffffffffffff",
        "a#b",
        "<<",
        "=",
    ] {
        assert_eq!(descriptor(&format!("value: {text}")).value, text);
    }
    for (text, value) in [
        ("'1.5'", "1.5"),
        ("\"~\"", "~"),
        ("'null'", "null"),
        ("\"a\\tb\\u0041\\x42\"", "a\tbAB"),
        ("'it''s'", "it's"),
        ("!!str 1.5", "1.5"),
        ("\"a\\\n      b\"", "ab"),
    ] {
        assert_eq!(descriptor(&format!("value: {text}")).value, value);
    }
}

#[test]
fn null_is_no_value() {
    for text in ["", " ~", " null", " Null", " NULL", " ''", " \"\"", " # comment"] {
        assert_eq!(descriptor(&format!("value:{text}")).value, "", "{text}");
    }
    for key in ["rate_limit", "descriptors", "metadata", "shadow_mode"] {
        let spec = descriptor(&format!("{key}: ~"));
        assert!(
            spec.rule.is_none() && spec.descriptors.is_empty() && spec.metadata.is_none() && !spec.shadow
        );
    }
    assert_eq!(sound("domain: d\ndescriptors: ~\n").descriptors.len(), 0);
    assert_eq!(sound("domain: d\ndescriptors: []\n").descriptors.len(), 0);
    assert_eq!(sound("domain: d\n").descriptors.len(), 0);
}

#[test]
fn integers_are_yaml_1_1() {
    for (text, number) in [
        ("0", 0),
        ("010", 8),
        ("0o10", 8),
        ("0x10", 16),
        ("0XfF", 255),
        ("0b101", 5),
        ("1_000", 1000),
        ("0x_1_0", 16),
        ("+7", 7),
        ("4294967295", u32::MAX),
    ] {
        let rule = rule(&format!("unit: day, requests_per_unit: {text}"));
        assert_eq!(rule.quota.requests_per_unit, number, "{text}");
    }
    for text in ["5.0", "5.5", "1e3", "-1", "08", "0x", "1__", "0b2", "12:30", "1 2"] {
        let errors = rule_errors(&format!("unit: day, requests_per_unit: {text}"));
        assert_eq!(errors.is_empty(), text == "1__", "{text}: {errors:?}");
    }
}

#[test]
fn booleans_are_yaml_1_1() {
    let spellings = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for text in spellings("y Y yes Yes YES true True TRUE on On ON") {
        assert!(descriptor(&format!("value_to_metric: {text}")).value_to_metric, "{text}");
    }
    for text in spellings("n N no No NO false False FALSE off Off OFF") {
        assert!(!descriptor(&format!("value_to_metric: {text}")).value_to_metric, "{text}");
    }
    for text in spellings("'true' \"yes\" 1 0 yEs tRue oN t f 'no'") {
        let errors = errors_of(super::with_descriptor(&format!("value_to_metric: {text}")));
        assert_eq!(errors.len(), 1, "{text}");
    }
}

#[test]
fn units_have_any_case() {
    for unit in ["second", "MINUTE", "Hour", "dAy", "week", "month", "year"] {
        let name = rule(&format!("unit: {unit}, requests_per_unit: 1")).quota.unit.name();
        assert_eq!(name, unit.to_uppercase());
    }
}

#[test]
fn of_two_equal_keys_the_last_one_counts() {
    let (domain, warnings) = loaded("domain: a\ndescriptors:\n- key: k\n  key: l\n  value: v\ndomain: b\n");
    assert_eq!((domain.name.as_str(), domain.descriptors[0].key.as_str()), ("b", "l"));
    assert_eq!(
        warnings,
        [
            "a.yaml:4:3: key 'key' stands here again (first in line 3): the last one counts (at b: descriptors[0])",
            "a.yaml:6:1: key 'domain' stands here again (first in line 1): the last one counts",
        ]
    );
}

#[test]
fn only_the_first_document_counts() {
    for text in [
        "---\ndomain: d\n",
        "domain: d\n---\ndomain: e\n",
        "domain: d\n---\n@ % : [ \" garbage",
        "domain: d\n---\n\u{1}\u{0}",
        "domain: d\n...\n",
        "domain: d\n...\n@@@ not yaml\n",
        "%YAML 1.1\n---\ndomain: d\n",
        "# before\n---\n# in\ndomain: d # after\n",
        "\u{feff}domain: d\n",
        "\u{feff}---\ndomain: d\n",
        "domain: d\r\ndescriptors: []\r\n",
        "{domain: d}",
        "{\"domain\": \"d\", \"descriptors\": []}",
        "? domain\n: d\n",
        "domain:\n  d\n",
        "domain: >-\n  d\n",
        "domain: |-\n  d\n",
        "\"domain\": 'd'\n",
        "!!map {domain: d}",
    ] {
        assert_eq!(sound(text).name, "d", "{text:?}");
    }
}

#[test]
fn block_and_flow_styles_mean_the_same() {
    let block = "domain: d\ndescriptors:\n- key: |-\n    a\n    b\n  value: >-\n    c\n    d\n  rate_limit:\n    unit: day\n    requests_per_unit: 5\n";
    let flow = "{domain: d, descriptors: [{key: \"a\\nb\", value: c d, rate_limit: {unit: day, requests_per_unit: 5}}]}";
    assert_eq!(sound(block), sound(flow));
    let value = |text: &str| descriptor(&format!("value: {text}")).value;
    assert_eq!(value("|\n  a\n   b\n\n"), "a\n b\n");
    assert_eq!(value("|+\n  a\n\n"), "a\n\n");
    assert_eq!(value(">\n  a\n  b\n\n  c\n"), "a b\nc\n");
    assert_eq!(value("a\n  b"), "a b");
}

#[test]
fn tabs_do_not_indent_but_may_separate() {
    assert!(!errors_of("domain: d\ndescriptors:\n\t- key: a\n").is_empty());
    assert!(!errors_of("domain: d\ndescriptors:\n- key: a\n\tvalue: b\n").is_empty());
    assert_eq!(sound("domain: \td\n").name, "d");
    assert_eq!(sound("domain: d\t# comment\n").name, "d");
}

#[test]
fn control_characters_are_an_error_at_their_place() {
    let text = "a.yaml:2:4: error loading config file: control characters are not allowed";
    for bad in ['\0', '\u{1}', '\u{7f}', '\u{ffff}', '\u{8}'] {
        assert_eq!(errors_of(format!("domain: d\n# x{bad}\ndescriptors: [")), [text], "{bad:?}");
    }
    assert_eq!(
        errors_of("\0domain: d"),
        ["a.yaml:1:1: error loading config file: control characters are not allowed"]
    );
    assert_eq!(
        errors_of("domain: d\n\0"),
        ["a.yaml:2:1: error loading config file: control characters are not allowed"]
    );
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        errors_of("domain: d\ndescriptors: [{key: 'äöü€😀', nope: 1}]\n"),
        ["a.yaml:2:30: config error, unknown key 'nope' (at d: descriptors[0])"]
    );
    assert_eq!(errors_of("\u{feff}nope: 1\n")[0], "a.yaml:1:1: config error, unknown key 'nope'");
}

#[test]
fn metadata_is_read_like_gos_any() {
    let text = "metadata: {y: 2, 0x10: hex, ~: none, '1': text, a: 1.5, b: ~, c: [yes, 'yes', 010, {d: x}], e: 123456789012345678901234567890, f: 2020-01-01, a: 2, 1.50: x, g: {}, h: []}";
    let spec = descriptor(&format!("rate_limit: {{unit: day, requests_per_unit: 1}}\n{text}"));
    let string = |text: &str| Metadata::String(text.to_owned());
    let list = vec![
        Metadata::Bool(true),
        string("yes"),
        Metadata::Number(8.0),
        Metadata::Struct(vec![("d".to_owned(), string("x"))]),
    ];
    let fields = [
        ("true", Metadata::Number(2.0)),
        ("16", string("hex")),
        ("<nil>", string("none")),
        ("1", string("text")),
        ("a", Metadata::Number(2.0)),
        ("b", Metadata::Null),
        ("c", Metadata::List(list)),
        ("e", Metadata::Number(123_456_789_012_345_678_901_234_567_890.0)),
        ("f", string("2020-01-01")),
        ("1.50", string("x")),
        ("g", Metadata::Struct(vec![])),
        ("h", Metadata::List(vec![])),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(spec.metadata, Some(Metadata::Struct(fields.to_vec())));
}

/// What libyaml, and so the reference, makes of files whose last line does not end.
#[test]
fn a_block_text_ends_as_the_file_does() {
    for (text, value) in [
        ("|\n      b", "b"),
        ("|\n      b\n", "b\n"),
        ("|\n      b\n\n", "b\n"),
        ("|+\n      b\n\n", "b\n\n"),
        ("|+\n      b", "b"),
        ("|-\n      b", "b"),
        (">\n      b\n      c", "b c"),
        ("|\n      b\n      ", "b\n"),
        ("|\n      b\n   ", "b\n"),
        ("|\n      b\n# c", "b\n"),
        ("|\n      b\r\n      c", "b\nc"),
        ("|\n      é", "é"),
    ] {
        let domain = sound(&format!("domain: d\ndescriptors:\n  - key: k\n    value: {text}"));
        assert_eq!(domain.descriptors[0].value, value, "{text:?}");
    }
}
