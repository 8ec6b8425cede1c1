//! How calls end.

use std::sync::atomic::Ordering;

use super::super::wire::{OutcomeKind, ProbeResult};
use super::counts::Kind;
use super::word::Word;
use super::{FleetView, OUTCOMES_PER_DELTA, Outcome, Ticket};
use crate::time::{Span, Time};

/// The time of the last outcome is written only when it moved by more than this, in microseconds: it costs a
/// cache line.
const COARSE: u64 = 5_000;

impl FleetView {
    /// Counts how a call ended. True if a delta may now be due sooner: look at
    /// [`FleetView::flush_due`] again.
    pub fn record(&self, now: Time, ticket: Ticket, outcome: Outcome) -> bool {
        let slow = outcome.took.as_micros() > self.slow_after.load(Ordering::Relaxed);
        let word = self.word();
        if let Some(permit) = ticket.permit {
            self.hint(outcome.hint);
            return self.end_probe(ticket, ProbeResult { permit, kind: outcome.kind, slow });
        }
        let kind = match (outcome.kind, slow) {
            (OutcomeKind::Success, false) => Kind::Success,
            (OutcomeKind::Success, true) => Kind::SlowSuccess,
            (OutcomeKind::Failure, false) => Kind::Failure,
            (OutcomeKind::Failure, true) => Kind::SlowFailure,
            (OutcomeKind::Ignored, _) => Kind::Ignored,
        };
        self.hint(outcome.hint);
        if ticket.generation != word.generation {
            self.count(word.generation.wrapping_add(1), kind);
            return self.nudged();
        }
        self.count(word.generation, kind);
        if now.as_micros().saturating_sub(self.last_outcome.load(Ordering::Relaxed)) > COARSE {
            self.last_outcome.store(now.as_micros(), Ordering::Relaxed);
        }
        if outcome.kind == OutcomeKind::Success {
            self.latencies.add(outcome.took);
        }
        let failed = outcome.kind == OutcomeKind::Failure;
        // A slow call among quick ones is no news.
        if self.hurries(now, word, failed || (slow && self.set(word.generation).peek().success == 0)) {
            self.nudge.store(true, Ordering::Relaxed);
        }
        self.nudged()
    }

    /// Whether this outcome makes a delta due sooner: the first failure, or one outcome too many.
    fn hurries(&self, now: Time, word: Word, failed: bool) -> bool {
        let troubled = !word.is_local() || self.first_failure.load(Ordering::Relaxed) != 0;
        if troubled {
            return self.pending.fetch_add(1, Ordering::Relaxed) + 1 == OUTCOMES_PER_DELTA;
        }
        let first = now.as_micros().max(1);
        failed && self.first_failure.compare_exchange(0, first, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn hint(&self, hint: Option<Span>) {
        if let Some(hint) = hint {
            let mut inner = self.lock();
            inner.hint = inner.hint.max(Some(hint));
        }
    }

    fn end_probe(&self, ticket: Ticket, result: ProbeResult) -> bool {
        let mut inner = self.lock();
        if self.word().generation != ticket.generation {
            let kind = match result.kind {
                OutcomeKind::Success => &mut inner.late.success,
                OutcomeKind::Failure => &mut inner.late.failure,
                OutcomeKind::Ignored => &mut inner.late.ignored,
            };
            *kind = kind.saturating_add(1);
            return false;
        }
        inner.probes.push(result);
        true
    }

    /// A call that the local breaker refused. True if a delta may now be due sooner.
    pub fn not_permitted(&self) -> bool {
        self.count(self.word().generation, Kind::NotPermitted);
        self.nudged()
    }

    /// An admitted call that was never sent: the permit of a probe goes back at once. True if a delta is now
    /// due sooner.
    pub fn forget(&self, ticket: Ticket) -> bool {
        let back = |permit| ProbeResult { permit, kind: OutcomeKind::Ignored, slow: false };
        ticket.permit.is_some_and(|permit| self.end_probe(ticket, back(permit)))
    }
}
