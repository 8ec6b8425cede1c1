use tollgate_core::limit::{FixedWindow, Refused, Window};
use tollgate_core::rules::{Accuracy, Quota};
use tollgate_core::rules::{Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher, Query, RuleSpec};

use super::*;

const NOW: Time = Time::from_micros(1_700_000_000_000_000);

fn node(key: &str, requests: u64, on_failure: OnFailure) -> DescriptorSpec {
    let window = Window::Epoch(Span::from_secs(3600));
    let rule = RuleSpec {
        limit: Some(Limit::FixedWindow(FixedWindow::new(requests, window, Refused::Free).unwrap())),
        quota: Quota::default(),
        name: String::new(),
        replaces: Vec::new(),
        on_failure,
        accuracy: Accuracy::Auto,
        max_hold: Span::ZERO,
    };
    DescriptorSpec { key: key.into(), rule: Some(rule), ..DescriptorSpec::default() }
}

fn matcher(charge: Charge, on_overload: Option<OnFailure>) -> Matcher {
    let descriptors = vec![
        node("error", 10, OnFailure::Error),
        node("allow", 10, OnFailure::Allow),
        node("deny", 10, OnFailure::Deny),
        node("local", 10, OnFailure::Local),
        node("small", 1, OnFailure::Local),
    ];
    let domain = DomainSpec { name: "d".into(), charge, on_overload, descriptors, ..DomainSpec::default() };
    Matcher::build(vec![domain], Defaults::default()).unwrap()
}

/// What `fallback` makes of faults at the limits `keys`, each asked for one unit.
fn answered(
    fallback: &Fallback,
    matcher: &Matcher,
    keys: &[&str],
    fault: Fault,
) -> Vec<Result<Answer, Fault>> {
    let descriptors = keys
        .iter()
        .map(|key| Descriptor { entries: [(*key, "x")].into_iter().collect(), ..Descriptor::default() });
    let query = Query { domain: "d", descriptors: descriptors.collect(), ..Query::default() };
    let plan = matcher.plan(&query);
    let mut replies: Replies = keys.iter().map(|_| Err(fault)).collect();
    fallback.answer(&plan, NOW, &mut replies);
    replies.into_vec()
}

fn allowed(reply: &Result<Answer, Fault>) -> Option<(bool, By)> {
    reply.as_ref().ok().map(|answer| (answer.verdict.allowed, answer.by))
}

#[test]
fn each_rule_is_answered_by_its_own_policy() {
    let fallback = Fallback::new(Servers::new(1));
    let matcher = matcher(Charge::Each, None);
    let replies = answered(&fallback, &matcher, &["error", "allow", "deny", "local"], Fault::Timeout);
    let told: Vec<Option<(bool, By)>> = replies.iter().map(allowed).collect();
    let expected = [None, Some((true, By::Fallback)), Some((false, By::Fallback)), Some((true, By::Share))];
    assert_eq!(told, expected);
    assert_eq!(replies[0], Err(Fault::Timeout));
    let denied = replies[2].unwrap().verdict;
    assert_eq!((denied.limit, denied.remaining, denied.retry_after), (10, 0, Retry::After(Span::SECOND)));
}

#[test]
fn a_share_is_the_limit_divided_by_the_servers_and_counted_here() {
    let servers = Servers::new(3);
    let fallback = Fallback::new(servers.clone());
    let matcher = matcher(Charge::Each, None);
    let pass = |_| answered(&fallback, &matcher, &["local"], Fault::Open)[0].unwrap().verdict.allowed;
    assert_eq!((0..10).filter(|&i| pass(i)).count(), 3);
    servers.set(2);
    assert_eq!((0..10).filter(|&i| pass(i)).count(), 2, "five in all, three of them used");
}

#[test]
fn overload_is_answered_by_the_policy_of_the_domain() {
    let fallback = Fallback::new(Servers::new(1));
    let overloaded = |on_overload| {
        let matcher = matcher(Charge::Each, on_overload);
        let replies = answered(&fallback, &matcher, &["error"], Fault::Overloaded);
        allowed(&replies[0])
    };
    assert_eq!(overloaded(None), Some((true, By::Share)), "the default is local");
    assert_eq!(overloaded(Some(OnFailure::Deny)), Some((false, By::Fallback)));
    assert_eq!(overloaded(Some(OnFailure::Allow)), Some((true, By::Fallback)));
    assert_eq!(overloaded(Some(OnFailure::Error)), None);
}

#[test]
fn shares_are_charged_together_too() {
    let fallback = Fallback::new(Servers::new(1));
    let matcher = matcher(Charge::AllOrNothing, None);
    let both = || answered(&fallback, &matcher, &["local", "small"], Fault::Open);
    assert!(both().iter().all(|reply| reply.unwrap().verdict.allowed));
    assert!(!both()[1].unwrap().verdict.allowed);
    let used = answered(&fallback, &matcher, &["local"], Fault::Open)[0].unwrap().verdict.used;
    assert_eq!(used, 2, "the refused request spent nothing");
    let replies = answered(&fallback, &matcher, &["deny", "local"], Fault::Open);
    assert_eq!(replies[1].unwrap().verdict.used, 2, "refused elsewhere");
}

#[test]
fn a_rule_in_shadow_that_refuses_spares_no_share_its_charge() {
    let fallback = Fallback::new(Servers::new(1));
    let shadow = DescriptorSpec { shadow: true, ..node("shadow", 1, OnFailure::Error) };
    let domain = DomainSpec {
        name: "d".into(),
        charge: Charge::AllOrNothing,
        descriptors: vec![shadow, node("local", 2, OnFailure::Local)],
        ..DomainSpec::default()
    };
    let matcher = Matcher::build(vec![domain], Defaults::default()).unwrap();
    let descriptors = ["shadow", "local"]
        .map(|key| Descriptor { entries: [(key, "x")].into_iter().collect(), ..Descriptor::default() });
    let query = Query { domain: "d", descriptors: descriptors.into_iter().collect(), ..Query::default() };
    let plan = matcher.plan(&query);
    let pass = || {
        let over = unasked(&plan.hits()[0], false);
        let mut replies: Replies = [Ok(over), Err(Fault::Open)].into_iter().collect();
        fallback.answer(&plan, NOW, &mut replies);
        replies[1].unwrap().verdict.allowed
    };
    assert_eq!([pass(), pass(), pass()], [true, true, false]);
}

#[test]
fn a_refund_is_never_refused() {
    let fallback = Fallback::new(Servers::new(1));
    let matcher = matcher(Charge::Each, None);
    let refund =
        Descriptor { entries: [("deny", "x")].into_iter().collect(), refund: true, ..Descriptor::default() };
    let query = Query { domain: "d", descriptors: [refund].into_iter().collect(), ..Query::default() };
    let mut replies: Replies = [Err(Fault::Open)].into_iter().collect();
    fallback.answer(&matcher.plan(&query), NOW, &mut replies);
    assert!(replies[0].unwrap().verdict.allowed);
}
