//! What time alone does to a circuit, and what outcomes do. The one place where its state changes.

use smallvec::SmallVec;

use super::half_open::{Round, Verdict};
use super::judge::View;
use super::phase::{self, Phase};
use super::ramp::Ramp;
use super::{Circuit, Event, FleetMode, FleetState, JUDGE_EVERY, PermitId, Reason, ReporterId, judge};
use crate::time::{Span, Time};

/// A reporter that is silent for this many leases is forgotten.
const IDLE_LEASES: u64 = 6;

impl Circuit {
    pub(super) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
        let idle = Span::from_micros(self.settings().lease.as_micros().saturating_mul(IDLE_LEASES));
        self.reporters.prune(self.now, idle.max(self.settings().window));
        if self.set.as_ref().is_some_and(|set| set.until <= self.now) {
            self.end_override(Reason::OverrideExpired);
        }
        if self.adoption.as_ref().is_some_and(|adoption| adoption.until <= self.now) {
            self.end_adoption();
        }
        match &mut self.phase {
            Phase::Open { until } if *until <= self.now => {
                let round = Round::new(self.now, &self.config, self.opened_slow);
                self.totals.rounds = self.totals.rounds.saturating_add(1);
                self.change(Phase::HalfOpen(round), Reason::WaitOver);
                self.assign();
            }
            Phase::HalfOpen(round) => {
                let expired = round.expire(self.now);
                self.totals.permits_expired = self.totals.permits_expired.saturating_add(expired.into());
                if expired > 0 {
                    self.assign();
                }
            }
            Phase::Recovering(_) => self.step(),
            _ => {}
        }
    }

    fn step(&mut self) {
        let Phase::Recovering(ramp) = &mut self.phase else { return };
        let settings = self.config.settings();
        if ramp.step(self.now, &mut self.reporters, settings) {
            self.events.push(Event::AdmitChanged { admit: ramp.admit });
        }
        if ramp.done(self.now, settings) {
            self.change(Phase::Closed, Reason::Recovered);
        }
    }

    pub(super) fn judge(&mut self) {
        if let Phase::HalfOpen(round) = &self.phase
            && let Some(verdict) = round.verdict(self.now)
        {
            self.conclude(verdict);
        }
        let due = self.dirty || self.rolls.is_some_and(|rolls| self.now >= rolls);
        if !due || self.now < self.judged + JUDGE_EVERY || self.adoption.is_some() {
            return;
        }
        (self.dirty, self.judged) = (false, self.now);
        let watched = matches!(self.phase, Phase::Closed | Phase::MetricsOnly) && self.view().simmers();
        self.rolls = watched.then(|| self.grid.rolls(self.now));
        let verdict = match self.phase {
            Phase::Closed | Phase::MetricsOnly => self.view().trip(),
            Phase::Recovering(_) => self.view().reopen(),
            _ => None,
        };
        match (&self.phase, verdict) {
            (Phase::Closed, Some(reason)) => self.trip(reason),
            (Phase::Closed, None) => self.local_faults(),
            (Phase::MetricsOnly, verdict) => {
                self.would(verdict);
                self.local_faults();
            }
            (Phase::Recovering(_), Some(reason)) => self.open(reason, self.attempt.saturating_add(1)),
            (Phase::HalfOpen(_), _) => self.assign(),
            _ => {}
        }
    }

    pub(super) fn view(&self) -> View<'_> {
        View { reporters: &self.reporters, grid: &self.grid, now: self.now, settings: self.config.settings() }
    }

    fn local_faults(&mut self) {
        let settings = self.config.settings();
        let found = judge::local_faults(&mut self.reporters, &self.grid, self.now, settings);
        self.events.extend(found);
    }

    fn conclude(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Passed => {
                let ramp = Ramp::new(self.now, self.settings().ramp_start, self.settings());
                self.change(Phase::Recovering(ramp), Reason::ProbesPassed);
            }
            Verdict::Failed => self.open(Reason::ProbesFailed, self.attempt.saturating_add(1)),
            Verdict::Overdue => self.open(Reason::NoVerdict, self.attempt),
        }
    }

    /// Opens after healthy time: each window of it takes back one step of the backoff.
    fn trip(&mut self, reason: Reason) {
        let healthy = (self.now - self.since).as_micros() / self.settings().window.as_micros();
        let left = u64::from(self.attempt).saturating_sub(healthy);
        self.opened_slow = matches!(reason, Reason::SlowRate(_));
        self.open(reason, u32::try_from(left).unwrap_or(u32::MAX).saturating_add(1));
    }

    fn open(&mut self, reason: Reason, attempt: u32) {
        self.attempt = attempt;
        let wait = phase::wait(self.settings(), attempt);
        let wait = self.random.around(wait, self.settings().open_jitter);
        let until = (self.now + wait).max(self.hint_until);
        self.open_until(until, reason);
    }

    fn open_until(&mut self, until: Time, reason: Reason) {
        let latest = self.now + self.settings().open_max;
        self.totals.openings = self.totals.openings.saturating_add(1);
        self.change(Phase::Open { until: until.min(latest) }, reason);
    }

    fn would(&mut self, reason: Option<Reason>) {
        match (reason, self.would_open) {
            (Some(reason), false) => self.events.push(Event::WouldTrip { reason }),
            (None, true) => self.events.push(Event::WouldRecover),
            _ => {}
        }
        self.would_open = reason.is_some();
    }

    pub(super) fn end_override(&mut self, reason: Reason) {
        self.set = None;
        let settings = self.config.settings();
        let phase = match (settings.mode, self.state()) {
            (FleetMode::Enforce, FleetState::ForcedOpen) => {
                Phase::Recovering(Ramp::new(self.now, settings.ramp_start, settings))
            }
            (mode, _) => Phase::at_rest(mode),
        };
        if phase.state() != self.state() {
            self.change(phase, reason);
        }
    }

    fn end_adoption(&mut self) {
        let Some(adoption) = self.adoption.take() else { return };
        let Some(claim) = adoption.verdict(self.config.settings()) else { return };
        self.attempt = claim.attempt.max(1);
        match claim.state {
            FleetState::ForcedOpen | FleetState::Open | FleetState::HalfOpen => {
                self.open_until(self.now + claim.remaining, Reason::Adopted);
            }
            FleetState::Recovering => {
                let ramp = Ramp::new(self.now, claim.admit, self.settings());
                self.change(Phase::Recovering(ramp), Reason::Adopted);
            }
            FleetState::Closed | FleetState::Disabled | FleetState::MetricsOnly => {}
        }
    }

    /// The one place where the state changes: each change is a new epoch.
    pub(super) fn change(&mut self, phase: Phase, reason: Reason) {
        self.rolls = None;
        let from = self.state();
        self.phase = phase;
        self.epoch.counter += 1;
        (self.since, self.reason) = (self.now, Some(reason));
        (self.dirty, self.would_open) = (false, false);
        self.reporters.clear_outcomes();
        let (to, epoch) = (self.state(), self.epoch);
        self.events.push(Event::Changed { at: self.now, from, to, reason, epoch });
    }

    /// Instances that are there.
    pub(super) fn active(&self) -> usize {
        self.reporters.heard(self.now, self.settings().lease)
    }

    /// Gives the permits that are left to those who are likely to use them, distinct ones first.
    fn assign(&mut self) {
        let active = self.active();
        let Phase::HalfOpen(round) = &mut self.phase else { return };
        if round.available() == 0 {
            return;
        }
        let settings = self.config.settings();
        let recent = Span::from_micros(settings.report_interval.max(self.report_floor).as_micros() * 3);
        let keen = self.reporters.keen(self.now, recent, settings.permit_grace);
        let mut to = SmallVec::new();
        loop {
            let before = round.available();
            let takes =
                |&id: &ReporterId| round.issue(self.now, PermitId(self.random.next()), id, active).is_some();
            let takers: Vec<ReporterId> = keen.iter().copied().filter(takes).collect();
            to.extend(takers.iter().copied().filter(|id| !to.contains(id)).collect::<Vec<_>>());
            let given = before - round.available();
            self.totals.permits = self.totals.permits.saturating_add(given.into());
            if given == 0 {
                break;
            }
        }
        if !to.is_empty() {
            self.events.push(Event::PermitsAssigned { to });
        }
    }
}
