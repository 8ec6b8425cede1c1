//! Changes of mode. All happen under one lock, and show to calls as one store of the state word.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::probes::{Decided, Probes};
use super::word::Word;
use super::{
    Breaker, Config, Counts, Forget, Mode, NEVER, OnMaxWait, Outcome, Permit, Rate, Reason, Refused,
    Transition,
};
use crate::load::random::SplitMix64;
use crate::time::{Span, Time};

/// Transitions that a breaker keeps until somebody takes them. At one more the oldest is dropped and counted.
pub const MAX_TRANSITIONS: usize = 64;

/// The counts of a mode that is over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frozen {
    pub(super) counts: Counts,
    pub(super) failure_rate: Option<Rate>,
    pub(super) slow_rate: Option<Rate>,
}

/// What only changes of mode touch.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) since: Time,
    pub(super) reason: Reason,
    /// Openings in a row.
    pub(super) attempts: u32,
    random: SplitMix64,
    pub(super) probes: Probes,
    pub(super) frozen: Frozen,
    queue: VecDeque<Transition>,
    pub(super) dropped: u64,
}

/// Where to go.
pub(super) struct Move {
    pub(super) to: Mode,
    pub(super) at: Time,
    pub(super) until: Option<Time>,
    pub(super) reason: Reason,
}

impl Cold {
    pub(super) fn new(config: &Config, seed: u64, now: Time) -> Cold {
        Cold {
            since: now,
            reason: Reason::Initial,
            attempts: 0,
            random: SplitMix64::new(seed),
            probes: Probes::new(&config.half_open),
            frozen: Frozen::default(),
            queue: VecDeque::with_capacity(MAX_TRANSITIONS),
            dropped: 0,
        }
    }

    fn push(&mut self, transition: Transition) {
        if self.queue.len() == MAX_TRANSITIONS {
            self.queue.pop_front();
            self.dropped += 1;
        }
        self.queue.push_back(transition);
    }
}

impl Breaker {
    pub(super) fn lock(&self) -> MutexGuard<'_, Cold> {
        // nothing under this lock panics half way through a change
        self.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a transition that nobody has taken yet. One read.
    #[must_use]
    pub fn has_transitions(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// The oldest transition that nobody has taken yet; each is given out once. One read if there is none.
    #[must_use]
    pub fn take_transition(&self) -> Option<Transition> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut cold = self.lock();
        let transition = cold.queue.pop_front();
        self.waiting.store(cold.queue.len(), Ordering::Release);
        transition
    }

    /// Takes effect at once. The window of the new mode is empty.
    pub(super) fn switch(&self, cold: &mut Cold, change: Move) {
        let Move { to, at, until, reason } = change;
        let word = self.word();
        let from = word.mode();
        self.freeze(cold, word, at);
        if to == Mode::Closed && self.config.wait.forget == Forget::OnClose {
            cold.attempts = 0;
        }
        if matches!(to, Mode::Closed | Mode::Recovering) {
            self.hint.store(0, Ordering::Relaxed);
            self.turn.0.store(0, Ordering::Relaxed);
        }
        let (mut window, mut permits) = (word.window(), 0);
        if to.measures() {
            window ^= 1;
            self.window(Word::new(0, to, window, 0)).clear();
        }
        if to == Mode::HalfOpen {
            cold.probes.clear();
            permits = cold.probes.free();
        }
        self.reissue.store(NEVER, Ordering::Release);
        self.head.0.until.store(until.map_or(NEVER, Time::as_micros), Ordering::Release);
        let next = Word::new(word.epoch().wrapping_add(1), to, window, permits);
        self.head.0.word.store(next.bits(), Ordering::Release);
        cold.since = at;
        cold.reason = reason.clone();
        cold.push(Transition { at, from, to, reason, epoch: next.epoch() });
        self.waiting.store(cold.queue.len(), Ordering::Release);
    }

    fn freeze(&self, cold: &mut Cold, word: Word, at: Time) {
        cold.frozen = match word.mode() {
            Mode::HalfOpen => {
                let counts = cold.probes.counts();
                let rate = |part| (counts.calls > 0).then_some(Rate { part, of: counts.calls });
                Frozen { counts, failure_rate: rate(counts.failures), slow_rate: rate(counts.slow) }
            }
            mode if mode.measures() => {
                let counts = self.window(word).counts(at);
                let (failure_rate, slow_rate) =
                    (self.rules.failure_rate(&counts), self.rules.slow_rate(&counts));
                Frozen { counts, failure_rate, slow_rate }
            }
            Mode::Open => return,
            _ => Frozen::default(),
        };
    }

