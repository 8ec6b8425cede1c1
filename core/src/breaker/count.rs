//! The window of the last `n` outcomes: a ring, and totals that change with each slot that changes.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::Counts;
use super::stripe::Apart;
use super::window::Sample;

const PRESENT: u8 = 1;
const FAILED: u8 = 2;
const SLOW: u8 = 4;

/// Three totals of 21 bits in one word. Each starts in the middle of its range: between the change of a slot
/// and that of the totals a total can be behind by as many as there are writers, also below zero.
const FIELD: u32 = 21;
const MASK: u64 = (1 << FIELD) - 1;
const ZERO: u64 = 1 << (FIELD - 1);
const EMPTY: u64 = ZERO | ZERO << FIELD | ZERO << (2 * FIELD);

#[derive(Debug)]
pub(super) struct Count {
    slots: Box<[AtomicU8]>,
    ticket: Apart<AtomicU64>,
    totals: Apart<AtomicU64>,
}

/// What `slot` adds to each total.
fn weight(slot: u8) -> u64 {
    let bit = |place: u32| (u64::from(slot) >> place & 1) << (place * FIELD);
    bit(0) | bit(1) | bit(2)
}

fn unpack(totals: u64) -> Counts {
    let field = |place: u32| (totals >> (place * FIELD) & MASK).saturating_sub(ZERO);
    Counts { calls: field(0), failures: field(1), slow: field(2), overdue: 0 }
}

impl Count {
    pub(super) fn new(size: u32) -> Count {
        Count {
            slots: (0..size).map(|_| AtomicU8::new(0)).collect(),
            ticket: Apart::default(),
            totals: Apart(AtomicU64::new(EMPTY)),
        }
    }

    /// Counts an outcome: its slot, and the totals if they changed.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "below the size of the ring, at most 65 535")]
    pub(super) fn record(&self, sample: &Sample) -> (usize, Option<Counts>) {
        let ticket = self.ticket.0.fetch_add(1, Ordering::Relaxed);
        let index = (ticket % self.slots.len() as u64) as usize;
        let new = PRESENT | if sample.failed { FAILED } else { 0 } | if sample.slow { SLOW } else { 0 };
        let Some(slot) = self.slots.get(index) else { return (index, None) };
        // most successes replace a success: then nothing is written here
        if slot.load(Ordering::Relaxed) == new {
            return (index, None);
        }
        let delta = weight(new).wrapping_sub(weight(slot.swap(new, Ordering::Relaxed)));
        let before = self.totals.0.fetch_add(delta, Ordering::SeqCst);
        (index, Some(unpack(before.wrapping_add(delta))))
    }

    pub(super) fn counts(&self) -> Counts {
        unpack(self.totals.0.load(Ordering::SeqCst))
    }

    /// How often the ring was filled.
    pub(super) fn turns(&self) -> u64 {
        self.ticket.0.load(Ordering::Relaxed) / self.slots.len().max(1) as u64
    }

    pub(super) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
        self.ticket.0.store(0, Ordering::Relaxed);
        self.totals.0.store(EMPTY, Ordering::Relaxed);
    }

    /// The totals by counting.
    #[cfg(test)]
    fn recount(&self) -> Counts {
        let slots = self.slots.iter().map(|slot| weight(slot.load(Ordering::Relaxed)));
        unpack(slots.fold(EMPTY, u64::wrapping_add))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::time::Span;

    fn sample((failed, slow): (bool, bool)) -> Sample {
        Sample { failed, slow, duration: Span::ZERO }
    }

    proptest! {
        #[test]
        fn totals_are_the_sum_of_the_slots(
            size in 1_u32..20,
            outcomes in vec((any::<bool>(), any::<bool>()), 0..100),
        ) {
            let window = Count::new(size);
            for outcome in &outcomes {
                window.record(&sample(*outcome));
                prop_assert_eq!(window.counts(), window.recount());
            }
            let last = outcomes.iter().rev().take(usize::try_from(size).unwrap());
            let expected = Counts {
                calls: u64::try_from(outcomes.len()).unwrap().min(u64::from(size)),
                failures: last.clone().filter(|(failed, _)| *failed).count().try_into().unwrap(),
                slow: last.filter(|(_, slow)| *slow).count().try_into().unwrap(),
                overdue: 0,
            };
            prop_assert_eq!(window.counts(), expected);
        }
    }

    #[test]
    fn totals_are_right_after_a_race() {
        let window = Count::new(3);
        let race = |seed| {
            let mut random = crate::load::random::SplitMix64::new(seed);
            for _ in 0..20_000 {
                let bits = random.next_u64();
                window.record(&sample((bits & 1 == 0, bits & 2 == 0)));
            }
        };
        std::thread::scope(|scope| {
            for seed in 0..4_u64 {
                scope.spawn(move || race(seed));
            }
        });
        assert_eq!(window.counts(), window.recount());
        assert_eq!(window.counts().calls, 3);
    }

    #[test]
    fn a_total_that_is_behind_reads_as_zero() {
        let owed = EMPTY.wrapping_sub(weight(PRESENT | FAILED));
        assert_eq!(unpack(owed), Counts::default());
        assert_eq!(unpack(owed.wrapping_add(weight(PRESENT | SLOW))).slow, 1);
    }
}
