//! A sum over the last so-and-so many seconds, without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::time::{Span, Time};

/// The sum of what was added during the last window, in slots: what is older than `slots - 1` whole slots and
/// the current one is forgotten.
///
/// Values are `u64` with wrapping arithmetic, so that a user may pack two counts into one value or read it as
/// `i64`. Adding is two atomic additions; every sum of a torn moment is one that some order of the additions
/// could have shown.
#[derive(Debug)]
pub(super) struct RollingSum {
    width: u64,
    slots: Box<[AtomicU64]>,
    total: AtomicU64,
    /// The slot that is added to.
    index: AtomicUsize,
    /// When that slot ends, in microseconds.
    ends: AtomicU64,
    /// One thread turns the ring; the others go on with the slot they see.
    turning: AtomicBool,
}

impl RollingSum {
    /// An empty ring of `slots` (at least one) slots that cover `window`.
    pub(super) fn new(window: Span, slots: u32, now: Time) -> RollingSum {
        let slots = slots.max(1);
        let width = (window.as_micros() / u64::from(slots)).max(1);
        RollingSum {
            width,
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            total: AtomicU64::new(0),
            index: AtomicUsize::new(0),
            ends: AtomicU64::new(now.as_micros().saturating_add(width)),
            turning: AtomicBool::new(false),
        }
    }

    /// Forgets what is too old at `now`; true if that was everything. A clock that goes backwards changes
    /// nothing.
    pub(super) fn advance(&self, now: Time) -> bool {
        now.as_micros() >= self.ends.load(Ordering::Relaxed) && self.turn(now.as_micros())
    }

    #[cold]
    fn turn(&self, now: u64) -> bool {
        if self.turning.swap(true, Ordering::Acquire) {
            return false;
        }
        let ends = self.ends.load(Ordering::Relaxed);
        let passed = if now < ends { 0 } else { (now - ends) / self.width + 1 };
        let mut index = self.index.load(Ordering::Relaxed);
        let slots = self.slots.len();
        let cleared = usize::try_from(passed).unwrap_or(usize::MAX).min(slots);
        for _ in 0..cleared {
            index = (index + 1) % slots;
            let old = self.slots[index].swap(0, Ordering::Relaxed);
            self.total.fetch_sub(old, Ordering::Relaxed);
        }
        self.index.store(index, Ordering::Relaxed);
        self.ends.store(ends.saturating_add(passed.saturating_mul(self.width)), Ordering::Relaxed);
        self.turning.store(false, Ordering::Release);
        cleared == slots
    }

    /// The sum of the window.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Adds `value`, and returns the sum before.
    pub(super) fn add(&self, value: u64) -> u64 {
        // first the total: a turn subtracts what it finds in a slot, which must be in the total by then
        let before = self.total.fetch_add(value, Ordering::Relaxed);
        self.slots[self.index.load(Ordering::Relaxed)].fetch_add(value, Ordering::Relaxed);
        before
    }

    /// Takes `amount` from the sum, read as signed, if at least `floor` is left after it.
    pub(super) fn try_take(&self, amount: u64, floor: i64) -> bool {
        let take = |total: u64| {
            let left = total.cast_signed().checked_sub_unsigned(amount)?;
            (left >= floor).then_some(left.cast_unsigned())
        };
        let taken = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.slots[self.index.load(Ordering::Relaxed)].fetch_sub(amount, Ordering::Relaxed);
        }
        taken
    }

    /// Forgets everything that nobody is just adding.
    pub(super) fn clear(&self) {
        for slot in &self.slots {
            let old = slot.swap(0, Ordering::Relaxed);
            self.total.fetch_sub(old, Ordering::Relaxed);
        }
    }
}

/// Two counts in one value of a [`RollingSum`]: all of them and those of them that went well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) all: u32,
    pub(super) good: u32,
}

impl Counts {
    pub(super) const fn pack(self) -> u64 {
        ((self.all as u64) << 32) | self.good as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "each half is taken as 32 bits")]
    pub(super) const fn unpack(value: u64) -> Counts {
        Counts { all: (value >> 32) as u32, good: value as u32 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64 as Shared;
    use std::thread;

    use super::*;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn a_value_lives_for_the_window_and_no_longer() {
        let ring = RollingSum::new(Span::from_micros(100), 4, at(1000));
        ring.add(1);
        assert!(!ring.advance(at(1025)));
        ring.add(2);
        ring.advance(at(1099));
        assert_eq!(ring.total(), 3);
        ring.advance(at(1100));
        assert_eq!(ring.total(), 2, "the first slot ended 75 ago");
        ring.advance(at(1000));
        assert_eq!(ring.total(), 2, "a clock that goes backwards");
        assert!(ring.advance(at(1_000_000)));
        assert_eq!(ring.total(), 0);
    }

    #[test]
    fn taking_stops_at_the_floor() {
        let ring = RollingSum::new(Span::SECOND, 10, at(0));
        assert!(ring.try_take(5, -5));
        assert!(!ring.try_take(1, -5));
        ring.add(3);
        assert!(ring.try_take(3, -5));
        assert_eq!(ring.total().cast_signed(), -5);
    }

    #[test]
    fn counts_survive_packing() {
        let counts = Counts { all: u32::MAX, good: 7 };
        assert_eq!(Counts::unpack(counts.pack()), counts);
    }

    #[test]
    fn threads_lose_nothing_while_the_ring_turns() {
        let ring = RollingSum::new(Span::from_micros(64), 8, at(0));
        let clock = Shared::new(0);
        let work = || {
            for _ in 0..50_000 {
                ring.advance(at(clock.fetch_add(1, Ordering::Relaxed)));
                ring.add(3);
                ring.try_take(1, i64::MIN);
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
        let slots: u64 =
            ring.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).fold(0, u64::wrapping_add);
        assert_eq!(ring.total(), slots, "the total is the sum of its slots");
        assert!(ring.total() > 0);
        ring.advance(at(10_000_000));
        assert_eq!(ring.total(), 0);
    }
}
