//! A view that many threads use at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tollgate_core::breaker::fleet::{
    Ack, Delta, Directive, Epoch, FleetState, FleetVerdict, FleetView, Outcome, OutcomeKind, Permit,
    PermitId, ReporterId, ViewConfig,
};
use tollgate_core::time::{Span, Time};

use crate::world::at;

const THREADS: u64 = 4;
const CALLS: u64 = 20_000;

fn view() -> FleetView {
    let base_wait = Span::from_secs(5);
    let config = ViewConfig { reporter: ReporterId(1), incarnation: 1, base_wait, slow_after: None };
    FleetView::new(config, 7, at(0))
}

fn says(counter: u64, state: FleetState, acked: u64) -> Directive {
    let ack = Ack { highest: acked, earlier: u64::MAX };
    let epoch = Epoch { incarnation: 1, counter };
    Directive { epoch, state, ack, lease: Span::from_secs(3_600), ..Directive::default() }
}

fn judged(delta: &Delta) -> u64 {
    delta.counts.judged() + delta.late.judged()
}

/// Counts what `view` reports while epochs come and go, until `done` and nothing is left.
fn collect(view: &FleetView, done: &AtomicBool) -> u64 {
    let (mut now, mut sum, mut epoch) = (Time::EPOCH, 0, 0);
    loop {
        let last = done.load(Ordering::Acquire);
        epoch += 1;
        let state = if epoch % 2 == 0 { FleetState::Closed } else { FleetState::MetricsOnly };
        let mut reported = 0;
        now = now + Span::from_millis(1_500);
        while let Some(delta) = view.flush(now) {
            reported += judged(&delta);
            view.apply(now, &says(epoch, state, delta.sequence));
        }
        sum += reported;
        if last && reported == 0 {
            return sum;
        }
    }
}

#[test]
fn every_outcome_is_reported_exactly_once() {
    let (view, done) = (view(), AtomicBool::new(false));
    let outcome = Outcome { kind: OutcomeKind::Success, took: Span::from_millis(1), hint: None };
    let call = || {
        for call in 0..CALLS {
            let FleetVerdict::Local(ticket) = view.admit(at(call), 0) else { panic!("refused") };
            view.record(at(call), ticket, outcome);
        }
    };
    let reported = thread::scope(|scope| {
        let collector = scope.spawn(|| collect(&view, &done));
        let callers: Vec<_> = (0..THREADS).map(|_| scope.spawn(call)).collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        done.store(true, Ordering::Release);
        collector.join().unwrap()
    });
    assert_eq!(reported, THREADS * CALLS);
}

#[test]
fn no_permit_is_used_twice_and_the_end_of_a_lease_is_told_once() {
    let view = view();
    let mut told = says(2, FleetState::HalfOpen, 0);
    let permit = |id| Permit { id: PermitId(id), ttl: Span::from_secs(2) };
    told.permits.extend((0..10).map(permit));
    view.apply(at(0), &told);
    let (probes, seeds) = (AtomicU64::new(0), AtomicU64::new(0));
    let call = |now: Time| {
        for _ in 0..CALLS {
            match view.admit(now, 0) {
                FleetVerdict::Probe(_) => probes.fetch_add(1, Ordering::Relaxed),
                FleetVerdict::Seed { .. } => seeds.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
        }
    };
    for now in [at(0), at(3_600_000)] {
        thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(|| call(now)))));
    }
    assert_eq!((probes.into_inner(), seeds.into_inner()), (10, 1));
}
