//! What one instance holds of a circuit: its copy of the state, permits, and what it has counted.
//!
//! [`FleetView::admit`] and [`FleetView::record`] use atomics alone while the circuit is closed. A lock is
//! taken for probes, for deltas and for directives.

mod backoff;
mod counts;
mod outbox;
mod record;
mod report;
mod types;
mod word;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use self::counts::{CountSet, Kind, Latencies};
use self::outbox::Outbox;
pub use self::types::{
    FleetTransition, FleetVerdict, LocalAction, Outcome, Ticket, ViewConfig, ViewSnapshot,
};
use self::word::Word;
use super::random::Random;
use super::wire::{Counts, Directive, Epoch, FleetState, Permit, PermitId, ProbeResult, Share};
use crate::time::{Span, Time};

/// After a refusal in the half-open state an instance asks for a permit once in about this time.
const ASK_EVERY: Span = Span::from_millis(500);
/// Used permits that are remembered, so that a directive that came twice hands out none twice.
const REMEMBERED_PERMITS: usize = 32;
/// Outcomes after which a delta is due while something is wrong.
const OUTCOMES_PER_DELTA: u32 = 64;

/// A permit in hand.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: PermitId,
    until: Time,
}

/// What the lock guards.
#[derive(Debug)]
struct Inner {
    epoch: Epoch,
    lease: Span,
    attempt: u32,
    /// Since when the circuit is anything but closed.
    trouble: Option<Time>,
    /// See [`FleetView::openings`].
    openings: u32,
    report_interval: Span,
    last_flush: Option<Time>,
    /// Whether the last delta held failures.
    failing: bool,
    permits: SmallVec<[Held; 4]>,
    used: SmallVec<[PermitId; 8]>,
    probes: SmallVec<[ProbeResult; 2]>,
    late: Counts,
    hint: Option<Span>,
    outbox: Outbox,
    random: Random,
}

/// One instance's copy of a circuit. All methods take `&self`.
#[derive(Debug)]
pub struct FleetView {
    config: ViewConfig,
    word: AtomicU64,
    lease_until: AtomicU64,
    open_until: AtomicU64,
    /// `u64::MAX` is "none is slow".
    slow_after: AtomicU64,
    /// Counts by the parity of their generation; what is in the set of the other parity is late.
    sets: [CountSet; 2],
    latencies: Latencies,
    last_outcome: AtomicU64,
    /// When the first failure since the last delta was recorded; 0 is none.
    first_failure: AtomicU64,
    /// Outcomes since the last delta, counted only while something is wrong.
    pending: AtomicU32,
    /// Whether nothing was counted since the last delta.
    quiet: AtomicBool,
    nudge: AtomicBool,
    ready: AtomicU32,
    ask: AtomicBool,
    next_ask: AtomicU64,
    inner: Mutex<Inner>,
}

impl FleetView {
    /// A view that follows nobody yet: the local breaker alone decides. `seed` draws the jitter.
    #[must_use]
    pub fn new(config: ViewConfig, seed: u64, now: Time) -> FleetView {
        let word = Word { generation: 0, state: FleetState::Closed, admit: Share::ALL };
        let inner = Inner {
            epoch: Epoch::default(),
            lease: Span::ZERO,
            attempt: 0,
            trouble: None,
            openings: 0,
            report_interval: Span::SECOND,
            last_flush: None,
            failing: false,
            permits: SmallVec::new(),
            used: SmallVec::new(),
            probes: SmallVec::new(),
            late: Counts::default(),
            hint: None,
            outbox: Outbox::default(),
            random: Random::new(seed),
        };
        FleetView {
            word: AtomicU64::new(word.pack()),
            lease_until: AtomicU64::new(0),
            open_until: AtomicU64::new(0),
            slow_after: AtomicU64::new(config.slow_after.map_or(u64::MAX, Span::as_micros)),
            sets: [CountSet::default(), CountSet::default()],
            latencies: Latencies::default(),
            last_outcome: AtomicU64::new(now.as_micros()),
            first_failure: AtomicU64::new(0),
            pending: AtomicU32::new(0),
            quiet: AtomicBool::new(true),
            nudge: AtomicBool::new(false),
            ready: AtomicU32::new(0),
            ask: AtomicBool::new(false),
            next_ask: AtomicU64::new(0),
            inner: Mutex::new(inner),
            config,
        }
    }

    /// How this instance takes part.
    #[must_use]
    pub const fn config(&self) -> &ViewConfig {
        &self.config
    }

    fn word(&self) -> Word {
        Word::unpack(self.word.load(Ordering::Acquire))
    }

