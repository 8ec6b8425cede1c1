//! Which decisions are sampled: every *w*-th on average, at random distances, with *w* such that a second has about as
//! many samples as it should.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use tollgate_core::load::random::SplitMix64;

/// Largest distance between two samples.
const LARGEST: u32 = 1 << 20;

/// Lets every *w*-th pass. Threads that share one may each overwrite the other's subtraction: then a few more pass.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Decisions that do not pass before the next one that does.
    left: AtomicU32,
    /// log2 of *w*.
    shift: AtomicU32,
    /// Samples of this second, and since *w* last grew.
    taken: AtomicU32,
    since: AtomicU32,
    /// Decisions that the samples of this second stand for.
    stands_for: AtomicU64,
    /// The seed of the next distance.
    seed: AtomicU64,
}

impl Gate {
    /// Whether this decision is to be sampled. A load and a store, no locked instruction.
    #[inline]
    pub(super) fn passes(&self) -> bool {
        match self.left.load(Relaxed) {
            0 => true,
            left => {
                self.left.store(left - 1, Relaxed);
                false
            }
        }
    }

    /// Takes a sample, and returns for how many decisions it stands. Once `budget` samples have passed with one
    /// distance, the next ones are twice as far apart. One thread at a time may be here.
    pub(super) fn take(&self, budget: u32) -> u64 {
        let shift = self.shift.load(Relaxed);
        let weight = 1_u32 << shift;
        self.stands_for.fetch_add(weight.into(), Relaxed);
        self.taken.fetch_add(1, Relaxed);
        if self.since.fetch_add(1, Relaxed) + 1 >= budget {
            self.since.store(0, Relaxed);
            self.shift.store((shift + 1).min(LARGEST.ilog2()), Relaxed);
        }
        self.left.store(self.distance(), Relaxed);
        weight.into()
    }

    /// Evenly from `0..=2(w - 1)`: *w* decisions on average, with the one that passes.
    fn distance(&self) -> u32 {
        let most = 2 * ((1_u32 << self.shift.load(Relaxed)) - 1);
        let seed = self.seed.load(Relaxed).wrapping_add(1);
        self.seed.store(seed, Relaxed);
        SplitMix64::new(seed).next_u32() % (most + 1)
    }

    /// A second has passed: the distance follows what came in it.
    pub(super) fn turn(&self) {
        let came = self.stands_for.swap(0, Relaxed);
        let taken = self.taken.swap(0, Relaxed);
        self.since.store(0, Relaxed);
        let shift = self.shift.load(Relaxed);
        let wanted = came.div_ceil(super::BUDGET.into()).max(1).next_power_of_two().ilog2();
        // what is sampled less often than it could be is told of sooner with a smaller distance
        let next = if taken == 0 { shift.saturating_sub(1) } else { wanted.min(LARGEST.ilog2()) };
        self.shift.store(next, Relaxed);
        if next < shift {
            self.left.store(self.left.load(Relaxed).min(self.distance()), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the samples among `decisions` stand for, and how many there were.
    fn offer(gate: &Gate, decisions: u64) -> (u64, u64) {
        let (mut stands_for, mut samples) = (0, 0);
        for _ in 0..decisions {
            if gate.passes() {
                stands_for += gate.take(super::super::BUDGET);
                samples += 1;
            }
        }
        (stands_for, samples)
    }

    #[test]
    fn of_a_quiet_second_everything_is_taken() {
        let gate = Gate::default();
        for _ in 0..10 {
            assert_eq!(offer(&gate, 900), (900, 900));
            gate.turn();
        }
    }

    #[test]
    fn a_burst_is_sampled_ever_less_and_its_size_is_estimated() {
        let gate = Gate::default();
        let (estimate, samples) = offer(&gate, 1_000_000);
        assert!(samples < 12_000, "{samples}");
        assert!((900_000..1_100_000).contains(&estimate), "{estimate}");
    }

    #[test]
    fn a_steady_stream_has_about_its_budget_of_samples() {
        let gate = Gate::default();
        for second in 0..20 {
            let (estimate, samples) = offer(&gate, 200_000);
            gate.turn();
            if second > 0 {
                assert!((500..=2_000).contains(&samples), "second {second}: {samples}");
                assert!((150_000..=250_000).contains(&estimate), "second {second}: {estimate}");
            }
        }
    }

    #[test]
    fn after_a_storm_single_decisions_are_seen_within_seconds() {
        let gate = Gate::default();
        offer(&gate, 10_000_000);
        let seen = (0..25).find(|_| {
            gate.turn();
            offer(&gate, 20).1 == 20
        });
        assert!(seen.is_some_and(|second| second <= 20), "{seen:?}");
    }
}
