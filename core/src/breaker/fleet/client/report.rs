//! When an instance reports, and what.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::super::wire::{Claim, Delta, Epoch, FleetState};
use super::word::Word;
use super::{FleetView, Inner, OUTCOMES_PER_DELTA};
use crate::time::{Span, Time};

/// While something is wrong reports come this many times as often.
const TROUBLED: u64 = 5;
/// The first failure after quiet is told within this part of the interval; reports are never closer.
const FIRST: u64 = 20;

impl FleetView {
    /// When [`FleetView::flush`] has something to send; [`Time::MAX`] if nothing is known yet. To be asked
    /// again after [`FleetView::flush`], [`FleetView::apply`], [`FleetView::stream_lost`], and a nudge
    /// ([`FleetView::nudged`]).
    ///
    /// With the default interval of one second: every second when all is well, within 50 ms after the first
    /// failure (or slow call, if none was quick since the last delta), every 200 ms or 64 outcomes while something is wrong, at once after a probe, and once in
    /// half a lease while the circuit is not closed, so that the lease goes on.
    #[must_use]
    pub fn flush_due(&self, now: Time) -> Time {
        let inner = self.lock();
        self.due(&inner, now)
    }

    fn due(&self, inner: &Inner, now: Time) -> Time {
        let resend = inner.outbox.resend_due().unwrap_or(Time::MAX);
        if !inner.outbox.has_room() {
            return resend;
        }
        resend.min(self.new_due(inner, now))
    }

    /// When a new delta is due.
    fn new_due(&self, inner: &Inner, now: Time) -> Time {
        let Some(last) = inner.last_flush else { return now };
        if !inner.probes.is_empty() {
            return now;
        }
        let word = self.word();
        let part = |of: u64| Span::from_micros(inner.report_interval.as_micros() / of);
        let renew = if word.is_local() {
            Time::MAX
        } else {
            let until = Time::from_micros(self.lease_until.load(Ordering::Acquire));
            (until - Span::from_micros(inner.lease.as_micros() / 2)).max(last + part(TROUBLED))
        };
        let other = self.set(word.generation.wrapping_add(1)).peek();
        let current = self.set(word.generation).peek();
        if current.is_empty() && other.is_empty() && inner.late.is_empty() && inner.hint.is_none() {
            // The answer to the last delta may be on its way, or lost: asked once more.
            return if inner.failing { renew.min(last + part(TROUBLED)) } else { renew };
        }
        let mut due = last + inner.report_interval;
        if inner.failing || word.is_steered() {
            due = last + part(TROUBLED);
        }
        if self.pending.load(Ordering::Relaxed) >= OUTCOMES_PER_DELTA {
            due = due.min(last + part(FIRST));
        }
        let failure = self.first_failure.load(Ordering::Relaxed);
        if failure != 0 {
            due = due.min((Time::from_micros(failure) + part(FIRST)).max(last + part(FIRST)));
        }
        due.min(renew)
    }

    /// The next delta to send, if one is due; to be called until there is none. A delta that was not
    /// acknowledged in a second is due again, with its own sequence.
    #[must_use]
    pub fn flush(&self, now: Time) -> Option<Delta> {
        let mut inner = self.lock();
        if let Some(again) = inner.outbox.resend(now) {
            return Some(again);
        }
        if !inner.outbox.has_room() || self.new_due(&inner, now) > now {
            return None;
        }
        let word = self.word();
        // Before the counters are read: what is counted from here on is news.
        self.quiet.store(true, Ordering::Relaxed);
        let counts = self.set(word.generation).take();
        let mut late = std::mem::take(&mut inner.late);
        late.add(&self.set(word.generation.wrapping_add(1)).take());
        inner.failing = counts.failures() > 0 || counts.slow_success > counts.success;
        self.first_failure.store(0, Ordering::Relaxed);
        self.pending.store(0, Ordering::Relaxed);
        inner.last_flush = Some(now);
        let ended = match counts.judged() {
            0 => now,
            _ => Time::from_micros(self.last_outcome.load(Ordering::Relaxed)).min(now),
        };
        let delta = Delta {
            sequence: 0,
            epoch: inner.epoch,
            age: Span::ZERO,
            counts,
            late,
            retry_after: inner.hint.take(),
            median: self.latencies.take_median(),
            probes: std::mem::replace(&mut inner.probes, SmallVec::new()),
            claim: self.claim(&inner, word, now),
        };
        Some(inner.outbox.send(now, ended, delta))
    }

    fn claim(&self, inner: &Inner, word: Word, now: Time) -> Option<Claim> {
        let alive = now.as_micros() < self.lease_until.load(Ordering::Acquire);
        let held = alive && inner.epoch != Epoch::default() && !word.is_local();
        held.then(|| Claim {
            state: word.state,
            epoch: inner.epoch,
            remaining: Time::from_micros(self.open_until.load(Ordering::Relaxed)) - now,
            admit: word.admit,
            attempt: inner.attempt,
        })
    }

    /// The stream broke: everything unacknowledged is due again, with its sequence.
    pub fn stream_lost(&self) {
        self.lock().outbox.rewind();
    }
}

impl Word {
    /// Whether the owner steers by what comes back, so that it must come back soon.
    const fn is_steered(self) -> bool {
        matches!(self.state, FleetState::Open | FleetState::HalfOpen | FleetState::Recovering)
    }
}
