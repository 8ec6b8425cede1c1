//! Counters that many threads raise at once without waiting for each other.
//!
//! A counter has several stripes, each in cache lines of its own. A thread keeps to one stripe; a reader adds
//! all of them up. Nothing is ever lost: threads that share a stripe only slow each other down.

use std::array;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

/// Most stripes of a counter: a sum has to read them all.
const MAX_STRIPES: usize = 8;
/// A thread that has not counted yet.
const NO_SEAT: usize = usize::MAX;

static SEATS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SEAT: Cell<usize> = const { Cell::new(NO_SEAT) };
}

/// The number of this thread: threads are numbered in the order in which they first count.
#[inline]
pub(super) fn seat() -> usize {
    SEAT.with(|seat| match seat.get() {
        NO_SEAT => take_seat(seat),
        taken => taken,
    })
}

#[cold]
fn take_seat(seat: &Cell<usize>) -> usize {
    let taken = SEATS.fetch_add(1, Relaxed) % NO_SEAT;
    seat.set(taken);
    taken
}

/// How many stripes a counter has: a power of two, `1..=8`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stripes(usize);

impl Stripes {
    /// One for each of `threads` that count, as far as that makes sense.
    #[must_use]
    pub fn for_threads(threads: usize) -> Stripes {
        Stripes(threads.clamp(1, MAX_STRIPES).next_power_of_two())
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0
    }
}

/// `N` counters that are raised together, so that they share cache lines.
#[derive(Debug)]
pub struct Striped<const N: usize> {
    stripes: Box<[Stripe<N>]>,
}

/// What the threads of one seat have counted.
pub type Stripe<const N: usize> = CachePadded<[AtomicU64; N]>;

impl<const N: usize> Striped<N> {
    /// All zero.
    #[must_use]
    pub fn new(stripes: Stripes) -> Striped<N> {
        let stripe = |_| CachePadded::new(array::from_fn(|_| AtomicU64::new(0)));
        Striped { stripes: (0..stripes.0).map(stripe).collect() }
    }

    /// The counters of this thread.
    #[inline]
    #[must_use]
    pub fn mine(&self) -> &[AtomicU64; N] {
        &self.stripes[seat() & (self.stripes.len() - 1)]
    }

    /// Raises one counter.
    #[inline]
    pub fn add(&self, counter: usize, by: u64) {
        self.mine()[counter].fetch_add(by, Relaxed);
    }

    /// The sums over all threads.
    #[must_use]
    pub fn sums(&self) -> [u64; N] {
        array::from_fn(|counter| self.sum(counter))
    }

    /// The sum of one counter over all threads.
    #[must_use]
    pub fn sum(&self, counter: usize) -> u64 {
        self.stripes.iter().fold(0, |sum, stripe| sum.wrapping_add(stripe[counter].load(Relaxed)))
    }
}

/// What is counted of one rule. The first eight lie in one cache line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Hits of requests that fitted into the limit.
    Within,
    /// Requests that fitted.
    Allowed,
    /// Hits of requests that did not fit, or that met no limit: with `Within` they are all hits.
    Beyond,
    /// Hits over the limit.
    Over,
    /// Hits within the limit, but near it.
    Near,
    /// Requests that were refused.
    Refused,
    /// Hits over the limit of a rule in shadow.
    ShadowedHits,
    /// Requests that a rule in shadow would have refused.
    Shadowed,
    /// Hits given back.
    Refunded,
    /// Answers given without counting, because the store was full.
    Full,
}

const COUNTS: usize = 10;

/// The counters of one rule.
#[derive(Debug)]
pub struct RuleMeter(Striped<COUNTS>);

/// The counters of this thread for one rule.
#[derive(Clone, Copy, Debug)]
pub struct Mine<'m>(&'m [AtomicU64; COUNTS]);

impl RuleMeter {
    /// Nothing counted.
    #[must_use]
    pub fn new(stripes: Stripes) -> RuleMeter {
        RuleMeter(Striped::new(stripes))
    }

