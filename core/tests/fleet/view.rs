//! An instance's rules: what passes, what is reported when, what a lost lease or stream means.

use tollgate_core::breaker::fleet::{
    Ack, Directive, Epoch, FleetState, FleetVerdict, FleetView, Gate, LocalAction, LocalGate, Outcome,
    OutcomeKind, Permit, PermitId, RefusedBy, ReporterId, Share, Ticket, ViewConfig, combine,
};
use tollgate_core::time::{Span, Time};

use crate::world::at;

fn view() -> FleetView {
    let base_wait = Span::from_secs(5);
    let config = ViewConfig { reporter: ReporterId(1), incarnation: 1, base_wait, slow_after: None };
    FleetView::new(config, 7, at(0))
}

fn says(counter: u64, state: FleetState) -> Directive {
    Directive {
        epoch: Epoch { incarnation: 1, counter },
        state,
        admit: Share::NONE,
        probe_in: Span::from_secs(3),
        attempt: 1,
        lease: Span::from_secs(10),
        report_interval: Span::SECOND,
        ..Directive::default()
    }
}

fn ended(kind: OutcomeKind) -> Outcome {
    Outcome { kind, took: Span::from_millis(3), hint: None }
}

fn ticket(view: &FleetView, now: Time) -> Ticket {
    match view.admit(now, 0) {
        FleetVerdict::Local(ticket) | FleetVerdict::Pass(ticket) | FleetVerdict::Probe(ticket) => ticket,
        refused => panic!("{refused:?}"),
    }
}

fn refused(verdict: FleetVerdict) -> Option<(Span, bool)> {
    match verdict {
        FleetVerdict::Refuse { retry_after, ask } => Some((retry_after, ask)),
        _ => None,
    }
}

#[test]
fn while_the_fleet_is_closed_the_local_breaker_decides() {
    let view = view();
    for state in [FleetState::Closed, FleetState::Disabled, FleetState::MetricsOnly] {
        view.apply(at(0), &says(1 + state as u64, state));
        assert!(matches!(view.admit(at(0), u32::MAX), FleetVerdict::Local(_)), "{state:?}");
        assert!(matches!(view.admit(at(60_000), 0), FleetVerdict::Local(_)), "without a lease too");
        assert_eq!(view.lapse(at(60_000)), None);
    }
}

#[test]
fn while_it_is_open_nothing_passes_and_refusals_are_counted() {
    let view = view();
    let moved = view.apply(at(0), &says(2, FleetState::Open)).unwrap();
    assert_eq!(
        (moved.from, moved.to, moved.local),
        (FleetState::Closed, FleetState::Open, LocalAction::Keep)
    );
    assert_eq!(refused(view.admit(at(1_000), 0)), Some((Span::from_secs(2), false)));
    assert_eq!(view.snapshot(at(1_000)).counts.not_permitted, 1);
    view.apply(at(0), &says(3, FleetState::ForcedOpen));
    assert!(refused(view.admit(at(1_000), 0)).is_some());
}