    /// A panic elsewhere leaves every field whole: each is written by itself.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, generation: u32) -> &CountSet {
        let [even, odd] = &self.sets;
        if generation.is_multiple_of(2) { even } else { odd }
    }

    /// Counts, and notes that there is something to report.
    fn count(&self, generation: u32, kind: Kind) {
        self.set(generation).add(kind);
        if self.quiet.load(Ordering::Relaxed) && self.quiet.swap(false, Ordering::Relaxed) {
            self.nudge.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a delta may now be due sooner than [`FleetView::flush_due`] last said. True once for each
    /// reason; to be asked after a refusal by [`FleetView::admit`], whose count may be the first to report.
    /// What records an outcome answers it itself.
    pub fn nudged(&self) -> bool {
        self.nudge.load(Ordering::Relaxed) && self.nudge.swap(false, Ordering::Relaxed)
    }

    /// May a call go on? `roll` is uniform over all `u32`: random, or a hash of what identifies the user or
    /// the request, so that a retry gets the same answer and no user is split. Refusals count themselves.
    #[must_use]
    pub fn admit(&self, now: Time, roll: u32) -> FleetVerdict {
        let word = self.word();
        if word.is_local() {
            return FleetVerdict::Local(Ticket { generation: word.generation, permit: None });
        }
        self.admit_strictly(now, word, roll)
    }

    fn admit_strictly(&self, now: Time, word: Word, roll: u32) -> FleetVerdict {
        if now.as_micros() >= self.lease_until.load(Ordering::Acquire) {
            return match self.lapse(now) {
                Some(open_for) => FleetVerdict::Seed { open_for },
                None => self.admit_anew(now, roll),
            };
        }
        let ticket = Ticket { generation: word.generation, permit: None };
        if word.state == FleetState::Recovering && word.admit.contains(roll) {
            return FleetVerdict::Pass(ticket);
        }
        if word.state == FleetState::HalfOpen
            && let Some(permit) = self.take_permit(now, word.generation)
        {
            return FleetVerdict::Probe(Ticket { permit: Some(permit), ..ticket });
        }
        self.count(word.generation, Kind::NotPermitted);
        let ask = word.state == FleetState::HalfOpen && self.may_ask(now);
        FleetVerdict::Refuse { retry_after: self.retry_after(now, word.state), ask }
    }

    /// After another call was told that the lease ran out, or after a directive came in between.
    fn admit_anew(&self, now: Time, roll: u32) -> FleetVerdict {
        let word = self.word();
        let ticket = Ticket { generation: word.generation, permit: None };
        match word.state {
            FleetState::Closed | FleetState::Disabled | FleetState::MetricsOnly => {
                FleetVerdict::Local(ticket)
            }
            FleetState::Recovering if word.admit.contains(roll) => FleetVerdict::Pass(ticket),
            state => {
                self.count(word.generation, Kind::NotPermitted);
                FleetVerdict::Refuse { retry_after: self.retry_after(now, state), ask: false }
            }
        }
    }

    fn retry_after(&self, now: Time, state: FleetState) -> Span {
        match state {
            FleetState::Open | FleetState::ForcedOpen => {
                Time::from_micros(self.open_until.load(Ordering::Relaxed)) - now
            }
            // The next permit, or a larger share, may come at any moment.
            _ => ASK_EVERY,
        }
    }

    fn take_permit(&self, now: Time, generation: u32) -> Option<PermitId> {
        if self.ready.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut inner = self.lock();
        if self.word().generation != generation {
            return None;
        }
        inner.permits.retain(|held| held.until > now);
        let held = inner.permits.pop();
        self.note_ready(&inner);
        held.map(|held| held.id)
    }

    fn note_ready(&self, inner: &Inner) {
        let ready = u32::try_from(inner.permits.len()).unwrap_or(u32::MAX);
        self.ready.store(ready, Ordering::Release);
    }

    fn may_ask(&self, now: Time) -> bool {
        let next = self.next_ask.load(Ordering::Relaxed);
        if !self.ask.load(Ordering::Relaxed) || now.as_micros() < next {
            return false;
        }
        let pause = self.lock().random.around(ASK_EVERY, Share::percent(50));
        let after = (now + pause).as_micros();
        self.next_ask.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The answer to a permit that was asked for: the ticket of the probe, unless the state has moved on.
    #[must_use]
    pub fn granted(&self, permit: Permit, epoch: Epoch) -> Option<Ticket> {
        let mut inner = self.lock();
        let word = self.word();
        if inner.epoch != epoch || word.state != FleetState::HalfOpen || inner.used.contains(&permit.id) {
            return None;
        }
        inner.remember(permit.id);
        Some(Ticket { generation: word.generation, permit: Some(permit.id) })
    }

    /// Ends a lease that ran out while the circuit was not closed; returns, once, how long the local breaker
    /// must be open now. [`FleetView::admit`] does the same, for the first call after the end.
    pub fn lapse(&self, now: Time) -> Option<Span> {
        let mut inner = self.lock();
        let word = self.word();
        if word.is_local() || now.as_micros() < self.lease_until.load(Ordering::Acquire) {
            return None;
        }
        let left = match word.state {
            FleetState::Open | FleetState::ForcedOpen => self.retry_after(now, word.state),
            _ => Span::ZERO,
        };
        let (openings, spread) = backoff::after(self.config.base_wait, now - inner.trouble.unwrap_or(now));
        let open_for = left + inner.random.up_to(spread);
        (inner.openings, inner.trouble) = (openings, None);
        inner.epoch = Epoch::default();
        self.turn(&mut inner, word, FleetState::Closed, Share::ALL);
        Some(open_for)
    }

    /// Openings in a row that the local breaker would have had by itself when the last lease ran out: its
    /// backoff goes on from there.
    pub fn openings(&self) -> u32 {
        self.lock().openings
    }

    /// Moves on to the next generation: what was counted becomes late.
    fn turn(&self, inner: &mut Inner, word: Word, state: FleetState, admit: Share) {
        let generation = word.generation.wrapping_add(1);
        // The set of the next generation still holds what was late before.
        inner.late.add(&self.set(generation).take());
        let _old = self.latencies.take_median();
        inner.permits.clear();
        inner.used.clear();
        let late = inner.probes.len() as u64;
        inner.late.ignored = inner.late.ignored.saturating_add(late);
        inner.probes.clear();
        self.note_ready(inner);
        self.next_ask.store(0, Ordering::Relaxed);
        self.word.store(Word { generation, state, admit }.pack(), Ordering::Release);
    }

    /// Follows a directive, unless it is of an earlier epoch than the one whose lease lives: of two owners
    /// the one with the higher incarnation is followed. Tells of a change of state.
    pub fn apply(&self, now: Time, directive: &Directive) -> Option<FleetTransition> {
        let mut inner = self.lock();
        let word = self.word();
        let alive = now.as_micros() < self.lease_until.load(Ordering::Acquire);
        if alive && directive.epoch < inner.epoch {
            return None;
        }
        inner.outbox.acknowledge(&directive.ack);
        self.refresh(now, &mut inner, directive);
        let turned = directive.epoch != inner.epoch;
        if turned {
            inner.epoch = directive.epoch;
            self.turn(&mut inner, word, directive.state, directive.admit);
        } else if word.state == directive.state {
            self.word.store(Word { admit: directive.admit, ..word }.pack(), Ordering::Release);
        }
        for permit in &directive.permits {
            inner.hold(now, *permit);
        }
        self.note_ready(&inner);
        inner.trouble = if self.word().is_local() { None } else { inner.trouble.or(Some(now)) };
        let changed = turned && word.state != directive.state;
        let recovering = directive.state == FleetState::Recovering;
        changed.then_some(FleetTransition {
            from: word.state,
            to: directive.state,
            epoch: directive.epoch,
            local: if recovering { LocalAction::Reset } else { LocalAction::Keep },
        })
    }

    fn refresh(&self, now: Time, inner: &mut Inner, directive: &Directive) {
        inner.lease = directive.lease;
        inner.attempt = directive.attempt;
        inner.report_interval = directive.report_interval;
        // A new owner has not learned yet what is slow: what the last one said goes on, or its ramp would see
        // failures alone.
        if let Some(slow_after) = directive.slow_after.or(self.config.slow_after) {
            self.slow_after.store(slow_after.as_micros(), Ordering::Relaxed);
        }
        self.lease_until.store((now + directive.lease).as_micros(), Ordering::Release);
        self.open_until.store((now + directive.probe_in).as_micros(), Ordering::Relaxed);
        self.ask.store(directive.ask_probe, Ordering::Relaxed);
    }

    /// The view as an operator sees it.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> ViewSnapshot {
        let inner = self.lock();
        let word = self.word();
        ViewSnapshot {
            state: word.state,
            epoch: inner.epoch,
            admit: word.admit,
            lease: Time::from_micros(self.lease_until.load(Ordering::Acquire)) - now,
            permits: self.ready.load(Ordering::Acquire),
            attempt: inner.attempt,
            counts: self.set(word.generation).peek(),
            unacknowledged: inner.outbox.waiting(),
        }
    }
}

impl Inner {
    /// Takes a permit in hand, unless it was before.
    fn hold(&mut self, now: Time, permit: Permit) {
        if !self.used.contains(&permit.id) {
            self.remember(permit.id);
            self.permits.push(Held { id: permit.id, until: now + permit.ttl });
        }
    }

    fn remember(&mut self, permit: PermitId) {
        if self.used.len() >= REMEMBERED_PERMITS {
            self.used.remove(0);
        }
        self.used.push(permit);
    }
}
