use super::{folder, path, run, source};

const RULES: &str = "
domain: shop
charge: all_or_nothing
partition: tenant
descriptors:
  - key: tenant
    rate_limit: { unit: minute, requests_per_unit: 3, algorithm: sliding_window }
    descriptors:
      - key: op
        value: pay
        rate_limit: { name: pay, unit: minute, requests_per_unit: 1, algorithm: token_bucket, burst: 1 }
";

/// Runs one test with these requests.
fn outcome(requests: &str) -> (i32, String, String) {
    let file = format!("rules: rules\ndomain: shop\ntests:\n  - name: one\n    requests:\n{requests}");
    let folder = folder(&[("rules/shop.yaml", RULES), ("test.yaml", &file)]);
    run(&["test", &path(&folder, "test.yaml")])
}

#[test]
fn the_shipped_tests_hold() {
    let (code, out, err) = run(&["test", &source("config/tests/example.yaml")]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.ends_with("9 tests, 0 failed\n"), "{out}");
}

#[test]
fn a_refusal_of_one_limit_charges_no_other() {
    let both = "descriptors: [{ tenant: t }, { tenant: t, op: pay }]";
    let (code, out, _) = outcome(&format!(
        "      - {{ {both}, expect: allowed }}\n      - {{ {both}, times: 5, expect: {{ allowed: false, retry_after: 60s }} }}\n      - {{ descriptors: [{{ tenant: t }}], expect: {{ allowed: true, remaining: 1 }} }}\n"
    ));
    assert_eq!(code, 0, "{out}");
}

#[test]
fn a_failure_says_what_differs_and_what_each_limit_said() {
    let (code, out, _) = outcome(
        "      - { after: 5s, descriptors: [{ tenant: t }], times: 4, every: 1s, expect: { allowed: true } }\n",
    );
    assert_eq!(code, 1);
    for said in [
        "FAIL one (4 requests)",
        "line 6, number 4 of 4, at 8s",
        "expected allowed, got refused",
        "tenant=t: refused by shop.tenant, 0 of 3 remain, retry_after ",
        "1 tests, 1 failed",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
}

#[test]
fn each_expectation_can_fail() {
    for expect in [
        "refused",
        "{ remaining: 0 }",
        "{ wait: 1s }",
        "{ retry_after: never }",
        "{ limits: [] , allowed: false }",
        "{ limits: [{}, {}] }",
        "{ limits: [{ rule: pay }] }",
        "{ limits: [{ outcome: unmatched }] }",
        "{ limits: [{ allowed: false }] }",
        "{ limits: [{ shadowed: true }] }",
        "{ limits: [{ used: 2 }] }",
        "{ limits: [{ remaining: 7 }] }",
        "{ limits: [{ retry_after: 1s }] }",
    ] {
        let (code, out, err) =
            outcome(&format!("      - {{ descriptors: [{{ tenant: t }}], expect: {expect} }}\n"));
        assert_eq!(code, 1, "{expect}: {out}{err}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    for (request, said) in [
        (
            "{ descriptors: [{ tenant: t }], expect: maybe }",
            "6:49: this has to be allowed, refused or a mapping",
        ),
        ("{ descriptors: [{ tenant: t }], expects: allowed }", "nothing is expected"),
        ("{ descriptors: [{ tenant: t }], expect: allowed, time: 1 }", "unknown key 'time'"),
        ("{ at: soon, descriptors: [{ tenant: t }], expect: allowed }", "a duration such as"),
        ("{ at: 1s, after: 1s, descriptors: [{ tenant: t }], expect: allowed }", "either at a time"),
        ("{ expect: allowed }", "no descriptors"),
        ("{ descriptors: [{ tenant: t }], hits: -1, expect: allowed }", "a whole number in range"),
        ("{ descriptors: [{ tenant: t }], expect: {} }", "nothing is expected"),
    ] {
        let (code, _, err) = outcome(&format!("      - {request}\n"));
        assert_eq!(code, 2, "{request}");
        assert!(err.contains(said) && err.contains("test.yaml:"), "{request}: {err}");
    }
}

#[test]
fn results_for_a_ci_server() {
    let file = "tests:\n  - name: a <b> & \"c\"\n    domain: shop\n    requests: [{ descriptors: [{ tenant: t }], expect: refused }]\n";
    let folder = folder(&[("rules/shop.yaml", RULES), ("test.yaml", file)]);
    let (code, out, _) =
        run(&["test", "--format", "junit", "--rules", &path(&folder, "rules"), &path(&folder, "test.yaml")]);
    assert_eq!(code, 1);
    assert!(out.contains("tests=\"1\" failures=\"1\""), "{out}");
    assert!(out.contains("name=\"a &lt;b&gt; &amp; &quot;c&quot;\"><failure message="), "{out}");
}
