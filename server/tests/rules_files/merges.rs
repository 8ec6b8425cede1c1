//! Anchors, aliases and `<<`.

use tollgate_core::rules::Metadata;

use super::{errors_of, loaded, rule, sound};

const BASE: &str = "
domain: d
descriptors:
- key: a
  rate_limit: &a {unit: day, requests_per_unit: 1, name: a}
- key: b
  rate_limit: &b {unit: hour, requests_per_unit: 2}
- key: c
  rate_limit: ";

/// Unit, number and name of a third rule with these fields, and the warnings.
fn merged(fields: &str) -> (String, Vec<String>) {
    let (domain, warnings) = loaded(&format!("{BASE}{fields}\n"));
    match &domain.descriptors[2].rule {
        Some(rule) => {
            let (unit, number) = (rule.quota.unit.name(), rule.quota.requests_per_unit);
            (format!("{number} {unit} {}", rule.name), warnings)
        }
        None => panic!("no rule: {fields}"),
    }
}

#[test]
fn an_alias_is_what_it_names() {
    assert_eq!(merged("*a").0, "1 DAY a");
    let domain = sound(
        "domain: &d x\ndescriptors:\n- &e {key: *d, value: &v 5}\n- {key: y, value: *v, descriptors: [*e]}\n",
    );
    assert_eq!(domain.descriptors[0].key, "x");
    assert_eq!(domain.descriptors[1].value, "5");
    assert_eq!(domain.descriptors[1].descriptors[0], domain.descriptors[0]);
}

#[test]
fn an_anchor_may_be_set_again() {
    let domain = sound("domain: d\ndescriptors:\n- key: &k a\n- key: &k b\n- {key: c, value: *k}\n");
    assert_eq!(domain.descriptors[2].value, "b");
}

#[test]
fn a_merge_takes_over_what_is_not_said() {
    for (fields, expected) in [
        ("{<<: *a}", "1 DAY a"),
        ("{<<: *a, requests_per_unit: 9}", "9 DAY a"),
        ("{<<: [*a, *b]}", "1 DAY a"),
        ("{<<: [*b, *a]}", "2 HOUR a"),
        ("{<<: [*b, *a], name: c}", "2 HOUR c"),
        ("{<<: {unit: week}, requests_per_unit: 3}", "3 WEEK "),
        ("{<<: {<<: *a, unit: week}}", "1 WEEK a"),
        ("{<<: [{<<: *b}, *a]}", "2 HOUR a"),
        ("{<<: *a, <<: *b}", "2 HOUR a"),
        ("{<<: [], unit: day, requests_per_unit: 4}", "4 DAY "),
        ("{!!merge <<: *a}", "1 DAY a"),
    ] {
        assert_eq!(merged(fields), (expected.to_owned(), Vec::new()), "{fields}");
    }
}

#[test]
fn a_merge_that_comes_later_wins_as_in_the_reference() {
    let (rule, warnings) = merged("{requests_per_unit: 9, <<: *a}");
    assert_eq!(rule, "1 DAY a");
    assert_eq!(
        warnings,
        [
            "a.yaml:9:38: << replaces 'requests_per_unit' of line 9: the last one counts (at d: descriptors[2].rate_limit)"
        ]
    );
    assert_eq!(merged("{requests_per_unit: 9, <<: *a, requests_per_unit: 7}").0, "7 DAY a");
}

#[test]
fn only_mappings_merge() {
    let text = "error loading config file: map merge requires map or sequence of maps as the value";
    for value in ["5", "~", "[5]", "[[]]", "x"] {
        let errors = errors_of(format!("{BASE}{{unit: day, requests_per_unit: 1, <<: {value}}}\n"));
        assert_eq!(errors, [format!("a.yaml:9:53: {text} (at d: descriptors[2].rate_limit)")], "{value}");
    }
}

