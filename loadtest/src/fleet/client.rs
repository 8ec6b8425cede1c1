//! One instance: a local breaker, and its view of the fleet's circuit.

use std::sync::Arc;

use anyhow::Result;
use tollgate_core::breaker::fleet::{
    Directive, FleetVerdict, FleetView, Gate, LocalAction, LocalGate, Outcome, OutcomeKind, RefusedBy,
    ReporterId, Ticket, ViewConfig, combine,
};
use tollgate_core::breaker::{Breaker, Manual, Outcome as LocalOutcome, Permit, Reason};
use tollgate_core::time::{Span, Time};

use super::scenario::{Policy, Scenario};

/// What an attempt may do.
#[derive(Debug)]
pub enum Leave {
    /// It is sent.
    Go(Pass),
    /// It is not.
    Refused {
        /// Whether a permit may be asked for.
        ask: bool,
        /// Whether a report may be due sooner.
        sooner: bool,
    },
}

/// Under what an attempt was sent.
#[derive(Debug, Default)]
pub struct Pass {
    local: Option<Permit>,
    fleet: Option<Ticket>,
}

/// One instance.
#[derive(Debug)]
pub struct Client {
    local: Option<Breaker>,
    /// Its side of the fleet's circuit.
    pub view: Option<FleetView>,
}

impl Client {
    /// The instance with number `index`.
    ///
    /// # Errors
    /// A configuration out of its range.
    pub fn new(scenario: &Scenario, index: usize, seed: u64) -> Result<Client> {
        let config = scenario.local_config()?;
        let base_wait = config.wait.base;
        let reporter = ReporterId(index as u64 + 1);
        let view = ViewConfig { reporter, incarnation: 1, base_wait, slow_after: None };
        let local = match scenario.policy {
            Policy::None => None,
            Policy::Local | Policy::Fleet => Some(Breaker::new(config, seed, Time::EPOCH)?),
        };
        let fleet = scenario.policy == Policy::Fleet;
        Ok(Client { local, view: fleet.then(|| FleetView::new(view, !seed, Time::EPOCH)) })
    }

    /// May an attempt go on?
    pub fn ask(&self, now: Time, roll: u32) -> Leave {
        let mut local = None;
        let mut ask_local = || match self.local.as_ref().map(|breaker| breaker.admit(now)) {
            None => LocalGate::Allow,
            Some(Ok(permit)) => {
                local = Some(permit);
                LocalGate::Allow
            }
            Some(Err(refused)) => {
                LocalGate::Refuse { retry_after: refused.retry_after.unwrap_or(Span::ZERO) }
            }
        };
        let Some(view) = &self.view else {
            return match ask_local() {
                LocalGate::Allow => Leave::Go(Pass { local, fleet: None }),
                LocalGate::Refuse { .. } => Leave::Refused { ask: false, sooner: false },
            };
        };
        let verdict = view.admit(now, roll);
        if let (FleetVerdict::Seed { open_for }, Some(breaker)) = (verdict, &self.local) {
            breaker.open_again(now, open_for, view.openings(), Reason::Fleet);
        }
        match combine(verdict, ask_local) {
            Gate::Call(ticket) => Leave::Go(Pass { local, fleet: Some(ticket) }),
            Gate::Probe(ticket) => Leave::Go(Pass { local: None, fleet: Some(ticket) }),
            Gate::Refuse { by: RefusedBy::Local, .. } => {
                let sooner = view.not_permitted();
                Leave::Refused { ask: false, sooner }
            }
            Gate::Refuse { by: RefusedBy::Fleet, ask, .. } => Leave::Refused { ask, sooner: view.nudged() },
        }
    }

    /// An attempt ended. True if a report may be due sooner.
    pub fn ended(&self, now: Time, pass: Pass, succeeded: bool, took: Span) -> bool {
        if let (Some(breaker), Some(permit)) = (&self.local, pass.local) {
            let outcome = if succeeded { LocalOutcome::Success } else { LocalOutcome::Failure };
            breaker.record_after(permit, now, outcome, took);
        }
        let kind = if succeeded { OutcomeKind::Success } else { OutcomeKind::Failure };
        match (&self.view, pass.fleet) {
            (Some(view), Some(ticket)) => view.record(now, ticket, Outcome { kind, took, hint: None }),
            _ => false,
        }
    }

    /// The answer to a question for a permit: a pass, if the permit is still good.
    pub fn granted(&self, directive: &Granted) -> Option<Pass> {
        let ticket = self.view.as_ref()?.granted(directive.permit, directive.epoch)?;
        Some(Pass { local: None, fleet: Some(ticket) })
    }

    /// A directive arrives.
    pub fn apply(&self, now: Time, directive: &Directive) {
        let moved = self.view.as_ref().and_then(|view| view.apply(now, directive));
        let reset = moved.is_some_and(|moved| moved.local == LocalAction::Reset);
        if let (true, Some(breaker)) = (reset, &self.local) {
            let manual =
                Manual { reason: Arc::from("the ramp begins"), actor: Arc::from("fleet"), ttl: None };
            // It fails only with a time to live.
            let _reset = breaker.reset(now, manual);
        }
    }
}

/// A permit that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// The permit.
    pub permit: tollgate_core::breaker::fleet::Permit,
    /// Of the round that it belongs to.
    pub epoch: tollgate_core::breaker::fleet::Epoch,
}
