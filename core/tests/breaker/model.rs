//! A breaker written for reading: one thread, no arithmetic tricks, every rule judged at every outcome.

use std::collections::VecDeque;

use tollgate_core::breaker::{
    Config, Counts, EvaluateOn, Forget, Mode, OnMaxWait, Outcome, Rate, Ratio, Reason, Verdict, WindowKind,
};
use tollgate_core::time::{Span, Time};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slot {
    Free,
    Out { holder: usize, started: Time },
    Done,
}

/// A call that the model admitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    epoch: u32,
    /// Its number, over all calls.
    holder: usize,
}

pub(crate) struct Model {
    config: Config,
    origin: Time,
    pub(crate) mode: Mode,
    pub(crate) epoch: u32,
    pub(crate) since: Time,
    pub(crate) until: Option<Time>,
    pub(crate) attempts: u32,
    pub(crate) late: u64,
    pub(crate) refused: u64,
    pub(crate) run: u32,
    pub(crate) events: VecDeque<(Time, Mode, Mode, Reason)>,
    /// Outcomes in the window, with their ticks.
    outcomes: VecDeque<(u64, bool, bool)>,
    /// Outcomes since the mode began.
    recorded: u64,
    told: bool,
    hint: Time,
    turn: u64,
    slots: Vec<Slot>,
    probes: Counts,
    admitted: usize,
}

impl Model {
    pub(crate) fn new(config: &Config, now: Time) -> Model {
        Model {
            config: config.clone(),
            origin: now,
            mode: config.initial,
            epoch: 0,
            since: now,
            until: None,
            attempts: 0,
            late: 0,
            refused: 0,
            run: 0,
            events: VecDeque::new(),
            outcomes: VecDeque::new(),
            recorded: 0,
            told: false,
            hint: Time::EPOCH,
            turn: 0,
            slots: vec![Slot::Free; usize::try_from(config.half_open.permits).unwrap()],
            probes: Counts::default(),
            admitted: 0,
        }
    }

    fn tick(&self, now: Time) -> u64 {
        match self.config.window {
            WindowKind::Count { .. } => 0,
            WindowKind::Time { length, buckets } => {
                (now - self.origin).as_micros() / (length.as_micros() / u64::from(buckets))
            }
        }
    }

    pub(crate) fn counts(&self, now: Time) -> Counts {
        if self.mode == Mode::HalfOpen {
            return self.probes;
        }
        let tick = self.tick(now);
        let inside: Vec<_> = match self.config.window {
            WindowKind::Count { size } => {
                self.outcomes.iter().rev().take(usize::try_from(size).unwrap()).collect()
            }
            WindowKind::Time { buckets, .. } => {
                self.outcomes.iter().filter(|(of, _, _)| of + u64::from(buckets) > tick).collect()
            }
        };
        let count = |which: &dyn Fn(&(u64, bool, bool)) -> bool| {
            u64::try_from(inside.iter().filter(|outcome| which(outcome)).count()).unwrap()
        };
        Counts { calls: count(&|_| true), failures: count(&|o| o.1), slow: count(&|o| o.2), overdue: 0 }
    }

    /// The shares of failures and of slow calls, if there are enough.
    pub(crate) fn rates(&self, now: Time) -> (Option<Rate>, Option<Rate>) {
        let counts = self.counts(now);
        let enough = counts.calls >= u64::from(self.config.minimum_calls);
        let rate = |part| enough.then_some(Rate { part, of: counts.calls });
        (rate(counts.failures), rate(counts.slow))
    }

    fn broken(&self, now: Time) -> Option<Reason> {
        let Counts { calls, failures, slow, .. } = self.counts(now);
        let enough = calls >= u64::from(self.config.minimum_calls);
        let over = |limit: Option<Ratio>, part: u64| {
            limit.is_some_and(|limit| {
                part * u64::from(limit.denominator()) >= u64::from(limit.numerator()) * calls
            })
        };
        if enough && over(self.config.failure_rate, failures) {
            Some(Reason::FailureRate { failures, calls })
        } else if enough && over(self.config.slow.map(|slow| slow.rate), slow) {
            Some(Reason::SlowRate { slow, overdue: 0, calls })
        } else if self.config.failures.is_some_and(|limit| failures >= u64::from(limit)) {
            Some(Reason::Failures { failures, calls })
        } else if self.config.consecutive.is_some_and(|limit| self.run >= limit) {
            Some(Reason::Consecutive { failures: self.run })
        } else {
            None
        }
    }

