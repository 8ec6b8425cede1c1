//! What a call costs while the fleet's circuit is closed, and what a verdict over many reporters costs.
//!
//! `cargo bench -p tollgate-core --bench fleet`

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tollgate_core::breaker::fleet::{
    Circuit, Counts, Delta, Directive, Epoch, FleetConfig, FleetMode, FleetSettings, FleetState,
    FleetVerdict, FleetView, Outcome, OutcomeKind, Report, ReporterId, ViewConfig,
};
use tollgate_core::time::{Span, Time};

fn main() {
    closed_call();
    judged_reports();
}

fn closed_call() {
    const CALLS: u64 = 20_000_000;
    let base_wait = Span::from_secs(5);
    let config = ViewConfig { reporter: ReporterId(1), incarnation: 1, base_wait, slow_after: None };
    let view = FleetView::new(config, 1, Time::EPOCH);
    let epoch = Epoch { incarnation: 1, counter: 1 };
    let lease = Span::from_secs(3_600);
    let closed = Directive { epoch, state: FleetState::Closed, lease, ..Directive::default() };
    view.apply(Time::EPOCH, &closed);
    let outcome = Outcome { kind: OutcomeKind::Success, took: Span::from_millis(3), hint: None };
    let start = Instant::now();
    for call in 0..CALLS {
        let now = Time::from_micros(call);
        if let FleetVerdict::Local(ticket) = black_box(&view).admit(now, 0) {
            black_box(view.record(now, ticket, outcome));
        }
    }
    let nanos = start.elapsed().as_nanos() / u128::from(CALLS);
    println!("closed, admit and record: {nanos} ns");
}

fn judged_reports() {
    const REPORTERS: u64 = 1_000;
    const ROUNDS: u64 = 50;
    let settings = FleetSettings { mode: FleetMode::Enforce, ..FleetSettings::default() };
    let config = Arc::new(FleetConfig::new(settings).unwrap());
    let mut circuit = Circuit::new(config, 1, 1, Time::EPOCH);
    let counts = Counts { success: 60, failure: 4, ..Counts::default() };
    let start = Instant::now();
    for sequence in 1..=ROUNDS {
        for reporter in 0..REPORTERS {
            let delta = Delta { sequence, epoch: circuit.epoch(), counts, ..Delta::default() };
            let report = Report { reporter: ReporterId(reporter), incarnation: 1, delta };
            let now = Time::from_micros(sequence * 200_000 + reporter * 200);
            black_box(circuit.report(now, &report));
            black_box(circuit.directive_for(now, ReporterId(reporter)));
        }
    }
    let micros = start.elapsed().as_nanos() / u128::from(REPORTERS * ROUNDS);
    println!("{REPORTERS} reporters that fail a little, 5 000 reports/s: {micros} ns per report and answer");
}
