//! What the rules tell a store, and what becomes of a request whose store has no answer.

use tollgate_core::rules::Layout;

use super::*;

/// Settles answers of which `None` is a limit that could not be asked.
fn settled_in_part<'m>(matcher: &'m Matcher, query: &Query<'_>, allowed: &[Option<bool>]) -> Decision<'m> {
    let plan = matcher.plan(query);
    let answers: Vec<Result<Answer, ()>> =
        allowed.iter().map(|allowed| allowed.map(verdict).ok_or(())).collect();
    assert_eq!(plan.hits().len(), answers.len());
    plan.settle(&answers)
}

#[test]
fn a_limit_that_could_not_be_asked_leaves_the_request_undecided() {
    let matcher = matcher(vec![node("a", "", 1), node("b", "", 1)]);
    let query = query([descriptor(&[("a", "1")]), descriptor(&[("b", "1")])]);
    let decision = settled_in_part(&matcher, &query, &[Some(true), None]);
    assert!(decision.undecided && decision.allowed());
    assert!(matches!(&decision.outcomes[1], Outcome::Failed { rule, .. } if *rule.path == *"d.b"));
    assert!(!settled_in_part(&matcher, &query, &[Some(true), Some(true)]).undecided);
}

#[test]
fn a_refusal_stands_whatever_could_not_be_asked() {
    let matcher = matcher(vec![node("a", "", 1), node("b", "", 1)]);
    let query = query([descriptor(&[("a", "1")]), descriptor(&[("b", "1")])]);
    let decision = settled_in_part(&matcher, &query, &[Some(false), None]);
    assert!(!decision.allowed() && !decision.undecided);
}

#[test]
fn shadow_rules_and_idle_alternatives_leave_nothing_undecided() {
    let shadow = DescriptorSpec { shadow: true, ..node("s", "", 1) };
    let alternative = |key: &str| DescriptorSpec { alternative: true, ..node(key, "", 1) };
    let matcher = matcher(vec![shadow, alternative("x"), alternative("y")]);
    let query = query([descriptor(&[("s", "1")]), descriptor(&[("x", "1")]), descriptor(&[("y", "1")])]);
    let undecided = |allowed: [Option<bool>; 3]| settled_in_part(&matcher, &query, &allowed).undecided;
    assert!(!undecided([None, Some(true), Some(true)]), "shadow");
    assert!(!undecided([Some(true), None, Some(true)]), "one alternative passes");
    assert!(undecided([Some(true), None, Some(false)]), "all depends on the one that failed");
    assert!(undecided([Some(true), None, None]));
    assert!(!undecided([Some(true), Some(false), Some(false)]), "refused");
}

#[test]
fn in_the_global_shadow_mode_nothing_is_undecided() {
    let defaults = Defaults { shadow: true, ..Defaults::default() };
    let matcher = matcher_with(vec![node("a", "", 1)], Charge::Each, defaults);
    assert!(!settled_in_part(&matcher, &query([descriptor(&[("a", "1")])]), &[None]).undecided);
}

#[test]
fn hits_carry_the_value_of_the_partition() {
    let domain = DomainSpec {
        name: "d".into(),
        charge: Charge::AllOrNothing,
        partition: Some("tenant".into()),
        on_overload: Some(OnFailure::Deny),
        descriptors: vec![with(node("tenant", "", 1), vec![node("user", "", 1)]), node("ip", "", 1)],
    };
    let matcher = Matcher::build(vec![domain], Defaults::default()).unwrap();
    let query = query([
        descriptor(&[("tenant", "acme")]),
        descriptor(&[("tenant", "acme"), ("user", "7")]),
        descriptor(&[("ip", "::1")]),
    ]);
    let plan = matcher.plan(&query);
    let partitions: Vec<Option<&str>> = plan.hits().iter().map(|hit| hit.partition.as_deref()).collect();
    assert_eq!(partitions, [Some("acme"), Some("acme"), None]);
    assert_eq!(plan.on_overload(), OnFailure::Deny);
}

#[test]
fn who_shares_a_counter_shares_its_partition_and_long_ones_are_bounded() {
    let shared = DescriptorSpec { share_threshold: true, ..node("tenant", "acme*", 1) };
    let domain = DomainSpec {
        name: "d".into(),
        charge: Charge::AllOrNothing,
        partition: Some("tenant".into()),
        descriptors: vec![shared, node("tenant", "", 1)],
        ..DomainSpec::default()
    };
    let matcher = Matcher::build(vec![domain], Defaults::default()).unwrap();
    let long = "x".repeat(1_000);
    let values = ["acme1", "acme2", "other", &long];
    let query = query(values.map(|value| descriptor(&[("tenant", value)])));
    let plan = matcher.plan(&query);
    let partitions: Vec<&str> = plan.hits().iter().map(|hit| hit.partition.as_deref().unwrap()).collect();
    assert_eq!(partitions[0], partitions[1]);
    assert_eq!(plan.hits()[0].key, plan.hits()[1].key);
    assert_eq!(partitions[2], "other");
    assert_eq!(partitions[3].len(), 64);
}

#[test]
fn with_the_layout_of_the_reference_counters_have_its_names() {
    let defaults = Defaults { layout: Layout::Reference, ..Defaults::default() };
    let files = DescriptorSpec { share_threshold: true, ..node("files", "files/*", 5) };
    let matcher = matcher_with(vec![files, node("a", "", 1)], Charge::Each, defaults);
    let own = Override::new(Quota { requests_per_unit: 7, unit: Unit::Day, multiplier: 1 }).unwrap();
    let query = query([
        descriptor(&[("files", "files/a.pdf")]),
        descriptor(&[("a", "x_y")]),
        Descriptor { limit: Some(Box::new(own)), ..descriptor(&[("n", "m")]) },
    ]);
    let plan = matcher.plan(&query);
    let keys: Vec<&[u8]> = plan.hits().iter().map(|hit| hit.key.as_bytes()).collect();
    assert_eq!(keys, [&b"d_files_files/*_"[..], b"d_a_x_y_", b"d_n_m_"]);
}
