use super::{folder, path, run};

/// Warnings of a file with these lines, and whether they are errors when all is taken strictly.
fn checked(rules: &str) -> (String, bool) {
    let folder = folder(&[("rules.yaml", rules)]);
    let (code, _, err) = run(&["check", &path(&folder, "")]);
    assert_eq!(code, 0, "{err}");
    let (strict, ..) = run(&["check", "--strict", &path(&folder, "")]);
    (err, strict != 0)
}

/// What a load warns of too.
fn warnings(rules: &str) -> String {
    let (err, strict) = checked(rules);
    assert_eq!(strict, !err.is_empty(), "{err}");
    err
}

/// What only `check` says.
fn advice(rules: &str) -> String {
    let (err, strict) = checked(rules);
    assert!(!strict, "{err}");
    err
}

fn limit(fields: &str) -> String {
    advice(&format!("domain: d\ndescriptors:\n  - key: a\n    rate_limit: {{ {fields} }}\n"))
}

#[test]
fn numbers_that_do_not_fit_their_unit() {
    for (fields, place, said) in [
        ("unit: second, requests_per_unit: 2000000", "4:52", "2000000 requests per second are never reached"),
        ("unit: year, unit_multiplier: 3, requests_per_unit: 9", "4:48", "kept for 1095 days"),
        (
            "unit: second, requests_per_unit: 100, algorithm: token_bucket, burst: 5",
            "4:89",
            "less than a second of the rate",
        ),
        (
            "unit: minute, requests_per_unit: 6, algorithm: leaky_bucket, queue: 3, max_hold: 20ms",
            "4:100",
            "shorter than the time between two requests, 10s",
        ),
        (
            "unit: second, requests_per_unit: 6, algorithm: leaky_bucket, max_hold: 1s",
            "4:90",
            "without a queue nobody waits",
        ),
    ] {
        let found = limit(fields);
        assert!(
            found.contains(said) && found.contains("(at d: descriptors[0].rate_limit."),
            "{fields}: {found}"
        );
        assert!(found.contains(&format!("rules.yaml:{place}: ")), "{fields}: {found}");
    }
}

#[test]
fn sound_numbers_are_left_alone() {
    for fields in [
        "unit: second, requests_per_unit: 1000000",
        "unit: year, requests_per_unit: 1",
        "unit: minute, requests_per_unit: 600, algorithm: token_bucket, burst: 10",
        "unit: second, requests_per_unit: 100, algorithm: leaky_bucket, queue: 3, max_hold: 10ms",
    ] {
        assert_eq!(limit(fields), "", "{fields}");
    }
}

#[test]
fn a_limit_for_each_combination_of_open_keys() {
    let rules = |value: &str| {
        format!(
            "domain: d\ndescriptors:\n  - key: ip\n    descriptors:\n      - key: path\n{value}        rate_limit: {{ unit: day, requests_per_unit: 1 }}\n"
        )
    };
    let found = advice(&rules(""));
    assert!(found.contains("rules.yaml:6:21: one counter for each combination of ip and path"), "{found}");
    assert!(found.contains("(at d: descriptors[0].descriptors[0].rate_limit)"), "{found}");
    assert_eq!(advice(&rules("        value: /login\n")), "");
}

#[test]
fn a_key_of_which_a_pattern_takes_every_value() {
    let rules = |pattern: &str| {
        let rate = "    rate_limit: { unit: day, requests_per_unit: 1 }\n";
        format!(
            "domain: d\ndescriptors:\n  - key: user\n{rate}  - key: user\n    value: \"{pattern}\"\n{rate}"
        )
    };
    let found = warnings(&rules("*"));
    assert!(
        found.contains("rules.yaml:3:5: 'user' never matches: 'user_*' in line 5 goes before it"),
        "{found}"
    );
    assert_eq!(warnings(&rules("a*")), "");
}

#[test]
fn everything_in_one_slot() {
    let rules = |value: &str| {
        format!(
            "domain: d\ncharge: all_or_nothing\npartition: t\ndescriptors:\n  - key: t\n{value}    rate_limit: {{ unit: day, requests_per_unit: 1 }}\n"
        )
    };
    let found = advice(&rules("    value: all\n"));
    assert!(found.contains("rules.yaml:3:12: partition 't' has the value 'all' only"), "{found}");
    assert_eq!(advice(&rules("")), "");
    assert!(warnings("domain: d\ncharge: all_or_nothing\n").contains("without partition"));
}

const ODD: &str = "domain: d\ndescriptors:\n  - key: a\n    shadow_mode: true\n";
const BAD: &str =
    "domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: eon, requests_per_unit: 1 }\n";

#[test]
fn problems_for_programs() {
    let rules = folder(&[("odd.yaml", ODD)]);
    let (code, out, err) = run(&["check", "--format", "json", &path(&rules, "")]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str(), &found["ok"]), (0, "", &true.into()));
    assert_eq!(found["warnings"][0]["line"], 4);
    assert!(found["warnings"][0]["file"].as_str().unwrap().ends_with("/odd.yaml"));
    let rules = folder(&[("bad.yaml", BAD)]);
    let (code, out, _) = run(&["check", "--format", "json", &path(&rules, "")]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &found["ok"]), (1, &false.into()));
    assert_eq!(found["errors"][0]["path"], "d: descriptors[0].rate_limit.unit");
}

#[test]
fn annotations_for_github() {
    let rules = folder(&[("bad.yaml", BAD)]);
    let (code, out, _) = run(&["check", "--format", "github", &path(&rules, "")]);
    assert_eq!(code, 1);
    let file = path(&rules, "bad.yaml");
    assert!(
        out.contains(&format!("::error file={file},line=4,col=25::invalid rate limit unit 'eon'")),
        "{out}"
    );
}
