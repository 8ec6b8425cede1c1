//! Probes whose calls go on after a good beginning.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use tollgate_core::breaker::{Breaker, Config, HalfOpen, Mode, Outcome, Permit, Ratio, Reason, Wait};
use tollgate_core::time::{Span, Time};

const START: Time = Time::from_micros(1_795_000_000_000_000);
const HOUR: Span = Span::from_secs(3_600);

/// Opens with ten failures in a row; two probes after five seconds.
fn probing() -> (Breaker, Time, [Permit; 2]) {
    let wait = Wait { jitter: Ratio::percent(0).unwrap(), ..Wait::default() };
    let half_open = HalfOpen { permits: 2, ..HalfOpen::default() };
    let breaker = Breaker::new(Config { wait, half_open, ..Config::default() }, 1, START).unwrap();
    for _ in 0..10 {
        let permit = breaker.admit(START).unwrap();
        breaker.record(permit, START, Outcome::Failure);
    }
    let now = START + Span::from_secs(5);
    let permits = [breaker.admit(now).unwrap(), breaker.admit(now).unwrap()];
    assert_eq!(breaker.mode(now), Mode::HalfOpen);
    (breaker, now, permits)
}

#[test]
fn probes_that_began_well_close_it_and_a_good_end_counts_no_more() {
    let (breaker, now, mut permits) = probing();
    for permit in &mut permits {
        breaker.pass_probe(permit, now, Span::from_millis(3));
        breaker.pass_probe(permit, now, Span::from_millis(3));
    }
    assert_eq!(breaker.mode(now), Mode::Closed);
    for (permit, outcome) in permits.into_iter().zip([Outcome::Success, Outcome::Ignored]) {
        breaker.record(permit, now + HOUR, outcome);
    }
    let snapshot = breaker.snapshot(now + HOUR);
    assert_eq!((snapshot.counts.calls, breaker.mode(now + HOUR)), (0, Mode::Closed));
}

#[test]
fn one_that_breaks_later_is_one_failure_of_the_window() {
    let (breaker, now, mut permits) = probing();
    permits.iter_mut().for_each(|permit| breaker.pass_probe(permit, now, Span::ZERO));
    for permit in permits {
        breaker.record(permit, now + HOUR, Outcome::Failure);
    }
    let snapshot = breaker.snapshot(now + HOUR);
    assert_eq!((snapshot.counts.calls, snapshot.counts.failures, snapshot.counts.slow), (2, 2, 0));
}

#[test]
fn one_that_breaks_while_others_probe_has_failed_after_all() {
    let (breaker, now, [mut first, second]) = probing();
    breaker.pass_probe(&mut first, now, Span::ZERO);
    assert_eq!(breaker.snapshot(now).counts.failures, 0);
    breaker.record(first, now, Outcome::Failure);
    assert_eq!(breaker.mode(now), Mode::Open, "half of two");
    breaker.record(second, now, Outcome::Success);
    assert_eq!(breaker.mode(now), Mode::Open);
    let reasons: Vec<Reason> =
        std::iter::from_fn(|| breaker.take_transition()).map(|one| one.reason).collect();
    assert_eq!(reasons.last(), Some(&Reason::ProbesFailed { failures: 1, slow: 0, calls: 1 }));
}

#[test]
fn a_probe_that_was_given_to_somebody_else_passes_nothing() {
    let (breaker, now, [mut first, second]) = probing();
    let late = now + Span::from_secs(11);
    let (third, fourth) = (breaker.admit(late).unwrap(), breaker.admit(late).unwrap());
    breaker.pass_probe(&mut first, late, Span::ZERO);
    assert_eq!(breaker.snapshot(late).counts.calls, 0);
    breaker.record(first, late, Outcome::Failure);
    breaker.record(second, late, Outcome::Failure);
    assert_eq!(breaker.mode(late), Mode::HalfOpen, "neither is anybody's any more");
    breaker.record(third, late, Outcome::Success);
    breaker.record(fourth, late, Outcome::Success);
    assert_eq!(breaker.mode(late), Mode::Closed);
}

#[test]
fn other_permits_are_as_they_were() {
    let breaker = Breaker::new(Config::default(), 1, START).unwrap();
    let mut permit = breaker.admit(START).unwrap();
    breaker.pass_probe(&mut permit, START, Span::ZERO);
    breaker.record(permit, START, Outcome::Success);
    assert_eq!(breaker.snapshot(START).counts.calls, 1);
}