    /// The counters of this thread.
    #[inline]
    #[must_use]
    pub fn mine(&self) -> Mine<'_> {
        Mine(self.0.mine())
    }

    /// What was counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let sums = self.0.sums();
        let sum = |count: Count| sums[count as usize];
        Tally {
            total_hits: sum(Count::Within).wrapping_add(sum(Count::Beyond)),
            within_limit: sum(Count::Within),
            near_limit: sum(Count::Near),
            over_limit: sum(Count::Over),
            shadowed_hits: sum(Count::ShadowedHits),
            refunded_hits: sum(Count::Refunded),
            allowed: sum(Count::Allowed),
            refused: sum(Count::Refused),
            shadowed: sum(Count::Shadowed),
            full: sum(Count::Full),
        }
    }
}

impl Mine<'_> {
    /// Raises one counter.
    #[inline]
    pub fn add(self, count: Count, by: u64) {
        if by > 0 {
            self.0[count as usize].fetch_add(by, Relaxed);
        }
    }
}

/// What was counted of one rule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Hits asked.
    pub total_hits: u64,
    /// Hits of requests that fitted into the limit.
    pub within_limit: u64,
    /// Hits within the limit, but near it.
    pub near_limit: u64,
    /// Hits over the limit.
    pub over_limit: u64,
    /// Hits over the limit of a rule in shadow; also in `over_limit`.
    pub shadowed_hits: u64,
    /// Hits given back.
    pub refunded_hits: u64,
    /// Requests that fitted.
    pub allowed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that a rule in shadow would have refused.
    pub shadowed: u64,
    /// Answers given without counting, because the store was full.
    pub full: u64,
}

impl Tally {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Tally::default()
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Tally) -> Tally {
        Tally {
            total_hits: self.total_hits.wrapping_add(other.total_hits),
            within_limit: self.within_limit.wrapping_add(other.within_limit),
            near_limit: self.near_limit.wrapping_add(other.near_limit),
            over_limit: self.over_limit.wrapping_add(other.over_limit),
            shadowed_hits: self.shadowed_hits.wrapping_add(other.shadowed_hits),
            refunded_hits: self.refunded_hits.wrapping_add(other.refunded_hits),
            allowed: self.allowed.wrapping_add(other.allowed),
            refused: self.refused.wrapping_add(other.refused),
            shadowed: self.shadowed.wrapping_add(other.shadowed),
            full: self.full.wrapping_add(other.full),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn stripes_are_a_power_of_two_up_to_eight() {
        let stripes = [0, 1, 2, 3, 5, 8, 64].map(|threads| Stripes::for_threads(threads).0);
        assert_eq!(stripes, [1, 1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn sums_are_exact_after_many_threads() {
        for threads in [1, 3, 16] {
            let meter = RuleMeter::new(Stripes::for_threads(4));
            let work = || (0..10_000).for_each(|_| raise(&meter));
            thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
            let tally = meter.tally();
            assert_eq!((tally.allowed, tally.within_limit, tally.total_hits), expected(threads));
        }
    }

    fn raise(meter: &RuleMeter) {
        let mine = meter.mine();
        mine.add(Count::Allowed, 1);
        mine.add(Count::Within, 3);
        mine.add(Count::Beyond, 2);
    }

    fn expected(threads: u64) -> (u64, u64, u64) {
        (threads * 10_000, threads * 30_000, threads * 50_000)
    }

    #[test]
    fn the_counters_of_the_usual_decision_share_a_cache_line() {
        let meter = RuleMeter::new(Stripes::for_threads(1));
        let mine = meter.mine();
        let line = |count: Count| (&raw const mine.0[count as usize]).addr() / 64;
        assert_eq!(line(Count::Within), line(Count::Shadowed));
    }

    #[test]
    fn two_tallies_add_up() {
        let one = Tally { total_hits: 1, full: 2, ..Tally::default() };
        let two = Tally { total_hits: 3, near_limit: 4, ..Tally::default() };
        assert_eq!(one.plus(&two), Tally { total_hits: 4, near_limit: 4, full: 2, ..Tally::default() });
        assert!(Tally::default().is_empty() && !one.is_empty());
    }
}
