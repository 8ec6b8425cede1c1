//! The owner of the circuit, and the loudest liar among its reporters.

use std::sync::Arc;

use tollgate_core::breaker::fleet::{
    Circuit, Counts, Delta, Directive, Event, FleetConfig, FleetState, OutcomeKind, ProbeResult, Report,
    ReporterId,
};
use tollgate_core::time::Time;

use super::client::Granted;

/// The liar's name.
pub const LIAR: ReporterId = ReporterId(u64::MAX);

/// Whom the owner has to tell something now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct News {
    /// All instances.
    pub all: bool,
    /// These.
    pub some: Vec<ReporterId>,
}

/// The owner.
#[derive(Debug)]
pub struct Owner {
    config: Arc<FleetConfig>,
    circuit: Option<Circuit>,
    incarnation: u64,
    seed: u64,
    lies: u64,
    /// Rounds of probes so far, of all owners.
    pub rounds: u64,
    /// Openings so far, of all owners.
    pub openings: u64,
    /// Local faults told so far.
    pub local_faults: u64,
}

impl Owner {
    /// Nobody owns the circuit yet.
    #[must_use]
    pub fn new(config: FleetConfig, seed: u64) -> Owner {
        Owner {
            config: Arc::new(config),
            circuit: None,
            incarnation: 0,
            seed,
            lies: 0,
            rounds: 0,
            openings: 0,
            local_faults: 0,
        }
    }

    /// The first owner, or the next one.
    pub fn begin(&mut self, now: Time) {
        self.incarnation += 1;
        let (config, seed) = (Arc::clone(&self.config), self.seed ^ self.incarnation);
        self.circuit = Some(Circuit::adopting(config, self.incarnation, seed, now));
    }

    /// The owner fails: what it knew is gone.
    pub fn fail(&mut self) {
        self.circuit = None;
    }

    /// State, if somebody owns the circuit.
    #[must_use]
    pub fn state(&self) -> Option<FleetState> {
        self.circuit.as_ref().map(Circuit::state)
    }

    /// A report arrives.
    pub fn report(&mut self, now: Time, report: &Report) -> News {
        let events = self.circuit.as_mut().map(|circuit| circuit.report(now, report));
        self.note(&events.unwrap_or_default())
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) -> News {
        let events = self.circuit.as_mut().map(|circuit| circuit.tick(now));
        self.note(&events.unwrap_or_default())
    }

    /// When time matters next.
    #[must_use]
    pub fn wake(&self) -> Option<Time> {
        self.circuit.as_ref().and_then(Circuit::next_wake)
    }

    /// What one instance should do.
    pub fn directive(&mut self, now: Time, reporter: ReporterId) -> Option<Directive> {
        self.circuit.as_mut()?.directive_for(now, reporter)
    }

    /// An instance asks for a permit.
    pub fn acquire(&mut self, now: Time, reporter: ReporterId) -> Option<Granted> {
        let circuit = self.circuit.as_mut()?;
        let permit = circuit.acquire_probe(now, reporter)?;
        Some(Granted { permit, epoch: circuit.epoch() })
    }

    /// The liar reports a million failures under the epoch in force, takes what permits it can get and
    /// lets each of them fail.
    pub fn lie(&mut self, now: Time) -> News {
        let Some(circuit) = &mut self.circuit else { return News::default() };
        self.lies += 1;
        let failed = |permit| ProbeResult { permit, kind: OutcomeKind::Failure, slow: true };
        let told = circuit.directive_for(now, LIAR).map(|told| told.permits).unwrap_or_default();
        let asked = (0..10).filter_map(|_| circuit.acquire_probe(now, LIAR));
        let permits = told.iter().map(|permit| permit.id).chain(asked.map(|permit| permit.id));
        let counts = Counts { failure: 1_000_000, not_permitted: 1_000, ..Counts::default() };
        let probes = permits.map(failed).collect();
        let delta = Delta { sequence: self.lies, epoch: circuit.epoch(), counts, probes, ..Delta::default() };
        self.report(now, &Report { reporter: LIAR, incarnation: 1, delta })
    }

    fn note(&mut self, events: &[Event]) -> News {
        let mut news = News::default();
        for event in events {
            match event {
                Event::Changed { to, .. } => {
                    self.rounds += u64::from(*to == FleetState::HalfOpen);
                    self.openings += u64::from(*to == FleetState::Open);
                    news.all = true;
                }
                Event::AdmitChanged { .. } => news.all = true,
                Event::PermitsAssigned { to } => news.some.extend(to),
                Event::LocalFault { .. } => self.local_faults += 1,
                _ => {}
            }
        }
        news
    }
}
