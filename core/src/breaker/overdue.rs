//! Calls in flight by the time at which they started: those that hang are seen before they end.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::timed::count_bits;
use crate::time::{Span, Time};

/// Ticks in the slow duration: calls are seen to be overdue at most this fraction of it too late, never too
/// early.
const PARTS: u64 = 8;
const SLOTS: usize = 16;

#[derive(Debug)]
pub(super) struct Overdue {
    origin: Time,
    width: u64,
    bits: u32,
    /// Ticks after which a call is overdue.
    after: u64,
    /// A tick, and below it the calls in flight that started in it.
    slots: [AtomicU64; SLOTS],
    /// Calls that started before the ticks of the ring. Below zero for a moment if one of them ends while its
    /// slot is given to a newer tick.
    older: AtomicI64,
}

impl Overdue {
    pub(super) fn new(origin: Time, slow: Span) -> Overdue {
        let width = (slow.as_micros() / PARTS).max(1);
        Overdue {
            origin,
            width,
            bits: count_bits(width),
            after: slow.as_micros().div_ceil(width),
            slots: Default::default(),
            older: AtomicI64::new(0),
        }
    }

    /// The first tick that does not begin before `at`.
    fn tick(&self, at: Time) -> u64 {
        (at - self.origin).as_micros().div_ceil(self.width)
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
    fn slot(&self, tick: u64) -> Option<&AtomicU64> {
        self.slots.get((tick % SLOTS as u64) as usize)
    }

    /// A call starts; whether it is the first of its tick, so that it is time to look.
    pub(super) fn begin(&self, started: Time) -> bool {
        let tick = self.tick(started);
        let Some(slot) = self.slot(tick) else { return false };
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            let newest = word >> self.bits;
            if newest > tick {
                // a clock that went back: the slot belongs to a later tick
                self.older.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            let current = newest == tick;
            let next = if current { word + 1 } else { tick << self.bits | 1 };
            match slot.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) if current => return false,
                Ok(_) => {
                    self.older.fetch_add(self.count_of(word).cast_signed(), Ordering::SeqCst);
                    return true;
                }
                Err(now) => word = now,
            }
        }
    }

    const fn count_of(&self, word: u64) -> u64 {
        word & ((1 << self.bits) - 1)
    }

    /// A call that started then has ended.
    pub(super) fn end(&self, started: Time) {
        let tick = self.tick(started);
        let Some(slot) = self.slot(tick) else { return };
        let mut word = slot.load(Ordering::Relaxed);
        while word >> self.bits == tick && self.count_of(word) > 0 {
            match slot.compare_exchange_weak(word, word - 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        self.older.fetch_sub(1, Ordering::SeqCst);
    }

    /// Calls in flight at `now` that have been so for the slow duration.
    pub(super) fn count(&self, now: Time) -> u64 {
        let tick = (now - self.origin).as_micros() / self.width;
        let late = self
            .slots
            .iter()
            .map(|slot| slot.load(Ordering::SeqCst))
            .filter(|word| (word >> self.bits).saturating_add(self.after) <= tick);
        let late: u64 = late.map(|word| self.count_of(word)).sum();
        let older = self.older.load(Ordering::SeqCst);
        late.saturating_add_signed(older)
    }

    pub(super) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
        self.older.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::EPOCH + Span::from_millis(millis)
    }

    #[test]
    fn calls_are_overdue_from_the_slow_duration_on_until_they_end() {
        let overdue = Overdue::new(Time::EPOCH, Span::SECOND);
        overdue.begin(at(0));
        assert!(overdue.begin(at(500)), "a new tick");
        assert!(!overdue.begin(at(500)));
        assert_eq!((overdue.count(at(999)), overdue.count(at(1_000))), (0, 1));
        assert_eq!((overdue.count(at(1_499)), overdue.count(at(1_500))), (1, 3));
        overdue.end(at(500));
        assert_eq!(overdue.count(at(60_000)), 2);
    }

    #[test]
    fn a_call_older_than_the_ring_is_still_known_and_can_end() {
        let overdue = Overdue::new(Time::EPOCH, Span::SECOND);
        overdue.begin(at(125));
        // sixteen ticks later the slot is needed again
        overdue.begin(at(125 + 2_000));
        assert_eq!(overdue.count(at(2_125)), 1);
        overdue.end(at(125));
        assert_eq!(overdue.count(at(2_125)), 0);
        overdue.end(at(2_125));
        assert_eq!(overdue.count(at(1_000_000_000)), 0);
    }

    #[test]
    fn no_call_is_overdue_too_early() {
        let overdue = Overdue::new(Time::EPOCH, Span::SECOND);
        overdue.begin(at(1));
        assert_eq!(overdue.count(at(1_000)), 0);
        assert_eq!(overdue.count(at(1_125)), 1);
    }
}
