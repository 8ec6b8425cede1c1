//! Several files at once.

use tollgate_server::config::rules::{Options, Source};

use super::{load, shown, source};

const MERGE: Options =
    Options { merge_domains: true, strict: false, ignore_non_yaml: false, resources: false };

fn errors(sources: &[Source], options: &Options) -> Vec<String> {
    load(sources, options).map_or_else(|errors| shown(&errors), |_| Vec::new())
}

fn keys(sources: &[Source]) -> Vec<String> {
    let loaded = match load(sources, &MERGE) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{:?}", shown(&errors)),
    };
    assert_eq!((loaded.domains.len(), shown(&loaded.warnings)), (1, Vec::new()));
    loaded.domains[0].descriptors.iter().map(|spec| spec.key.clone()).collect()
}

#[test]
fn domains_come_in_the_order_of_the_files() {
    let sources = ["c", "a", "b"].map(|name| source(&format!("{name}.yaml"), format!("domain: {name}\n")));
    let loaded = load(&sources, &Options::default()).unwrap();
    let names: Vec<&str> = loaded.domains.iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(names, ["c", "a", "b"]);
    assert_eq!(load(&[], &Options::default()).unwrap().domains.len(), 0);
}

#[test]
fn every_error_of_every_file_is_reported() {
    let sources = [
        source("b.yaml", "domain: d\ndescriptors: 5\nnope: 1\n"),
        source("a.yaml", "["),
        source("c.yaml", ""),
        source("d.yaml", "domain: d\n"),
        source("e.yaml", [b'd', 0xff]),
    ];
    let errors = errors(&sources, &Options::default());
    let places: Vec<String> =
        errors.iter().map(|error| error.split(": ").next().unwrap_or_default().to_owned()).collect();
    assert_eq!(places, ["b.yaml:2:14", "b.yaml:3:1", "a.yaml:2:1", "c.yaml:1:1", "d.yaml:1:9", "e.yaml:1:2"]);
}

#[test]
fn e8_a_domain_has_one_file() {
    let sources = [
        source("a.yaml", "domain: d\n"),
        source("b.yaml", "# c\ndomain: d\n"),
        source("c.yaml", "domain: D\n"),
    ];
    assert_eq!(errors(&sources, &Options::default()), ["b.yaml:2:9: duplicate domain 'd' in config file"]);
    assert_eq!(errors(&sources, &MERGE), [""; 0]);
    let nameless = [source("a.yaml", "domain: ''\n"), source("b.yaml", "domain: ''\n")];
    assert_eq!(errors(&nameless, &Options::default()).len(), 2);
}

#[test]
fn merged_files_add_their_descriptors_in_order() {
    let file = |name: &str, key: &str| source(name, format!("domain: d\ndescriptors:\n- key: {key}\n"));
    assert_eq!(keys(&[file("b.yaml", "z"), file("a.yaml", "y"), file("c.yaml", "x")]), ["z", "y", "x"]);
}

#[test]
fn e10_across_files_names_the_second_one() {
    let one = source("a.yaml", "domain: d\ndescriptors:\n- {key: a, value: b}\n- key: c\n");
    let two = source("b.yaml", "domain: d\ndescriptors:\n- key: x\n- key: a_b\n  descriptors:\n  - key: y\n");
    let three = source("c.yaml", "domain: d\ndescriptors:\n- key: x\n");
    assert_eq!(
        errors(&[one, two, three], &MERGE),
        [
            "b.yaml:4:3: duplicate descriptor composite key 'd.a_b' (at d: descriptors[1])",
            "c.yaml:3:3: duplicate descriptor composite key 'd.x' (at d: descriptors[0])",
        ]
    );
}

#[test]
fn merged_files_agree_on_charge_and_partition() {
    let pair = |one: &str, two: &str| {
        let sources = [
            source("a.yaml", format!("domain: d\n{one}\n")),
            source("b.yaml", format!("domain: d\n{two}\n")),
        ];
        errors(&sources, &MERGE)
    };
    let all = "charge: all_or_nothing";
    for text in ["charge: each", "charge: admitted", all, "charge: all_or_nothing\npartition: t"] {
        assert_eq!(pair(text, text), [""; 0]);
    }
    assert_eq!(pair("", "charge: each"), [""; 0]);
    assert_eq!(pair("charge: each", ""), [""; 0]);
    assert_eq!(
        pair("charge: admitted", all),
        ["b.yaml:2:9: charge differs from the domain's other file a.yaml (at d: charge)"]
    );
    assert_eq!(
        pair("", all),
        ["b.yaml:2:9: charge has to be in the domain's first file a.yaml too (at d: charge)"]
    );
    assert_eq!(
        pair(all, ""),
        ["b.yaml:1:9: charge is missing here and set in the domain's other file a.yaml (at d: charge)"]
    );
    for other in [all, "charge: all_or_nothing\npartition: u"] {
        let errors = pair("charge: all_or_nothing\npartition: t", other);
        let place = if other == all { "1:9" } else { "3:12" };
        assert_eq!(
            errors,
            [format!(
                "b.yaml:{place}: partition differs from the domain's other file a.yaml (at d: partition)"
            )]
        );
    }
}

#[test]
fn an_explicit_each_holds_for_the_other_files_too() {
    let each = source("a.yaml", "domain: d\ncharge: each\n");
    let bucket = source(
        "b.yaml",
        "domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: day, requests_per_unit: 1, algorithm: token_bucket}}\n",
    );
    let text = "charge: each of a.yaml is for fixed windows only";
    let expected = format!("b.yaml:3:24: {text} (at d: descriptors[0].rate_limit)");
    for sources in [[each.clone(), bucket.clone()], [bucket, each]] {
        assert_eq!(errors(&sources, &MERGE), std::slice::from_ref(&expected));
    }
}

#[test]
fn patterns_and_names_are_compared_across_files() {
    let one = source(
        "a.yaml",
        "domain: d\ndescriptors:\n- key: k\n  value: a*\n  rate_limit: {unit: day, requests_per_unit: 1, name: n, replaces: [{name: m}]}\n",
    );
    let two = source(
        "b.yaml",
        "domain: d\ndescriptors:\n- key: k\n  value: ab*\n  rate_limit: {unit: day, requests_per_unit: 1, name: m}\n",
    );
    let warnings = shown(&load(&[one, two], &MERGE).unwrap().warnings);
    assert_eq!(
        warnings,
        [
            "b.yaml:3:3: 'k_ab*' never matches: 'k_a*' in line 3 of a.yaml stands before it and matches all that (at d: descriptors[0])"
        ]
    );
}
