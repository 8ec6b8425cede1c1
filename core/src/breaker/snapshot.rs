//! What a breaker shows.

use std::sync::atomic::Ordering;

use super::turn::Frozen;
use super::{Breaker, Counts, Mode, NEVER, Rate, Reason};
use crate::time::{Span, Time};

/// A breaker at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What it does with calls.
    pub mode: Mode,
    /// The count of transitions, modulo 2^32.
    pub epoch: u32,
    /// The last transition.
    pub since: Time,
    /// Why it happened, or the latest order that renewed it.
    pub reason: Reason,
    /// What was measured: the window; in HALF_OPEN the probes; in OPEN what was measured before it.
    pub counts: Counts,
    /// The share of failures; `None` below the minimum.
    pub failure_rate: Option<Rate>,
    /// The share of slow calls, with those overdue; `None` below the minimum.
    pub slow_rate: Option<Rate>,
    /// Failures since the last success in the window.
    pub consecutive: u32,
    /// How long the calls in the window took together, if `durations` is on.
    pub total_duration: Option<Span>,
    /// HALF_OPEN: probes that can still be given out.
    pub permits_left: Option<u16>,
    /// RECOVERING: the percentage of the calls that passes.
    pub share: Option<u32>,
    /// Calls refused since the start or the last reset.
    pub not_permitted: u64,
    /// Outcomes dropped because their epoch was over or their probe was given to somebody else.
    pub late: u64,
    /// Openings in a row, less those forgotten.
    pub attempts: u32,
    /// Until the mode ends by itself, or OPEN admits a probe; `None` if it does not.
    pub remaining: Option<Span>,
    /// Transitions that were dropped because nobody took them.
    pub transitions_dropped: u64,
}

impl Breaker {
    /// The mode at `now`, after everything that time alone does.
    #[must_use]
    pub fn mode(&self, now: Time) -> Mode {
        let word = self.settle(now);
        if self.config.overdue && word.mode().measures() {
            self.judge_overdue(word, now);
            return self.word().mode();
        }
        word.mode()
    }

    /// When [`Breaker::mode`] will have something to do, so that a timer can call it; `None` if not before
    /// other calls.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let until = self.head.0.until.load(Ordering::Acquire);
        let timed = match self.word().mode() {
            Mode::Closed => false,
            Mode::Open => self.config.automatic_half_open,
            _ => true,
        };
        (timed && until != NEVER).then(|| Time::from_micros(until))
    }

    /// Everything at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let _ = self.mode(now);
        let cold = self.lock();
        let word = self.word();
        let mode = word.mode();
        let window = self.window(word);
        let measured = match mode {
            Mode::HalfOpen => {
                let counts = cold.probes.counts();
                let known = counts.calls >= cold.probes.needed().max(1);
                let rate = |part| known.then_some(Rate { part, of: counts.calls });
                Frozen { counts, failure_rate: rate(counts.failures), slow_rate: rate(counts.slow) }
            }
            mode if mode.measures() => {
                let counts: Counts = window.counts(now);
                let (failure_rate, slow_rate) =
                    (self.rules.failure_rate(&counts), self.rules.slow_rate(&counts));
                Frozen { counts, failure_rate, slow_rate }
            }
            Mode::Open => cold.frozen,
            _ => Frozen::default(),
        };
        let healthy = if mode == Mode::Closed { window.turns(cold.since, now) } else { 0 };
        Snapshot {
            mode,
            epoch: word.epoch(),
            since: cold.since,
            reason: cold.reason.clone(),
            counts: measured.counts,
            failure_rate: measured.failure_rate,
            slow_rate: measured.slow_rate,
            consecutive: if mode.measures() { window.run() } else { 0 },
            total_duration: window.total_duration(now).filter(|_| mode.measures()),
            permits_left: (mode == Mode::HalfOpen).then(|| cold.probes.available(now)),
            share: (mode == Mode::Recovering).then(|| self.share(now)),
            not_permitted: self.refused.sum(),
            late: self.late.0.load(Ordering::Relaxed),
            attempts: cold.attempts.saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX)),
            remaining: self.remaining(now).filter(|_| mode != Mode::Closed),
            transitions_dropped: cold.dropped,
        }
    }
}
