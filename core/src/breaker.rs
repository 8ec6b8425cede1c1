//! A circuit breaker: stops calling a target that fails, tries it again with a few probes.
//!
//! ```text
//!            a rule is broken                 the wait is over
//!   CLOSED ───────────────────▶ OPEN ◀────────────────────────▶ HALF_OPEN
//!      ▲                         ▲         the probes failed        │ the probes passed
//!      └──── RECOVERING ─────────┘ ◀───────────────────────────────┘ (straight to CLOSED without a ramp)
//! ```
//!
//! FORCED_OPEN, DISABLED and METRICS_ONLY are set by hand, and end by hand or by their TTL. Each change
//! begins a new *epoch*; the outcome of a call that was admitted in an older one changes nothing. After
//! Nygard, *Release It!*; the rules follow resilience4j where peers differ.
//!
//! # Threads
//! All methods take `&self`. A call in CLOSED takes no lock: [`Breaker::admit`] reads one word, and the
//! record of a success writes one word of the calling thread (time window) or one shared word (count
//! window). Changes of mode, probes and orders by hand share a lock, which is held for a few hundred
//! nanoseconds. Nothing is allocated after [`Breaker::new`].
//!
//! # Time
//! Time is an argument. A breaker compares it with instants that it was given before; if it goes back,
//! waits last longer by that, and outcomes count into the newest bucket.

mod config;
mod count;
mod event;
pub mod fleet;
mod manual;
mod overdue;
mod probes;
mod rules;
mod snapshot;
mod stripe;
mod timed;
mod turn;
mod wait;
mod window;
mod word;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use config::{
    Config, ConfigError, EvaluateOn, Forget, HalfOpen, OnMaxWait, Ratio, Recovery, Slow, Verdict, Wait,
    WindowKind,
};
pub use event::{Manual, ManualError, Outcome, Permit, Reason, Refused, Transition};
pub use rules::{Counts, Rate};
pub use snapshot::Snapshot;
pub use turn::MAX_TRANSITIONS;
pub use word::Mode;

use crate::time::{Span, Time};
use rules::Rules;
use stripe::{Apart, Total};
use turn::Cold;
use window::{Look, Sample, Window};
use word::Word;

/// A deadline that never comes: after [`Time::MAX`].
const NEVER: u64 = u64::MAX;

/// What calls read and only changes of mode write.
#[derive(Debug)]
struct Head {
    word: AtomicU64,
    /// When the mode ends by itself, or OPEN admits a probe; microseconds or [`NEVER`].
    until: AtomicU64,
}

/// A circuit breaker for one target. See the [module](self).
#[derive(Debug)]
pub struct Breaker {
    head: Apart<Head>,
    config: Config,
    rules: Rules,
    /// One is in use, the other is cleared before its next use: a writer that was slow to see a change
    /// of epoch does not disturb the next window.
    windows: [Window; 2],
    refused: Total,
    late: Apart<AtomicU64>,
    /// Calls that asked for a share of RECOVERING.
    turn: Apart<AtomicU64>,
    /// Until when the target asked not to be called, microseconds.
    hint: AtomicU64,
    /// When the oldest probe is lost.
    reissue: AtomicU64,
    /// Transitions that nobody has taken.
    waiting: AtomicUsize,
    cold: Mutex<Cold>,
}

impl Breaker {
    /// A breaker in its initial mode. `seed` decides the spread of its waits: give each instance its own.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the field and its range.
    pub fn new(config: Config, seed: u64, now: Time) -> Result<Breaker, ConfigError> {
        config.check()?;
        Ok(Breaker {
            head: Apart(Head {
                word: AtomicU64::new(Word::new(0, config.initial, 0, 0).bits()),
                until: AtomicU64::new(NEVER),
            }),
            rules: Rules::new(&config),
            windows: [Window::new(&config, now), Window::new(&config, now)],
            refused: Total::default(),
            late: Apart::default(),
            turn: Apart::default(),
            hint: AtomicU64::new(0),
            reissue: AtomicU64::new(NEVER),
            waiting: AtomicUsize::new(0),
            cold: Mutex::new(Cold::new(&config, seed, now)),
            config,
        })
    }

    /// The configuration that it was made with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Asks leave for one call.
    ///
    /// # Errors
    /// [`Refused`] if the call must not be made.
    #[inline]
    pub fn admit(&self, now: Time) -> Result<Permit, Refused> {
        let word = self.word();
        if word.mode() == Mode::Closed && !self.config.overdue {
            return Ok(Permit::new(word.epoch(), now));
        }
        self.admit_by_mode(now)
    }

    #[inline(never)]
    fn admit_by_mode(&self, now: Time) -> Result<Permit, Refused> {
        let word = self.settle(now);
        match word.mode() {
            Mode::Closed | Mode::MetricsOnly => self.admit_watched(word, now),
            Mode::Disabled => Ok(Permit::new(word.epoch(), now)),
            Mode::Recovering if self.takes_turn(now) => self.admit_watched(word, now),
            Mode::Recovering => Err(self.refuse(Mode::Recovering, None)),
            Mode::ForcedOpen => Err(self.refuse(Mode::ForcedOpen, self.remaining(now))),
            Mode::Open | Mode::HalfOpen => self.knock(word, now),
        }
    }

    fn admit_watched(&self, word: Word, now: Time) -> Result<Permit, Refused> {
        let watch = self.window(word).overdue.as_ref();
        if watch.is_some_and(|overdue| overdue.begin(now)) {
            self.judge_overdue(word, now);
            if self.word().epoch() != word.epoch() {
                return self.admit_by_mode(now);
            }
        }
        Ok(Permit::new(word.epoch(), now))
    }