#[test]
fn the_share_that_passes_keeps_its_members_as_it_grows() {
    let view = view();
    let rolls: Vec<u32> = (0..1_000_u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let mut before = 0;
    for percent in [5, 10, 50, 100] {
        view.apply(at(0), &Directive { admit: Share::percent(percent), ..says(2, FleetState::Recovering) });
        let passes = |roll: &u32| matches!(view.admit(at(0), *roll), FleetVerdict::Pass(_));
        let share = rolls.iter().filter(|roll| passes(roll)).count();
        assert!(share.abs_diff(usize::from(percent) * 10) <= 12, "{share} of 1000 at {percent} %");
        assert!(share > before && (before == 0 || passes(&0)));
        before = share;
    }
}

#[test]
fn a_permit_is_one_probe_even_if_it_is_told_twice_and_it_runs_out() {
    let view = view();
    let permit = |id| Permit { id: PermitId(id), ttl: Span::from_secs(2) };
    let mut told = says(2, FleetState::HalfOpen);
    told.permits.extend([permit(1), permit(2)]);
    view.apply(at(0), &told);
    assert!(matches!(view.admit(at(0), 0), FleetVerdict::Probe(_)));
    view.apply(at(100), &told);
    assert!(matches!(view.admit(at(100), 0), FleetVerdict::Probe(_)));
    assert!(refused(view.admit(at(100), 0)).is_some());
    told.permits.push(permit(3));
    view.apply(at(100), &told);
    assert!(refused(view.admit(at(2_100), 0)).is_some(), "2 s later it is void");
}

#[test]
fn who_is_refused_may_ask_for_a_permit_now_and_then() {
    let view = view();
    let told = Directive { ask_probe: true, ..says(2, FleetState::HalfOpen) };
    view.apply(at(0), &told);
    let asks =
        |from: u64| (from..from + 1_000).filter(|&ms| refused(view.admit(at(ms), 0)).unwrap().1).count();
    let asked = asks(0);
    assert!((1..=4).contains(&asked), "{asked} times in one second");
    let permit = Permit { id: PermitId(9), ttl: Span::SECOND };
    let ticket = view.granted(permit, told.epoch).unwrap();
    assert_eq!(view.granted(permit, told.epoch), None, "once");
    assert!(view.record(at(1_000), ticket, ended(OutcomeKind::Success)));
    let delta = view.flush(at(1_000)).unwrap();
    assert_eq!((delta.probes.len(), delta.probes[0].permit), (1, PermitId(9)));
    view.apply(at(1_100), &says(3, FleetState::Open));
    assert_eq!(view.granted(Permit { id: PermitId(10), ttl: Span::SECOND }, told.epoch), None);
}

#[test]
fn a_probe_that_was_not_sent_gives_its_permit_back() {
    let view = view();
    let mut told = says(2, FleetState::HalfOpen);
    told.permits.push(Permit { id: PermitId(1), ttl: Span::from_secs(2) });
    view.apply(at(0), &told);
    let _hello = view.flush(at(0));
    assert!(view.forget(ticket(&view, at(0))));
    assert_eq!(view.flush_due(at(0)), at(0));
    assert_eq!(view.flush(at(0)).unwrap().probes[0].kind, OutcomeKind::Ignored);
}

#[test]
fn outcomes_of_an_earlier_epoch_are_reported_as_late() {
    let view = view();
    view.apply(at(0), &says(1, FleetState::Closed));
    let old = ticket(&view, at(0));
    view.record(at(1), old, ended(OutcomeKind::Failure));
    view.apply(at(10), &says(2, FleetState::MetricsOnly));
    view.record(at(11), old, ended(OutcomeKind::Failure));
    view.record(at(11), ticket(&view, at(11)), ended(OutcomeKind::Success));
    let delta = view.flush(at(2_000)).unwrap();
    assert_eq!((delta.epoch.counter, delta.counts.judged(), delta.late.failure), (2, 1, 2));
}

#[test]
fn slow_is_what_the_owner_says() {
    let view = view();
    view.apply(at(0), &Directive { slow_after: Some(Span::from_millis(2)), ..says(1, FleetState::Closed) });
    view.record(at(1), ticket(&view, at(0)), ended(OutcomeKind::Success));
    view.record(at(1), ticket(&view, at(0)), ended(OutcomeKind::Failure));
    let counts = view.snapshot(at(1)).counts;
    assert_eq!((counts.slow_success, counts.slow_failure, counts.success), (1, 1, 0));
    view.apply(at(2), &Directive { slow_after: None, ..says(1, FleetState::Closed) });
    view.record(at(3), ticket(&view, at(3)), ended(OutcomeKind::Success));
    assert_eq!(view.snapshot(at(3)).counts.slow_success, 2, "an owner that does not know changes nothing");
}

#[test]
fn reports_are_paced() {
    let view = view();
    assert!(view.flush(at(0)).is_some(), "hello");
    view.apply(at(0), &Directive { ack: Ack { highest: 1, earlier: 0 }, ..says(1, FleetState::Closed) });
    assert_eq!(view.flush_due(at(0)), Time::MAX, "nothing to tell");
    let call = |ms, kind| view.record(at(ms), ticket(&view, at(ms)), ended(kind));
    assert!(call(100, OutcomeKind::Success), "the first since the last delta");
    assert!(!call(101, OutcomeKind::Success));
    assert_eq!(view.flush_due(at(100)), at(1_000));
    assert!(call(200, OutcomeKind::Failure), "sooner now");
    assert_eq!(view.flush_due(at(200)), at(250), "50 ms after the first failure");
    let delta = view.flush(at(250)).unwrap();
    assert_eq!(delta.counts.success, 2);
    assert_eq!((delta.counts.failure, delta.age), (1, Span::from_millis(50)));
    let ack = Ack { highest: 2, earlier: 0 };
    view.apply(at(260), &Directive { ack, ..says(1, FleetState::Closed) });
    assert!(call(261, OutcomeKind::Success));
    assert_eq!(view.flush_due(at(261)), at(450), "200 ms while it fails");
    assert!(call(262, OutcomeKind::Failure));
    let woken = (0..63).filter(|_| call(263, OutcomeKind::Failure)).count();
    assert_eq!((woken, view.flush_due(at(263))), (0, at(312)));
    assert!(call(264, OutcomeKind::Failure), "the 64th since the first failure");
    assert_eq!(view.flush_due(at(264)), at(300), "64 outcomes, but never closer than 50 ms");
}

#[test]
fn the_first_refusal_after_a_delta_is_news() {
    let view = view();
    let _hello = view.flush(at(0));
    let ack = Ack { highest: 1, earlier: 0 };
    view.apply(at(0), &Directive { ack, ..says(2, FleetState::Open) });
    assert!(!view.nudged());
    assert!(refused(view.admit(at(10), 0)).is_some());
    assert!(view.nudged() && !view.nudged(), "told once");
    assert_eq!(view.flush_due(at(10)), at(200));
    assert!(!view.not_permitted(), "the second is no news");
    assert_eq!(view.flush(at(200)).unwrap().counts.not_permitted, 2);
    assert!(view.not_permitted());
}

#[test]
fn the_lease_of_an_open_circuit_is_renewed_before_it_ends() {
    let view = view();
    let _hello = view.flush(at(0));
    let ack = Ack { highest: 1, earlier: 0 };
    view.apply(at(0), &Directive { ack, ..says(2, FleetState::Open) });
    assert_eq!(view.flush_due(at(0)), at(5_000));
    let delta = view.flush(at(5_000)).unwrap();
    assert!(delta.counts.is_empty());
    assert_eq!(delta.claim.unwrap().state, FleetState::Open);
}

#[test]
fn unacknowledged_deltas_are_sent_again_with_their_sequence() {
    let view = view();
    let first = view.flush(at(0)).unwrap();
    assert_eq!(view.flush(at(999)), None);
    let again = view.flush(at(1_000)).unwrap();
    assert_eq!((again.sequence, again.age), (first.sequence, Span::SECOND));
    view.stream_lost();
    assert_eq!(view.flush(at(1_100)).unwrap().sequence, first.sequence, "the stream broke");
    view.apply(at(1_200), &Directive { ack: Ack { highest: 1, earlier: 0 }, ..says(1, FleetState::Closed) });
    view.stream_lost();
    assert_eq!(view.flush(at(1_200)), None);
}

#[test]
fn without_acknowledgements_counts_pile_up_and_are_not_lost() {
    let view = view();
    let mut sent = 0;
    for second in 0..30 {
        view.record(at(second * 1_000 + 1), ticket(&view, at(0)), ended(OutcomeKind::Success));
        while let Some(delta) = view.flush(at(second * 1_000 + 2)) {
            sent = sent.max(delta.sequence);
        }
    }
    assert_eq!((sent, view.snapshot(at(0)).unacknowledged), (8, 8));
    view.apply(
        at(40_000),
        &Directive { ack: Ack { highest: 8, earlier: 0xff }, ..says(1, FleetState::Closed) },
    );
    let rest = view.flush(at(40_000)).unwrap();
    assert_eq!(rest.counts.judged() + rest.late.judged(), 30 - 8, "one in each of the first eight");
}

#[test]
fn a_lease_that_ran_out_while_open_opens_the_local_breaker_once() {
    let view = view();
    let told = Directive { probe_in: Span::from_secs(12), ..says(2, FleetState::Open) };
    view.apply(at(0), &told);
    assert!(refused(view.admit(at(9_999), 0)).is_some());
    let FleetVerdict::Seed { open_for } = view.admit(at(10_000), 0) else { panic!("not told") };
    assert!(open_for >= Span::from_secs(2) && open_for <= Span::from_millis(9_500), "{open_for}");
    assert_eq!(view.openings(), 2, "a local breaker would be in its second wait, of 7.5 s");
    assert!(matches!(view.admit(at(10_000), 0), FleetVerdict::Local(_)), "told once");
    assert_eq!(view.snapshot(at(10_000)).epoch, Epoch::default());
    let back = view.apply(at(11_000), &told).unwrap();
    assert_eq!(back.to, FleetState::Open, "the same owner is followed again");
    for state in [FleetState::HalfOpen, FleetState::Recovering] {
        view.apply(at(12_000), &says(3 + state as u64, state));
        assert!(view.lapse(at(22_000)).unwrap() <= Span::from_millis(7_500));
    }
}

#[test]
fn the_longer_an_outage_the_wider_instances_spread_when_their_leases_end() {
    let spread = |secs: u64| {
        let waits = (0..200).map(|seed| {
            let config = *view().config();
            let view = FleetView::new(config, seed, at(0));
            for second in 0..secs {
                view.apply(at(second * 1_000), &says(2, FleetState::HalfOpen));
            }
            let wait = view.lapse(at(secs * 1_000 + 9_000)).unwrap();
            (wait.as_micros() / 1_000_000, view.openings())
        });
        let (waits, openings): (Vec<u64>, Vec<u32>) = waits.unzip();
        (waits.iter().min().copied().unwrap(), waits.iter().max().copied().unwrap(), openings[0])
    };
    assert_eq!(spread(1), (0, 7, 2));
    assert_eq!(spread(20), (0, 16, 4));
    assert_eq!(spread(3_600), (0, 59, 8), "no more than a minute");
}

#[test]
fn a_failing_instance_asks_once_more() {
    let view = view();
    let _hello = view.flush(at(0));
    let closed =
        |highest| Directive { ack: Ack { highest, earlier: u64::MAX }, ..says(1, FleetState::Closed) };
    view.apply(at(0), &closed(1));
    view.record(at(100), ticket(&view, at(100)), ended(OutcomeKind::Failure));
    assert_eq!(view.flush(at(150)).unwrap().counts.failure, 1);
    view.apply(at(155), &closed(2));
    assert_eq!(view.flush_due(at(155)), at(350), "the circuit may have opened meanwhile");
    assert!(view.flush(at(350)).unwrap().counts.is_empty());
    view.apply(at(355), &closed(3));
    assert_eq!(view.flush_due(at(355)), Time::MAX);
}

#[test]
fn a_slow_call_is_told_sooner_unless_others_are_quick() {
    let took = |millis| Outcome { kind: OutcomeKind::Success, took: Span::from_millis(millis), hint: None };
    for (first, due) in [(10, 1_000), (500, 150)] {
        let view = view();
        let _hello = view.flush(at(0));
        let slow_after = Some(Span::from_millis(100));
        let ack = Ack { highest: 1, earlier: 0 };
        view.apply(at(0), &Directive { ack, slow_after, ..says(1, FleetState::Closed) });
        view.record(at(100), ticket(&view, at(0)), took(first));
        view.record(at(100), ticket(&view, at(0)), took(500));
        assert_eq!(view.flush_due(at(100)), at(due));
    }
}

#[test]
fn of_two_owners_the_higher_incarnation_is_followed_while_its_lease_lives() {
    let view = view();
    let newer = Epoch { incarnation: 2, counter: 1 };
    view.apply(at(0), &Directive { epoch: newer, ..says(1, FleetState::Open) });
    assert_eq!(view.apply(at(100), &says(99, FleetState::Closed)), None);
    assert_eq!(view.snapshot(at(100)).epoch, newer);
    view.apply(at(10_001), &says(99, FleetState::Closed));
    assert_eq!(view.snapshot(at(10_001)).epoch, says(99, FleetState::Closed).epoch, "after its lease");
}

#[test]
fn the_local_breaker_starts_afresh_with_the_ramp() {
    let view = view();
    view.apply(at(0), &says(2, FleetState::HalfOpen));
    let moved = view.apply(at(0), &says(3, FleetState::Recovering)).unwrap();
    assert_eq!(moved.local, LocalAction::Reset);
}

#[test]
fn the_stricter_of_both_governs() {
    let view = view();
    let ticket = ticket(&view, at(0));
    let shut = LocalGate::Refuse { retry_after: Span::SECOND };
    let local = Gate::Refuse { by: RefusedBy::Local, retry_after: Span::SECOND, ask: false };
    for open in [FleetVerdict::Local(ticket), FleetVerdict::Pass(ticket)] {
        assert_eq!(combine(open, || LocalGate::Allow), Gate::Call(ticket));
        assert_eq!(combine(open, || shut), local);
    }
    let unasked = || -> LocalGate { panic!("asked") };
    assert_eq!(combine(FleetVerdict::Probe(ticket), unasked), Gate::Probe(ticket));
    let (retry_after, by) = (Span::from_secs(4), RefusedBy::Fleet);
    assert_eq!(
        combine(FleetVerdict::Refuse { retry_after, ask: true }, unasked),
        Gate::Refuse { by, retry_after, ask: true }
    );
    assert_eq!(
        combine(FleetVerdict::Seed { open_for: retry_after }, unasked),
        Gate::Refuse { by, retry_after, ask: false }
    );
}