    /// Opens because a rule is broken, unless somebody was faster.
    pub(super) fn open(&self, word: Word, now: Time, reason: Reason) {
        let mut cold = self.lock();
        if self.word().epoch() == word.epoch() {
            self.reopen(&mut cold, now, reason);
        }
    }

    /// Leaving CLOSED: forgets one opening for each healthy window.
    pub(super) fn forget(&self, cold: &mut Cold, at: Time) {
        let word = self.word();
        if word.mode() == Mode::Closed {
            let healthy = self.window(word).turns(cold.since, at);
            cold.attempts = cold.attempts.saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX));
        }
    }

    /// To OPEN for one wait more than last time.
    fn reopen(&self, cold: &mut Cold, at: Time, reason: Reason) {
        self.forget(cold, at);
        cold.attempts = cold.attempts.saturating_add(1);
        self.open_at(cold, at, reason);
    }

    /// To OPEN for the wait of the attempts so far, or for the hint if that is longer.
    fn open_at(&self, cold: &mut Cold, at: Time, reason: Reason) {
        let wait = self.config.wait.spread(cold.attempts, &mut cold.random);
        let hint = Time::from_micros(self.hint.load(Ordering::Relaxed));
        let until = Some((at + wait).max(hint));
        self.switch(cold, Move { to: Mode::Open, at, until, reason });
    }

    /// METRICS_ONLY: tells what would have opened the breaker.
    pub(super) fn would_open(&self, word: Word, now: Time, reason: Reason) {
        let mut cold = self.lock();
        if self.word().epoch() != word.epoch() {
            return;
        }
        let mode = Mode::MetricsOnly;
        cold.push(Transition { at: now, from: mode, to: mode, reason, epoch: word.epoch() });
        self.waiting.store(cold.queue.len(), Ordering::Release);
    }

    /// Remembers what the target asked for.
    pub(super) fn heed(&self, now: Time, hint: Span) {
        let until = now + hint.min(self.config.hint_cap);
        self.hint.fetch_max(until.as_micros(), Ordering::Relaxed);
    }

    /// The target refuses load: opens for as long as it asked.
    pub(super) fn throttled(&self, word: Word, now: Time, hint: Option<Span>) {
        let Some(wait) = hint.map(|hint| hint.min(self.config.hint_cap)).filter(|wait| !wait.is_zero())
        else {
            return;
        };
        let mut cold = self.lock();
        if word.mode() != Mode::MetricsOnly && self.word().epoch() == word.epoch() {
            self.forget(&mut cold, now);
            let until = Some(now + wait);
            self.switch(&mut cold, Move { to: Mode::Open, at: now, until, reason: Reason::Hint { wait } });
        }
    }

    /// OPEN and HALF_OPEN: a probe, if there is one.
    pub(super) fn probe(&self, now: Time) -> Result<Permit, Refused> {
        let mut cold = self.lock();
        match (self.word().mode(), self.remaining(now)) {
            (Mode::Open, Some(Span::ZERO)) => self.half_open(&mut cold, now, Reason::WaitOver),
            (Mode::Open, wait) => return Err(self.refuse(Mode::Open, wait)),
            (Mode::HalfOpen, _) => {}
            _ => {
                drop(cold);
                return self.admit_by_mode(now);
            }
        }
        let Some((slot, serial)) = cold.probes.take(now) else {
            return Err(self.refuse(Mode::HalfOpen, None));
        };
        self.show_probes(&cold);
        Ok(Permit { slot, serial, ..Permit::new(self.word().epoch(), now) })
    }

    pub(super) fn half_open(&self, cold: &mut Cold, at: Time, reason: Reason) {
        let until = self.config.half_open.max_wait.map(|wait| at + wait);
        self.switch(cold, Move { to: Mode::HalfOpen, at, until, reason });
    }

    fn show_probes(&self, cold: &Cold) {
        let word = self.word().with_permits(cold.probes.free());
        self.reissue.store(cold.probes.reissue().map_or(NEVER, Time::as_micros), Ordering::Release);
        self.head.0.word.store(word.bits(), Ordering::Release);
    }

    /// Whether the probe was still this permit's.
    pub(super) fn end_probe(&self, permit: &Permit, now: Time, (outcome, duration): (Outcome, Span)) -> bool {
        let mut cold = self.lock();
        self.settle_locked(&mut cold, now);
        let counted = match outcome {
            Outcome::Ignored => None,
            outcome => Some((outcome != Outcome::Success, self.rules.is_slow(duration))),
        };
        let (holder, current) = ((permit.slot, permit.serial), self.word().epoch() == permit.epoch);
        let mut known = || match counted {
            Some((failed, _)) if permit.passed => !failed || cold.probes.overrule(holder),
            None if permit.passed => true,
            counted => cold.probes.end(holder, counted),
        };
        if !current || !known() {
            self.count_late();
            return false;
        }
        if let Some(hint) = outcome.hint() {
            self.heed(now, hint);
        }
        let Counts { calls, failures, slow, .. } = cold.probes.counts();
        match cold.probes.decided(self.rules.failure_rate, self.rules.slow_rate) {
            Decided::Nothing => self.show_probes(&cold),
            Decided::Failed => self.reopen(&mut cold, now, Reason::ProbesFailed { failures, slow, calls }),
            Decided::Passed => self.pass(&mut cold, now, Reason::ProbesPassed { failures, slow, calls }),
        }
        true
    }

    /// After HALF_OPEN: to the ramp, or to CLOSED.
    fn pass(&self, cold: &mut Cold, at: Time, reason: Reason) {
        let (to, until) = match self.config.recover {
            Some(_) => (Mode::Recovering, Some(at + self.ramp())),
            None => (Mode::Closed, None),
        };
        self.switch(cold, Move { to, at, until, reason });
    }

    /// How long RECOVERING lasts.
    fn ramp(&self) -> Span {
        let Some(recovery) = &self.config.recover else { return Span::ZERO };
        let steps = (100 - recovery.start.min(100)).div_ceil(recovery.step);
        Span::from_wide(u128::from(recovery.every.as_micros()) * u128::from(steps))
    }

    /// RECOVERING: the percentage of the calls that passes.
    pub(super) fn share(&self, now: Time) -> u32 {
        let Some(recovery) = &self.config.recover else { return 100 };
        let left = self.remaining(now).unwrap_or(Span::ZERO);
        let steps = (self.ramp() - left).as_micros() / recovery.every.as_micros().max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        recovery.start.saturating_add(recovery.step.saturating_mul(steps)).min(100)
    }

    /// Whether the mode ends by itself, and has.
    fn is_due(&self, word: Word, now: Time) -> bool {
        match word.mode() {
            Mode::Closed => false,
            Mode::Open if !self.config.automatic_half_open => false,
            _ => self.head.0.until.load(Ordering::Acquire) <= now.as_micros(),
        }
    }

    /// Does what time alone does. The word after that.
    pub(super) fn settle(&self, now: Time) -> Word {
        let word = self.word();
        if !self.is_due(word, now) {
            return word;
        }
        self.settle_locked(&mut self.lock(), now);
        self.word()
    }

    pub(super) fn settle_locked(&self, cold: &mut Cold, now: Time) {
        // a chain such as HALF_OPEN, OPEN, HALF_OPEN; after an idle year the rest of it happens now
        for step in 0..4 {
            let word = self.word();
            if !self.is_due(word, now) {
                return;
            }
            let due = Time::from_micros(self.head.0.until.load(Ordering::Acquire));
            let at = if step < 2 { due } else { now };
            let closed = |reason| Move { to: Mode::Closed, at, until: None, reason };
            match (word.mode(), self.config.half_open.on_max_wait) {
                (Mode::Open, _) => self.half_open(cold, at, Reason::WaitOver),
                (Mode::HalfOpen, OnMaxWait::Open) => self.open_at(cold, at, Reason::MaxWait),
                (Mode::HalfOpen, OnMaxWait::Closed) => self.switch(cold, closed(Reason::MaxWait)),
                (Mode::Recovering, _) => self.switch(cold, closed(Reason::Recovered)),
                _ => self.switch(cold, closed(Reason::ManualOver)),
            }
        }
    }
}