    /// OPEN and HALF_OPEN: refuses without the lock where that is certain.
    fn knock(&self, word: Word, now: Time) -> Result<Permit, Refused> {
        let wait = self.remaining(now);
        let waiting = word.mode() == Mode::Open && wait != Some(Span::ZERO);
        let taken = word.permits() == 0 && now.as_micros() < self.reissue.load(Ordering::Acquire);
        // both deadlines belong to this word if it is still the same
        if (waiting || word.mode() == Mode::HalfOpen && taken) && self.word() == word {
            return Err(self.refuse(word.mode(), wait.filter(|_| waiting)));
        }
        self.probe(now)
    }

    fn refuse(&self, mode: Mode, retry_after: Option<Span>) -> Refused {
        self.refused.add_one();
        Refused { mode, retry_after }
    }

    /// RECOVERING: whether this call is of the share that passes. Passing calls are evenly spaced.
    fn takes_turn(&self, now: Time) -> bool {
        let share = u64::from(self.share(now));
        let turn = self.turn.0.fetch_add(1, Ordering::Relaxed) % 100;
        turn * share % 100 < share
    }

    /// The answer to the call of `permit` has begun, as with the head of a stream: from now on the call does
    /// not hang, however long it goes on.
    pub fn answered(&self, permit: &mut Permit) {
        let word = self.word();
        if permit.answered || word.epoch() != permit.epoch || !word.mode().measures() {
            return;
        }
        if let Some(overdue) = &self.window(word).overdue {
            permit.answered = true;
            overdue.end(permit.started);
        }
    }

    /// The answer to the call of `permit` has begun well, and goes on for nobody knows how long: a probe has
    /// passed, `duration` after it was admitted. Does nothing to other permits.
    ///
    /// Whatever goes wrong afterwards is told by [`record`](Self::record) as ever: it overrules the probe while
    /// the breaker still probes, and counts as one outcome of the window later. A good end changes nothing.
    pub fn pass_probe(&self, permit: &mut Permit, now: Time, duration: Span) {
        let word = self.word();
        if !permit.passed && word.mode() == Mode::HalfOpen && word.epoch() == permit.epoch {
            permit.passed = self.end_probe(permit, now, (Outcome::Success, duration));
        }
    }

    /// The end of a call whose probe has passed long since.
    #[cold]
    fn record_passed(&self, word: Word, permit: &Permit, now: Time, outcome: Outcome) {
        if matches!(outcome, Outcome::Success | Outcome::Ignored) {
            return;
        }
        if word.mode().measures() {
            // how slow its beginning was has been judged with the probe
            self.observe(word, &Permit { answered: true, ..*permit }, now, (outcome, Span::ZERO));
        } else {
            self.count_late();
        }
    }

    /// Tells how the call of `permit` ended, with the time since it was admitted as its duration.
    #[inline]
    pub fn record(&self, permit: Permit, now: Time, outcome: Outcome) {
        let duration = now - permit.started;
        self.record_after(permit, now, outcome, duration);
    }

    /// The same for a call that took `duration`, such as the time to the head of a streamed answer.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a permit is spent, so that no call counts twice")]
    pub fn record_after(&self, permit: Permit, now: Time, outcome: Outcome, duration: Span) {
        let word = self.word();
        if word.epoch() != permit.epoch {
            if permit.passed { self.record_passed(word, &permit, now, outcome) } else { self.count_late() }
        } else if word.mode().measures() {
            self.observe(word, &permit, now, (outcome, duration));
        } else if word.mode() == Mode::HalfOpen {
            let _ended = self.end_probe(&permit, now, (outcome, duration));
        }
    }

    #[inline]
    fn observe(&self, word: Word, permit: &Permit, now: Time, (outcome, duration): (Outcome, Span)) {
        let window = self.window(word);
        if let Some(overdue) = window.overdue.as_ref().filter(|_| !permit.answered) {
            overdue.end(permit.started);
        }
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Unavailable { retry_after } => {
                self.heed(now, retry_after);
                true
            }
            Outcome::Throttled { retry_after } => return self.throttled(word, now, retry_after),
            Outcome::Ignored => return,
        };
        let sample = Sample { failed, slow: self.rules.is_slow(duration), duration };
        if let Some(look) = window.record(now, sample, self.rules.minimum) {
            let bad = failed || sample.slow;
            self.judge(word, now, &look, bad || self.config.evaluate_on == EvaluateOn::Every);
        }
    }

    #[inline(never)]
    fn judge(&self, word: Word, now: Time, look: &Look, may_break: bool) {
        let broken = self.rules.broken(&look.counts, look.run);
        if word.mode() == Mode::MetricsOnly {
            let ripe = may_break || broken.is_none();
            let news = ripe && self.window(word).tell(broken.is_some());
            if let Some(reason) = broken.filter(|_| news) {
                self.would_open(word, now, reason);
            }
        } else if let Some(reason) = broken.filter(|_| may_break) {
            self.open(word, now, reason);
        }
    }

    /// Judges by the calls that hang.
    fn judge_overdue(&self, word: Word, now: Time) {
        let window = self.window(word);
        let look = Look { counts: window.counts(now), run: 0 };
        if look.counts.overdue > 0 {
            self.judge(word, now, &look, true);
        }
    }

    fn count_late(&self) {
        self.late.0.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn word(&self) -> Word {
        Word::from_bits(self.head.0.word.load(Ordering::Acquire))
    }

    #[inline]
    fn window(&self, word: Word) -> &Window {
        let [even, odd] = &self.windows;
        if word.window() == 0 { even } else { odd }
    }

    /// Until the deadline of the mode; `None` if it has none.
    fn remaining(&self, now: Time) -> Option<Span> {
        let until = self.head.0.until.load(Ordering::Acquire);
        (until != NEVER).then(|| Time::from_micros(until) - now)
    }
}
