//! Helpers: a circuit with reporters, and shorthand for what they say.

use std::sync::Arc;

use tollgate_core::breaker::fleet::{
    Circuit, Counts, Delta, Directive, Event, FleetConfig, FleetMode, FleetSettings, FleetState, OutcomeKind,
    Override, OverrideMode, PermitId, ProbeResult, Reason, Report, ReporterId,
};
use tollgate_core::time::{Span, Time};

/// Instants are told in milliseconds.
pub(crate) fn at(millis: u64) -> Time {
    Time::EPOCH + Span::from_millis(millis)
}

pub(crate) fn enforced() -> FleetSettings {
    FleetSettings { mode: FleetMode::Enforce, ..FleetSettings::default() }
}

pub(crate) fn circuit(settings: FleetSettings) -> Circuit {
    Circuit::new(Arc::new(FleetConfig::new(settings).unwrap()), 1, 7, at(0))
}

pub(crate) fn forced(mode: OverrideMode, secs: u64) -> Override {
    let (actor, reason) = ("ann".to_owned(), "drill".to_owned());
    Override { mode, ttl: Span::from_secs(secs), actor, reason }
}

pub(crate) fn good(success: u64) -> Counts {
    Counts { success, ..Counts::default() }
}

pub(crate) fn bad(failure: u64) -> Counts {
    Counts { failure, ..Counts::default() }
}

/// Why the state changed, each time.
pub(crate) fn reasons(world: &World) -> Vec<Reason> {
    let reason = |event: &Event| match event {
        Event::Changed { reason, .. } => Some(*reason),
        _ => None,
    };
    world.events.iter().filter_map(reason).collect()
}

/// A circuit and the last sequence of each of its reporters.
pub(crate) struct World {
    pub(crate) circuit: Circuit,
    pub(crate) sequences: Vec<u64>,
    pub(crate) events: Vec<Event>,
}

impl World {
    pub(crate) fn new(settings: FleetSettings, reporters: usize) -> World {
        World { circuit: circuit(settings), sequences: vec![0; reporters], events: Vec::new() }
    }

    pub(crate) fn state(&self) -> FleetState {
        self.circuit.state()
    }

    /// The next report of reporter `who`, under the epoch in force.
    pub(crate) fn next(&mut self, who: usize, counts: Counts) -> Report {
        self.sequences[who] += 1;
        let sequence = self.sequences[who];
        let delta = Delta { sequence, epoch: self.circuit.epoch(), counts, ..Delta::default() };
        Report { reporter: ReporterId(who as u64), incarnation: 1, delta }
    }

    pub(crate) fn report(&mut self, millis: u64, who: usize, counts: Counts) {
        let report = self.next(who, counts);
        let events = self.circuit.report(at(millis), &report);
        self.events.extend(events);
    }

    /// Every reporter reports the same.
    pub(crate) fn all(&mut self, millis: u64, counts: Counts) {
        for who in 0..self.sequences.len() {
            let report = self.next(who, counts);
            self.circuit.merge(at(millis), &report);
        }
        self.tick(millis);
    }

    pub(crate) fn tick(&mut self, millis: u64) {
        let events = self.circuit.tick(at(millis));
        self.events.extend(events);
    }

    pub(crate) fn directive(&mut self, millis: u64, who: usize) -> Directive {
        self.circuit.directive_for(at(millis), ReporterId(who as u64)).unwrap()
    }

    /// Reporter `who` tells how the probe with `permit` ended.
    pub(crate) fn probe(&mut self, millis: u64, who: usize, permit: PermitId, kind: OutcomeKind) {
        let mut report = self.next(who, Counts::default());
        report.delta.probes.push(ProbeResult { permit, kind, slow: false });
        let events = self.circuit.report(at(millis), &report);
        self.events.extend(events);
    }

    /// Opens the circuit at `millis`, and returns when it becomes half-open, in milliseconds rounded up.
    pub(crate) fn trip(&mut self, millis: u64) -> u64 {
        let each = 200 / self.sequences.len() as u64 + 1;
        self.all(millis, bad(each));
        assert_eq!(self.state(), FleetState::Open);
        self.circuit.next_wake().unwrap().as_micros().div_ceil(1_000)
    }

    /// Uses every permit that is out or to be had, and reports `kind` for each, until the state changes.
    pub(crate) fn probes(&mut self, millis: u64, kind: OutcomeKind) {
        assert_eq!(self.state(), FleetState::HalfOpen);
        for _round in 0..20 {
            for who in 0..self.sequences.len() {
                let mut permits: Vec<PermitId> =
                    self.directive(millis, who).permits.iter().map(|permit| permit.id).collect();
                let asked = self.circuit.acquire_probe(at(millis), ReporterId(who as u64));
                permits.extend(asked.map(|permit| permit.id));
                permits.into_iter().for_each(|permit| self.probe(millis, who, permit, kind));
            }
        }
    }

    /// As [`World::probes`], if the circuit is half-open.
    pub(crate) fn probes_if_half_open(&mut self, millis: u64, kind: OutcomeKind) {
        self.tick(millis);
        if self.state() == FleetState::HalfOpen {
            self.probes(millis, kind);
        }
    }

    /// Opens, waits and passes the probes; returns when the ramp begins.
    pub(crate) fn ramp(&mut self, millis: u64) -> u64 {
        let wake = self.trip(millis);
        self.tick(wake);
        self.probes(wake, OutcomeKind::Success);
        assert_eq!(self.state(), FleetState::Recovering);
        wake
    }
}
