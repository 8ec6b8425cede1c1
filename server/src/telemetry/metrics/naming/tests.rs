use tollgate_core::rules::{Defaults, DescriptorSpec, DomainSpec, Matcher, RuleSpec};

use super::*;

fn node(key: &str, value: &str) -> DescriptorSpec {
    DescriptorSpec { key: key.into(), value: value.into(), ..DescriptorSpec::default() }
}

fn limited(node: DescriptorSpec) -> DescriptorSpec {
    let rule = RuleSpec {
        limit: None,
        quota: Default::default(),
        name: String::new(),
        replaces: Vec::new(),
        on_failure: Default::default(),
        accuracy: Default::default(),
        max_hold: Default::default(),
    };
    DescriptorSpec { rule: Some(rule), ..node }
}

fn parent(node: DescriptorSpec, child: DescriptorSpec) -> DescriptorSpec {
    DescriptorSpec { descriptors: vec![child], ..node }
}

fn rule(domain: &str, descriptor: DescriptorSpec) -> Rule {
    let spec = DomainSpec { name: domain.into(), descriptors: vec![descriptor], ..DomainSpec::default() };
    Matcher::build(vec![spec], Defaults::default()).unwrap().rules()[0].clone()
}

/// The whole name of a rule in domain `d` for a request, without the cut after the labels.
fn name(descriptor: DescriptorSpec, entries: &[(&str, &str)]) -> String {
    let rule = rule("d", descriptor);
    if !shows_values(&rule.metric) {
        return without_values(&rule);
    }
    let descriptor = Descriptor { entries: entries.iter().copied().collect(), ..Descriptor::default() };
    let text = with_values("d", &rule.metric, &descriptor);
    String::from_utf8(text.to_vec()).unwrap()
}

fn detailed(node: DescriptorSpec) -> DescriptorSpec {
    DescriptorSpec { detailed_metric: true, ..node }
}

fn shared(node: DescriptorSpec) -> DescriptorSpec {
    DescriptorSpec { share_threshold: true, ..node }
}

fn valued(node: DescriptorSpec) -> DescriptorSpec {
    DescriptorSpec { value_to_metric: true, ..node }
}

#[test]
fn a_plain_rule_shows_what_its_file_says() {
    assert_eq!(name(limited(node("k", "")), &[("k", "v")]), "d.k");
    assert_eq!(name(limited(node("k", "v")), &[("k", "v")]), "d.k_v");
    assert_eq!(name(limited(node("k", "v*")), &[("k", "v1")]), "d.k_v*");
    assert_eq!(name(parent(node("a", "x"), limited(node("b", ""))), &[("a", "x"), ("b", "y")]), "d.a_x.b");
}

#[test]
fn a_detailed_rule_shows_every_value_even_an_empty_one() {
    let rule = || parent(node("a", ""), detailed(limited(node("b", "y*"))));
    assert_eq!(name(rule(), &[("a", "x"), ("b", "y1")]), "d.a_x.b_y1");
    assert_eq!(name(rule(), &[("a", ""), ("b", "y1")]), "d.a_.b_y1");
}

#[test]
fn a_shared_level_of_a_detailed_rule_shows_its_pattern_and_empty_values_go() {
    let rule = || parent(node("a", ""), detailed(shared(limited(node("b", "y*")))));
    assert_eq!(name(rule(), &[("a", "x"), ("b", "y1")]), "d.a_x.b_y*");
    assert_eq!(name(rule(), &[("a", ""), ("b", "y1")]), "d.a.b_y*");
}

#[test]
fn value_to_metric_shows_the_value_of_its_own_level_only() {
    let rule = || parent(valued(node("a", "")), limited(node("b", "")));
    assert_eq!(name(rule(), &[("a", "x"), ("b", "y")]), "d.a_x.b");
    assert_eq!(name(rule(), &[("a", ""), ("b", "y")]), "d.a.b");
    assert_eq!(name(valued(limited(node("k", "v*"))), &[("k", "v1")]), "d.k_v1");
    assert_eq!(
        name(parent(valued(node("a", "")), limited(node("b", "y*"))), &[("a", "x"), ("b", "y1")]),
        "d.a_x.b_y*"
    );
    assert_eq!(name(valued(limited(node("k", "v"))), &[("k", "v")]), "d.k_v");
}

#[test]
fn sharing_beats_value_to_metric_and_detailed_beats_it_too() {
    assert_eq!(name(valued(shared(limited(node("k", "v*")))), &[("k", "v1")]), "d.k_v*");
    let rule = parent(node("a", ""), detailed(valued(limited(node("b", "")))));
    assert_eq!(name(rule, &[("a", "x"), ("b", "")]), "d.a_x.b_");
}

#[test]
fn a_pattern_that_begins_in_the_key_appears_whole() {
    let rule = parent(node("star*", ""), valued(limited(node("b", ""))));
    assert_eq!(name(rule, &[("starX", "s"), ("b", "y")]), "d.starX_star*.b_y");
}

#[test]
fn only_three_levels_become_labels() {
    let rule = parent(node("a", ""), parent(node("b", ""), detailed(limited(node("c", "")))));
    assert_eq!(name(rule, &[("a", "1"), ("b", "2"), ("c", "3")]), "d.a_1.b_2");
}

fn mended(text: &str) -> String {
    let mut text = text.as_bytes().to_vec();
    mend(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn colons_and_bars_become_underscores() {
    assert_eq!(mended("d.k_a:b|c"), "d.k_a_b_c");
}

#[test]
fn dots_of_addresses_become_underscores_and_others_stay() {
    assert_eq!(mended("d.masked_remote_address_0.0.0.0/0"), "d.masked_remote_address_0_0_0_0/0");
    assert_eq!(mended("d.ip_10.1.2.3.next"), "d.ip_10_1_2_3.next");
    assert_eq!(mended("d.v_1.2.3"), "d.v_1.2.3");
    assert_eq!(mended("d.host_a.b.c.d"), "d.host_a.b.c.d");
    assert_eq!(mended("1234.1.1.1"), "1234_1_1_1");
    assert_eq!(mended("1.2.3.4567.8.9.10"), "1_2_3_4567_8_9_10");
    assert_eq!(mended("1.2.3.4.5.6.7.8"), "1_2_3_4.5_6_7_8");
    assert_eq!(mended("1234.1.1."), "1234.1.1.");
}

#[test]
fn a_domain_with_dots_is_told_from_its_levels() {
    let dotted = rule("my.dom", parent(node("a", ""), limited(node("b.c", ""))));
    assert_eq!(domain_and_path(&dotted), ("my.dom", "a.b.c"));
    assert_eq!(domain_and_path(&rule("", limited(node("k", "v")))), ("", "k_v"));
}

#[test]
fn a_rule_without_levels_is_split_at_the_first_dot() {
    let bare = |path: &str| Rule {
        path: path.into(),
        metric: Metric::default(),
        ..rule("d", limited(node("k", "")))
    };
    assert_eq!(domain_and_path(&bare("d.override")), ("d", "override"));
    assert_eq!(domain_and_path(&bare("alone")), ("alone", ""));
}