    /// Openings in a row that are still remembered.
    pub(crate) fn remembered(&self, now: Time) -> u32 {
        if self.mode != Mode::Closed {
            return self.attempts;
        }
        let healthy = match self.config.window {
            WindowKind::Count { size } => self.recorded / u64::from(size),
            WindowKind::Time { length, .. } => (now - self.since).as_micros() / length.as_micros(),
        };
        self.attempts.saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX))
    }

    fn go(&mut self, to: Mode, at: Time, until: Option<Time>, reason: Reason) {
        self.attempts = self.remembered(at);
        self.events.push_back((at, self.mode, to, reason));
        if to == Mode::Closed && self.config.wait.forget == Forget::OnClose {
            self.attempts = 0;
        }
        if matches!(to, Mode::Closed | Mode::Recovering) {
            (self.hint, self.turn) = (Time::EPOCH, 0);
        }
        if matches!(to, Mode::Closed | Mode::Recovering | Mode::MetricsOnly) {
            self.outcomes.clear();
            (self.recorded, self.run, self.told) = (0, 0, false);
        }
        if to == Mode::HalfOpen {
            self.slots.fill(Slot::Free);
            self.probes = Counts::default();
        }
        (self.mode, self.since, self.until) = (to, at, until);
        self.epoch += 1;
    }

    fn open(&mut self, at: Time, reason: Reason, again: bool) {
        self.attempts = self.remembered(at) + u32::from(again);
        // what was forgotten is forgotten once
        self.since = at;
        self.recorded = 0;
        let wait = &self.config.wait;
        let mut length = wait.base.as_micros();
        for _ in 1..self.attempts {
            length = (length * u64::from(wait.multiplier) / 1_000).min(wait.cap.as_micros());
        }
        let until = (at + Span::from_micros(length)).max(self.hint);
        self.go(Mode::Open, at, Some(until), reason);
    }

    fn half_open(&mut self, at: Time) {
        let until = self.config.half_open.max_wait.map(|wait| at + wait);
        self.go(Mode::HalfOpen, at, until, Reason::WaitOver);
    }

    /// What time alone does.
    pub(crate) fn settle(&mut self, now: Time) {
        for step in 0..4 {
            let Some(until) = self.until.filter(|until| *until <= now) else { return };
            let at = if step < 2 { until } else { now };
            match (self.mode, self.config.half_open.on_max_wait) {
                (Mode::Open, _) if !self.config.automatic_half_open => return,
                (Mode::Open, _) => self.half_open(at),
                (Mode::HalfOpen, OnMaxWait::Open) => self.open(at, Reason::MaxWait, false),
                (Mode::HalfOpen, OnMaxWait::Closed) => self.go(Mode::Closed, at, None, Reason::MaxWait),
                (Mode::Recovering, _) => self.go(Mode::Closed, at, None, Reason::Recovered),
                _ => self.go(Mode::Closed, at, None, Reason::ManualOver),
            }
        }
    }

    pub(crate) fn order(&mut self, to: Mode, now: Time, reason: Reason, ttl: Option<Span>) {
        self.settle(now);
        let until = ttl.map(|ttl| now + ttl);
        if self.mode == to {
            self.until = until;
        } else {
            self.go(to, now, until, reason);
        }
    }

    fn share(&self, now: Time) -> u64 {
        let recovery = self.config.recover.unwrap();
        let steps = (now - self.since).as_micros() / recovery.every.as_micros();
        (u64::from(recovery.start) + u64::from(recovery.step) * steps).min(100)
    }

    pub(crate) fn admit(&mut self, now: Time) -> Result<Ticket, (Mode, Option<Span>)> {
        self.settle(now);
        if self.mode == Mode::Open && self.until.unwrap() <= now {
            self.half_open(now);
        }
        let passes = match self.mode {
            Mode::Closed | Mode::Disabled | Mode::MetricsOnly => true,
            Mode::Open | Mode::ForcedOpen => false,
            Mode::Recovering => {
                let share = self.share(now);
                self.turn += 1;
                (self.turn - 1) % 100 * share % 100 < share
            }
            Mode::HalfOpen => self.take_slot(now),
        };
        if passes {
            self.admitted += 1;
            return Ok(Ticket { epoch: self.epoch, holder: self.admitted });
        }
        self.refused += 1;
        let wait = self.until.map(|until| until - now);
        Err((self.mode, wait.filter(|_| matches!(self.mode, Mode::Open | Mode::ForcedOpen))))
    }

    fn take_slot(&mut self, now: Time) -> bool {
        let ttl = self.config.half_open.permit_ttl;
        let free = self.slots.iter().position(|slot| *slot == Slot::Free);
        let lost = |slot: &Slot| matches!(slot, Slot::Out { started, .. } if now - *started >= ttl);
        let Some(index) = free.or_else(|| self.slots.iter().position(lost)) else { return false };
        self.slots[index] = Slot::Out { holder: self.admitted + 1, started: now };
        true
    }

    fn heed(&mut self, now: Time, outcome: Outcome) {
        let hint = match outcome {
            Outcome::Unavailable { retry_after } => Some(retry_after),
            Outcome::Throttled { retry_after } => retry_after,
            _ => None,
        };
        if let Some(hint) = hint {
            self.hint = self.hint.max(now + hint.min(self.config.hint_cap));
        }
    }

    pub(crate) fn record(&mut self, ticket: Ticket, now: Time, outcome: Outcome, took: Span) {
        if ticket.epoch == self.epoch && self.mode == Mode::HalfOpen {
            self.settle(now);
        }
        let slow = self.config.slow.is_some_and(|slow| took > slow.duration);
        if ticket.epoch != self.epoch {
            self.late += 1;
        } else if self.mode == Mode::HalfOpen {
            self.end_probe(ticket, now, outcome, slow);
        } else if self.mode != Mode::Disabled {
            self.observe(now, outcome, slow);
        }
    }

    fn observe(&mut self, now: Time, outcome: Outcome, slow: bool) {
        match outcome {
            Outcome::Ignored | Outcome::Throttled { retry_after: None } => return,
            Outcome::Throttled { retry_after: Some(hint) } => {
                let wait = hint.min(self.config.hint_cap);
                if self.mode != Mode::MetricsOnly && wait > Span::ZERO {
                    self.go(Mode::Open, now, Some(now + wait), Reason::Hint { wait });
                }
                return;
            }
            _ => {}
        }
        if self.mode != Mode::MetricsOnly || outcome != Outcome::Success {
            self.heed(now, outcome);
        }
        let failed = outcome != Outcome::Success;
        self.outcomes.push_back((self.tick(now), failed, slow));
        self.recorded += 1;
        self.run = if failed { self.run + 1 } else { 0 };
        let broken = self.broken(now);
        let may_break = failed || slow || self.config.evaluate_on == EvaluateOn::Every;
        if self.mode == Mode::MetricsOnly {
            if let Some(reason) = broken.clone().filter(|_| may_break && !self.told) {
                self.events.push_back((now, self.mode, self.mode, reason));
                self.told = true;
            }
            self.told &= broken.is_some();
        } else if let Some(reason) = broken.filter(|_| may_break) {
            self.open(now, reason, true);
        }
    }

    fn end_probe(&mut self, ticket: Ticket, now: Time, outcome: Outcome, slow: bool) {
        let mine = |slot: &Slot| matches!(slot, Slot::Out { holder, .. } if *holder == ticket.holder);
        let Some(index) = self.slots.iter().position(mine) else {
            self.late += 1;
            return;
        };
        self.slots[index] = if outcome == Outcome::Ignored { Slot::Free } else { Slot::Done };
        if outcome == Outcome::Ignored {
            return;
        }
        self.heed(now, outcome);
        self.probes.calls += 1;
        self.probes.failures += u64::from(outcome != Outcome::Success);
        self.probes.slow += u64::from(slow);
        let Counts { calls, failures, slow, .. } = self.probes;
        match self.verdict() {
            Some(true) => {
                let reason = Reason::ProbesPassed { failures, slow, calls };
                self.pass(now, reason);
            }
            Some(false) => self.open(now, Reason::ProbesFailed { failures, slow, calls }, true),
            None => {}
        }
    }

    fn pass(&mut self, now: Time, reason: Reason) {
        let Some(recovery) = self.config.recover else { return self.go(Mode::Closed, now, None, reason) };
        let (mut share, mut end) = (recovery.start, now);
        while share < 100 {
            share += recovery.step;
            end = end + recovery.every;
        }
        self.go(Mode::Recovering, now, Some(end), reason);
    }

    /// Tries every way in which the missing probes can end.
    fn verdict(&self) -> Option<bool> {
        let Counts { calls, failures, slow, .. } = self.probes;
        let permits = u64::from(self.config.half_open.permits);
        let (total, early) = match self.config.half_open.verdict {
            Verdict::Successes { .. } => (permits, true),
            Verdict::Rates { minimum } => {
                (minimum.map_or(permits, u64::from), self.config.half_open.early_verdict)
            }
        };
        let missing = total - calls;
        if missing > 0 && !early {
            return None;
        }
        let passes = |failures: u64, slow: u64| match self.config.half_open.verdict {
            Verdict::Successes { needed } => total - failures >= u64::from(needed),
            Verdict::Rates { .. } => {
                let over = |limit: Option<Ratio>, part| limit.is_some_and(|limit| limit.reached(part, total));
                !over(self.config.failure_rate, failures)
                    && !over(self.config.slow.map(|slow| slow.rate), slow)
            }
        };
        let mut ends = (0..=missing).flat_map(|bad| (0..=missing).map(move |late| (bad, late)));
        let first = passes(failures, slow);
        ends.all(|(bad, late)| passes(failures + bad, slow + late) == first).then_some(first)
    }
}
