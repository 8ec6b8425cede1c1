//! One window with everything that is measured in it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::count::Count;
use super::overdue::Overdue;
use super::timed::Timed;
use super::{Config, Counts, WindowKind};
use crate::time::{Span, Time};

#[derive(Debug)]
enum Kind {
    Count(Count),
    Timed(Timed),
}

#[derive(Debug)]
pub(super) struct Window {
    kind: Kind,
    /// Failures since the last success.
    run: AtomicU32,
    /// METRICS_ONLY: a rule is broken, and that was told.
    told: AtomicBool,
    pub(super) overdue: Option<Overdue>,
    durations: Option<Durations>,
}

/// One outcome that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) failed: bool,
    pub(super) slow: bool,
    pub(super) duration: Span,
}

/// What there is to judge after an outcome.
pub(super) struct Look {
    /// The window with the outcome.
    pub(super) counts: Counts,
    /// Failures in a row.
    pub(super) run: u32,
}

impl Window {
    pub(super) fn new(config: &Config, origin: Time) -> Window {
        let (kind, slots) = match config.window {
            WindowKind::Count { size } => (Kind::Count(Count::new(size)), size),
            WindowKind::Time { length, buckets } => {
                (Kind::Timed(Timed::new(origin, length, buckets)), buckets)
            }
        };
        let slow = config.slow.filter(|_| config.overdue);
        Window {
            kind,
            run: AtomicU32::new(0),
            told: AtomicBool::new(false),
            overdue: slow.map(|slow| Overdue::new(origin, slow.duration)),
            durations: config.durations.then(|| Durations::new(slots)),
        }
    }

    /// Counts an outcome. Something is returned if the outcome may break a rule: not for a success that
    /// cannot, which writes one word that no other thread writes.
    #[inline]
    pub(super) fn record(&self, now: Time, sample: Sample, minimum: u64) -> Option<Look> {
        let run = self.lengthen_run(sample.failed);
        match &self.kind {
            Kind::Count(count) => {
                let (slot, counts) = count.record(&sample);
                if let Some(durations) = &self.durations {
                    durations.replace(slot, sample.duration);
                }
                // where an outcome replaces its like, only the run of failures can have changed
                let bad = sample.failed || sample.slow || self.told.load(Ordering::Relaxed);
                let look = counts.or_else(|| bad.then(|| count.counts()))?;
                Some(Look { counts: self.with_overdue(look, now), run })
            }
            Kind::Timed(timed) => {
                let tick = timed.tick(now);
                let open = timed.record(tick, &sample);
                if let Some(durations) = &self.durations {
                    durations.add(tick, sample.duration);
                }
                let look = open || self.told.load(Ordering::Relaxed);
                if look {
                    self.look(timed, tick, now, minimum).map(|counts| Look { counts, run })
                } else {
                    None
                }
            }
        }
    }

    #[cold]
    fn look(&self, timed: &Timed, tick: u64, now: Time, minimum: u64) -> Option<Counts> {
        if self.overdue.is_none() && !self.told.load(Ordering::Relaxed) && timed.settle_clean(tick) {
            return None;
        }
        let counts = timed.counts(tick);
        if counts.calls >= minimum {
            timed.settle(tick);
        }
        Some(self.with_overdue(counts, now))
    }

    #[inline]
    fn lengthen_run(&self, failed: bool) -> u32 {
        if failed {
            return self.run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        }
        // reading costs nothing while all is well
        if self.run.load(Ordering::Relaxed) != 0 {
            self.run.store(0, Ordering::Relaxed);
        }
        0
    }

    fn with_overdue(&self, counts: Counts, now: Time) -> Counts {
        let overdue = self.overdue.as_ref().map_or(0, |overdue| overdue.count(now));
        Counts { overdue, ..counts }
    }

    pub(super) fn counts(&self, now: Time) -> Counts {
        let counts = match &self.kind {
            Kind::Count(count) => count.counts(),
            Kind::Timed(timed) => timed.counts(timed.tick(now)),
        };
        self.with_overdue(counts, now)
    }

    pub(super) fn run(&self) -> u32 {
        self.run.load(Ordering::Relaxed)
    }

    /// How many full windows have passed since `since`.
    pub(super) fn turns(&self, since: Time, now: Time) -> u64 {
        match &self.kind {
            Kind::Count(count) => count.turns(),
            Kind::Timed(timed) => timed.turns(since, now),
        }
    }

    /// Notes whether a rule is broken; whether that is news.
    pub(super) fn tell(&self, broken: bool) -> bool {
        if self.told.load(Ordering::Relaxed) == broken {
            return false;
        }
        self.told.swap(broken, Ordering::Relaxed) != broken && broken
    }

    /// How long the calls in the window took together, if that is added up.
    pub(super) fn total_duration(&self, now: Time) -> Option<Span> {
        let durations = self.durations.as_ref()?;
        Some(match &self.kind {
            Kind::Count(_) => durations.total(|_| true),
            Kind::Timed(timed) => {
                let tick = timed.tick(now);
                durations.total(|of| of.saturating_add(timed.buckets()) > tick)
            }
        })
    }

    pub(super) fn clear(&self) {
        match &self.kind {
            Kind::Count(count) => count.clear(),
            Kind::Timed(timed) => timed.clear(),
        }
        self.run.store(0, Ordering::Relaxed);
        self.told.store(false, Ordering::Relaxed);
        if let Some(overdue) = &self.overdue {
            overdue.clear();
        }
        if let Some(durations) = &self.durations {
            durations.clear();
        }
    }
}

/// How long calls took: a sum per slot of the window, stamped with its tick.
#[derive(Debug)]
struct Durations(Mutex<Box<[(u64, Span)]>>);

impl Durations {
    fn new(slots: u32) -> Durations {
        Durations(Mutex::new((0..slots).map(|_| (0, Span::ZERO)).collect()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut [(u64, Span)]) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, slot: usize, duration: Span) {
        self.with(|slots| {
            if let Some(slot) = slots.get_mut(slot) {
                slot.1 = duration;
            }
        });
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
    fn add(&self, tick: u64, duration: Span) {
        self.with(|slots| {
            let index = (tick % slots.len().max(1) as u64) as usize;
            let Some((of, sum)) = slots.get_mut(index) else { return };
            *sum = if *of >= tick { *sum + duration } else { duration };
            *of = tick.max(*of);
        });
    }

    fn total(&self, counts: impl Fn(u64) -> bool) -> Span {
        self.with(|slots| {
            let inside = slots.iter().filter(|(of, _)| counts(*of));
            inside.fold(Span::ZERO, |total, (_, sum)| total + *sum)
        })
    }

    fn clear(&self) {
        self.with(|slots| slots.fill((0, Span::ZERO)));
    }
}
