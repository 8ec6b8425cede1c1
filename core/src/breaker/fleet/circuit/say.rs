//! What a circuit tells instances and operators.

use super::super::wire::{Directive, FleetState, ReporterId};
use super::Circuit;
use super::event::{Snapshot, Totals};
use super::judge::View;
use super::phase::Phase;
use crate::time::{Span, Time};

/// "Slow", when it is not configured, is this many times the median.
const SLOW_MEDIANS: u64 = 3;

impl Circuit {
    /// What `reporter` should do now; none while a new owner still listens, so that the lease of an earlier
    /// one goes on. Saying it twice does no harm: permits are named, and it hands out none of its own.
    pub fn directive_for(&mut self, now: Time, reporter: ReporterId) -> Option<Directive> {
        self.advance(now);
        if self.adoption.is_some() {
            return None;
        }
        let settings = self.settings();
        let third = Span::from_micros(settings.lease.as_micros() / 3);
        let round = match &self.phase {
            Phase::HalfOpen(round) => Some(round),
            _ => None,
        };
        Some(Directive {
            epoch: self.epoch,
            state: self.state(),
            admit: self.phase.admit(),
            probe_in: self.remaining(),
            attempt: self.attempt,
            lease: settings.lease,
            report_interval: settings.report_interval.max(self.report_floor).min(third),
            slow_after: self.slow_after(),
            permits: round.map(|round| round.permits_of(self.now, reporter).collect()).unwrap_or_default(),
            ask_probe: round.is_some_and(|round| round.available() > 0),
            ack: self.reporters.ack(reporter),
            config_version: settings.version,
        })
    }

    /// Until the next probes, or until the end of a forced opening.
    fn remaining(&self) -> Span {
        match (&self.phase, &self.set) {
            (Phase::Open { until }, _) => *until - self.now,
            (Phase::ForcedOpen, Some(set)) => set.until - self.now,
            _ => Span::ZERO,
        }
    }

    fn slow_after(&self) -> Option<Span> {
        let settings = self.settings();
        settings.slow_after.or_else(|| {
            let median = self.typical.median()?;
            Some(Span::from_micros(median.as_micros().saturating_mul(SLOW_MEDIANS)).max(settings.slow_floor))
        })
    }

    /// The circuit as an operator sees it. Reads all reporters: not for each request.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let now = self.now.max(now);
        let (permits_out, probes) = match &self.phase {
            Phase::HalfOpen(round) => (round.out(), round.results()),
            _ => (0, (0, 0)),
        };
        let view = View { now, ..self.view() };
        Snapshot {
            state: self.state(),
            epoch: self.epoch,
            since: self.since,
            reason: self.reason,
            adopting: self.adoption.is_some(),
            would_open: self.would_open,
            admit: self.phase.admit(),
            remaining: self.remaining() - (now - self.now),
            attempt: self.attempt,
            window: view.over_window().into(),
            slow: view.slow_in_window(),
            permits_out,
            probes,
            reporters: self.reporters.len(),
            median: self.typical.median(),
            set: self.set.clone(),
            totals: self.totals(),
        }
    }

    /// What it has counted since it began: a part of [`Circuit::snapshot`] that costs little.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { reporters_forgotten: self.reporters.forgotten(), ..self.totals }
    }

    /// How long a directive holds.
    pub(crate) fn lease(&self) -> Span {
        self.settings().lease
    }

    /// Whether nothing would be lost if the circuit were forgotten: it is at rest, without an override, and
    /// was silent for `idle`.
    pub(crate) fn is_idle(&self, now: Time, idle: Span) -> bool {
        let at_rest = matches!(self.state(), FleetState::Closed | FleetState::MetricsOnly);
        at_rest && self.set.is_none() && self.adoption.is_none() && self.reporters.heard(now, idle) == 0
    }
}