#[test]
fn what_is_wrong_in_an_anchor_is_said_once() {
    let errors = errors_of(
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: &r {unit: x, requests_per_unit: -1}\n- key: b\n  rate_limit: *r\n- key: c\n  rate_limit: {<<: *r}\n",
    );
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn unknown_keys_are_found_in_merged_mappings() {
    let errors = errors_of("domain: d\ndescriptors:\n- {key: a, <<: {nope: 1}}\n");
    assert_eq!(errors, ["a.yaml:3:17: config error, unknown key 'nope' (at d: descriptors[0])"]);
}

#[test]
fn metadata_merges_too() {
    let rule = "rate_limit: {unit: day, requests_per_unit: 1}";
    let text = format!(
        "domain: d\ndescriptors:\n- key: a\n  {rule}\n  metadata: {{<<: [{{a: 1, b: 1}}, {{b: 2, c: 2}}], a: 3}}\n"
    );
    let Some(Metadata::Struct(mut fields)) = sound(&text).descriptors[0].metadata.clone() else {
        panic!("no struct")
    };
    fields.sort_by(|one, two| one.0.cmp(&two.0));
    let number = |name: &str, number: f64| (name.to_owned(), Metadata::Number(number));
    assert_eq!(fields, [number("a", 3.0), number("b", 1.0), number("c", 2.0)]);
    let bad = format!("domain: d\ndescriptors:\n- key: a\n  {rule}\n  metadata: {{<<: 5}}\n");
    assert!(errors_of(bad)[0].contains("error parsing metadata: map merge requires"));
}

#[test]
fn an_alias_inside_of_its_own_anchor_is_an_error() {
    for text in [
        "domain: d\ndescriptors: &a\n- key: k\n  descriptors: *a\n",
        "&a {domain: d, descriptors: *a}",
        "&a [*a]",
        "domain: d\ndescriptors:\n- &a {key: k, <<: *a}\n",
    ] {
        let errors = errors_of(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].contains("an alias inside of its own anchor"), "{text}: {errors:?}");
    }
    assert_eq!(rule("unit: day, requests_per_unit: 1").name, "");
}

/// Go decodes each of them into the same struct, so that fields which the last one leaves out stay.
#[test]
fn a_rate_limit_adds_to_an_earlier_one() {
    let base = "domain: d\ndescriptors:\n- &base {key: a, rate_limit: {unit: minute, requests_per_unit: 10, name: n}}\n";
    for (rate_limit, expected) in [
        ("{requests_per_unit: 5}", "5 MINUTE n"),
        ("{unit: day}", "10 DAY n"),
        ("{unit: day, requests_per_unit: 0, name: m}", "0 DAY m"),
        ("{}", "10 MINUTE n"),
        ("{<<: {unit: hour}, name: m}", "10 HOUR m"),
    ] {
        let domain = sound(&format!("{base}- <<: *base\n  key: b\n  rate_limit: {rate_limit}\n"));
        let rule = domain.descriptors[1].rule.clone().unwrap();
        let quota = rule.quota;
        let found = format!("{} {} {}", quota.requests_per_unit, quota.unit.name(), rule.name);
        assert_eq!(found, expected, "{rate_limit}");
    }
    let none = sound(&format!("{base}- <<: *base\n  key: b\n  rate_limit: ~\n"));
    assert!(none.descriptors[1].rule.is_none());
    let unlimited = errors_of(format!("{base}- <<: *base\n  key: b\n  rate_limit: {{unlimited: true}}\n"));
    assert_eq!(unlimited.len(), 1);
    assert!(unlimited[0].contains("should not specify rate limit unit when unlimited"), "{unlimited:?}");
    let wrong = errors_of(format!("{base}- <<: *base\n  key: b\n  rate_limit: 5\n"));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}

#[test]
fn a_second_rate_limit_adds_to_the_first() {
    let text = |second: &str| {
        format!(
            "domain: d\ndescriptors:\n- key: a\n  rate_limit: {{unit: hour, requests_per_unit: 3}}\n  rate_limit: {second}\n"
        )
    };
    let (domain, warnings) = loaded(&text("{requests_per_unit: 5}"));
    let quota = domain.descriptors[0].rule.as_ref().unwrap().quota;
    assert_eq!((quota.requests_per_unit, quota.unit.name()), (5, "HOUR"));
    assert_eq!(
        warnings,
        [
            "a.yaml:5:3: key 'rate_limit' stands here again (first in line 4): the last of each of their fields counts (at d: descriptors[0])"
        ]
    );
    assert!(loaded(&text("~")).0.descriptors[0].rule.is_none());
}

#[test]
fn metadata_adds_to_earlier_metadata_but_not_below() {
    let limit = "rate_limit: {unit: day, requests_per_unit: 1}";
    let domain = sound(&format!(
        "domain: d\ndescriptors:\n- &base {{key: a, {limit}, metadata: {{x: p, z: {{p: 1}}}}}}\n- <<: *base\n  key: b\n  metadata: {{z: {{q: 1}}}}\n"
    ));
    let text = |name: &str, text: &str| (name.to_owned(), Metadata::String(text.to_owned()));
    let inner = Metadata::Struct(vec![("q".to_owned(), Metadata::Number(1.0))]);
    let expected = Metadata::Struct(vec![text("x", "p"), ("z".to_owned(), inner)]);
    assert_eq!(domain.descriptors[1].metadata, Some(expected));
}
