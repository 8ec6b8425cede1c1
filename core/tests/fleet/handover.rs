//! A new owner adopts what the instances hold, and two owners do no more harm than they must.

use std::sync::Arc;

use tollgate_core::breaker::fleet::{
    Circuit, Claim, Delta, Epoch, FleetConfig, FleetState, Reason, Report, ReporterId, Share,
};
use tollgate_core::time::Span;

use crate::world::{at, bad, enforced};

fn successor() -> Circuit {
    Circuit::adopting(Arc::new(FleetConfig::new(enforced()).unwrap()), 2, 7, at(0))
}

fn claim(state: FleetState, secs: u64) -> Claim {
    let epoch = Epoch { incarnation: 1, counter: 9 };
    Claim { state, epoch, remaining: Span::from_secs(secs), admit: Share::percent(30), attempt: 3 }
}

fn report(who: u64, claim: Option<Claim>) -> Report {
    let epoch = Epoch { incarnation: 1, counter: 9 };
    let delta = Delta { sequence: 1, epoch, counts: bad(1_000), claim, ..Delta::default() };
    Report { reporter: ReporterId(who), incarnation: 1, delta }
}

#[test]
fn a_new_owner_says_nothing_until_it_has_listened() {
    let mut circuit = successor();
    for who in 0..10 {
        circuit.report(at(100), &report(who, Some(claim(FleetState::Open, 8))));
    }
    assert_eq!(circuit.directive_for(at(1_499), ReporterId(0)), None);
    let told = circuit.directive_for(at(1_500), ReporterId(0)).unwrap();
    assert_eq!((told.state, told.probe_in, told.attempt), (FleetState::Open, Span::from_secs(8), 3));
    assert_eq!(told.epoch, Epoch { incarnation: 2, counter: 2 });
    assert_eq!(circuit.snapshot(at(1_500)).reason, Some(Reason::Adopted));
}

#[test]
fn a_ramp_goes_on_where_it_was() {
    let mut circuit = successor();
    let claims: Vec<_> = (0..10).map(|who| (ReporterId(who), claim(FleetState::Recovering, 0))).collect();
    circuit.adopt(at(100), &claims);
    circuit.tick(at(1_500));
    assert_eq!(circuit.directive_for(at(1_500), ReporterId(0)).unwrap().admit, Share::percent(30));
}

#[test]
fn without_a_quorum_the_new_owner_is_closed_and_old_outcomes_do_not_count() {
    let mut circuit = successor();
    circuit.report(at(100), &report(0, Some(claim(FleetState::ForcedOpen, 600))));
    (1..10).for_each(|who| drop(circuit.report(at(100), &report(who, None))));
    circuit.tick(at(1_500));
    circuit.tick(at(1_600));
    assert_eq!(circuit.state(), FleetState::Closed);
    assert_eq!(circuit.snapshot(at(1_600)).totals.late.failure, 10_000);
}

#[test]
fn what_an_operator_forced_is_held_open_but_probed_within_a_minute() {
    let mut circuit = successor();
    let claims: Vec<_> = (0..10).map(|who| (ReporterId(who), claim(FleetState::ForcedOpen, 6_000))).collect();
    circuit.adopt(at(100), &claims);
    circuit.tick(at(1_500));
    let told = circuit.directive_for(at(1_500), ReporterId(0)).unwrap();
    assert_eq!((told.state, told.probe_in), (FleetState::Open, Span::from_secs(60)));
}

#[test]
fn claims_after_the_listening_change_nothing() {
    let mut circuit = successor();
    circuit.tick(at(1_500));
    let claims: Vec<_> = (0..10).map(|who| (ReporterId(who), claim(FleetState::Open, 60))).collect();
    circuit.adopt(at(2_000), &claims);
    circuit.tick(at(9_000));
    assert_eq!(circuit.state(), FleetState::Closed);
}
