//! Leases: tokens that a client buys in advance and spends alone.
//!
//! A lease is charged when it is granted and spent later. For a fixed window that changes nothing, as long as
//! the lease ends with the window that it was charged to. A bucket and a sliding window earn capacity all the
//! time: a charge fades while the tokens that it paid for are still there to be spent. So a part of their
//! capacity, the [`Pool`], is set aside for what lies in leases:
//!
//! - every charge, be it for a lease or for a request, is to the limit *less* the pool ([`divide`]), and
//! - what is granted in any interval shorter than a [`Pool::period`] is at most the pool ([`Pool::grants`]).
//!
//! What is spent from `a` to `b` was either charged from `a` to `b`, or granted before `a` by a lease that has
//! not ended at `a`, so within the period before it:
//!
//! ```text
//! spent [a, b]  ≤  charged [a, b]  +  granted (a - period, a)
//!               ≤  (capacity - pool) + earned (b - a)  +  pool
//!               =  capacity + earned (b - a)
//! ```
//!
//! Given back is what was charged and will not be spent. The kernels treat a refund as if earlier charges had
//! not been, so that it frees at most what the lease that it comes from does not spend: the sum stays, if the
//! refund reaches the counter within the period in which its lease counts against the pool ([`Pool::period`]).

mod draft;

pub use draft::{Draft, Draw, Offer};

use crate::limit::{Limit, Rate, SlidingWindow, TokenBucket, Verdict};
use crate::rules::Accuracy;
use crate::time::Span;

/// The longest life of a lease.
pub const MAX_TTL: Span = Span::from_secs(60);

/// A lease with a shorter life is not worth its way.
pub const MIN_TTL: Span = Span::from_millis(20);

/// Smaller limits are leased only if they are fixed windows that ask for it: with others, the pool would leave
/// too little for requests.
pub const MIN_CAPACITY: u64 = 1_000;

/// The pool of a token bucket is one part in this many of its burst.
const BUCKET_PARTS: u64 = 2;
/// That of a sliding window, which loses this part of its rate with it, since its capacity is its rate.
const SLIDING_PARTS: u64 = 16;
/// What may be granted at once is one part in this many of the pool; the rest comes over the period.
const BURST_PARTS: u64 = 4;
/// And at most this, the largest bucket.
const MAX_BURST: u64 = 10_000_000;
/// Of the period, the client may spend this part; the rest is for what it gives back to reach the counter.
const SPENT_PARTS: (u64, u64) = (4, 5);

/// How a limit is leased.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Terms {
    /// A lease is a charge to the running window and ends with it.
    Window,
    /// A part of the capacity is set aside.
    Pool(Pool),
}

/// The part of a limit's capacity that may lie in leases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pool {
    capacity: u64,
    size: u64,
    period: Span,
    grants: Limit,
}

impl Terms {
    /// How `limit` is leased under a rule of this accuracy; `None` if it never is.
    ///
    /// | limit | leased |
    /// |---|---|
    /// | fixed window | `auto`: from a limit of [`MIN_CAPACITY`] on; `leased`: always |
    /// | token bucket, sliding window | `leased`, from a capacity of [`MIN_CAPACITY`] on, if a lease of [`MIN_TTL`] or more keeps the pool from slowing the rate |
    /// | leaky bucket, exact log | never |
    #[must_use]
    pub fn of(limit: &Limit, accuracy: Accuracy) -> Option<Terms> {
        match (limit, accuracy) {
            (Limit::FixedWindow(_), Accuracy::Leased) => Some(Terms::Window),
            (Limit::FixedWindow(window), Accuracy::Auto) => {
                (window.limit() >= MIN_CAPACITY).then_some(Terms::Window)
            }
            (_, Accuracy::Leased) => Pool::of(limit).map(Terms::Pool),
            _ => None,
        }
    }

    /// How long a lease is good for that was just charged with this verdict.
    #[must_use]
    pub fn ttl(&self, charged: &Verdict) -> Span {
        match self {
            Terms::Window => charged.reset_after.min(MAX_TTL),
            Terms::Pool(pool) => pool.ttl(),
        }
    }

    /// How long such a lease counts; nothing of it may be given back after that.
    #[must_use]
    pub fn period(&self, charged: &Verdict) -> Span {
        match self {
            Terms::Window => charged.reset_after,
            Terms::Pool(pool) => pool.period,
        }
    }
}

impl Pool {
    fn of(limit: &Limit) -> Option<Pool> {
        let capacity = limit.capacity();
        // units of the rate per microseconds of it
        let (count, per, parts) = match limit {
            Limit::TokenBucket(bucket) => (bucket.rate().count(), bucket.rate().per(), BUCKET_PARTS),
            Limit::SlidingWindow(window) => (window.limit(), window.length().as_micros(), SLIDING_PARTS),
            _ => return None,
        };
        let size = capacity / parts;
        let burst = (size / BURST_PARTS).min(MAX_BURST);
        // so short that what comes over a period is twice what the limit earns: half of it may be given back
        let earned = u128::from(size - burst) * u128::from(per) / (2 * u128::from(count.max(1)));
        let longest = Span::from_micros(MAX_TTL.as_micros() * SPENT_PARTS.1 / SPENT_PARTS.0);
        let period = Span::from_wide(earned).min(longest);
        if capacity < MIN_CAPACITY || spendable(period) < MIN_TTL {
            return None;
        }
        // slower than that is still never more than the pool
        let rate = Rate::new(size - burst, period).or_else(|_| Rate::new(10, Span::MICRO)).ok()?;
        let grants = TokenBucket::new(rate, burst).map(Limit::TokenBucket).ok()?;
        Some(Pool { capacity, size, period, grants })
    }

    /// The capacity that the rule states.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Units that may lie in leases at any time.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// A lease counts against the pool for this long after it was charged.
    #[must_use]
    pub const fn period(&self) -> Span {
        self.period
    }

    /// How long a lease may be spent, from the moment at which it was asked for.
    #[must_use]
    pub fn ttl(&self) -> Span {
        spendable(self.period)
    }

    /// What every grant is charged to besides the limit itself: a bucket that never admits more than the pool
    /// in an interval shorter than a period.
    #[must_use]
    pub const fn grants(&self) -> &Limit {
        &self.grants
    }

    /// `limit` without the pool.
    fn taken_from(&self, limit: &Limit) -> Option<Limit> {
        let left = self.capacity - self.size;
        match limit {
            Limit::TokenBucket(bucket) => TokenBucket::new(bucket.rate(), left).map(Limit::TokenBucket).ok(),
            Limit::SlidingWindow(window) => {
                SlidingWindow::new(left, window.length()).map(Limit::SlidingWindow).ok()
            }
            _ => None,
        }
    }
}

/// The part of a period in which a lease is spent.
fn spendable(period: Span) -> Span {
    Span::from_micros(period.as_micros() / SPENT_PARTS.1 * SPENT_PARTS.0)
}

/// The limit that every request and every lease is charged to, and how it is leased.
#[must_use]
pub fn divide(limit: Limit, accuracy: Accuracy) -> (Limit, Option<Terms>) {
    match Terms::of(&limit, accuracy) {
        Some(Terms::Pool(pool)) => match pool.taken_from(&limit) {
            Some(left) => (left, Some(Terms::Pool(pool))),
            None => (limit, None),
        },
        terms => (limit, terms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{FixedWindow, LeakyBucket, Refused, SlidingLog, Window};

    fn bucket(count: u64, burst: u64) -> Limit {
        Limit::TokenBucket(TokenBucket::new(Rate::new(count, Span::SECOND).unwrap(), burst).unwrap())
    }

    fn sliding(limit: u64, length: Span) -> Limit {
        Limit::SlidingWindow(SlidingWindow::new(limit, length).unwrap())
    }

    fn fixed(limit: u64) -> Limit {
        let window = Window::Epoch(Span::SECOND);
        Limit::FixedWindow(FixedWindow::new(limit, window, Refused::Counts).unwrap())
    }

    fn pool(limit: &Limit) -> Option<Pool> {
        match Terms::of(limit, Accuracy::Leased) {
            Some(Terms::Pool(pool)) => Some(pool),
            _ => None,
        }
    }

    #[test]
    fn a_fixed_window_is_leased_if_it_is_large_or_asks_for_it() {
        assert_eq!(Terms::of(&fixed(999), Accuracy::Auto), None);
        assert_eq!(Terms::of(&fixed(1_000), Accuracy::Auto), Some(Terms::Window));
        assert_eq!(Terms::of(&fixed(1), Accuracy::Leased), Some(Terms::Window));
        assert_eq!(Terms::of(&fixed(1_000_000), Accuracy::Strict), None);
    }

    #[test]
    fn others_are_leased_only_if_they_ask_for_it_and_some_never_are() {
        let rate = Rate::new(1_000, Span::SECOND).unwrap();
        let leaky = Limit::LeakyBucket(LeakyBucket::new(rate, 5_000).unwrap());
        let log = Limit::SlidingLog(SlidingLog::new(1_000, Span::from_secs(3_600)).unwrap());
        for (limit, leased) in [
            (bucket(1_000, 5_000), true),
            (sliding(5_000, Span::from_secs(60)), true),
            (leaky, false),
            (log, false),
        ] {
            assert_eq!(Terms::of(&limit, Accuracy::Leased).is_some(), leased, "{limit:?}");
            for accuracy in [Accuracy::Auto, Accuracy::Strict] {
                assert_eq!(divide(limit.clone(), accuracy), (limit.clone(), None), "whole and not leased");
            }
        }
    }

    #[test]
    fn a_pool_is_half_a_bucket_and_a_sixteenth_of_a_window() {
        let half = pool(&bucket(1_000, 1_000)).unwrap();
        assert_eq!((half.capacity(), half.size()), (1_000, 500));
        // 375 tokens in 187.5 ms are 2 000 a second
        assert_eq!(half.period(), Span::from_micros(187_500));
        assert_eq!((half.ttl(), half.grants().capacity()), (Span::from_millis(150), 125));
        let (left, _) = divide(bucket(1_000, 1_000), Accuracy::Leased);
        assert_eq!(left, bucket(1_000, 500), "the rate stays");
        let (left, _) = divide(sliding(1_600, Span::from_secs(60)), Accuracy::Leased);
        assert_eq!(left, sliding(1_500, Span::from_secs(60)));
    }

    #[test]
    fn a_lease_lives_between_the_shortest_and_the_longest_life() {
        assert_eq!(pool(&bucket(1, 1_000_000)).unwrap().ttl(), MAX_TTL);
        assert_eq!(pool(&bucket(100_000, 1_000)), None, "the burst of 10 ms");
        assert_eq!(pool(&bucket(1_000, 999)), None);
        let shortest = pool(&bucket(7_500, 1_000)).unwrap();
        assert_eq!(shortest.ttl(), MIN_TTL);
        assert_eq!(pool(&bucket(7_501, 1_000)), None);
    }

    #[test]
    fn a_pool_never_grants_more_than_its_size_within_a_period_nor_less_than_the_limit_earns() {
        for limit in [
            bucket(1, 1_000),
            bucket(3, 7_777),
            bucket(7_500, 1_000),
            bucket(10_000_000, 10_000_000),
            sliding(1_003, Span::from_secs(86_400)),
            sliding(u64::from(u32::MAX), Span::from_secs(60)),
        ] {
            let pool = pool(&limit).unwrap();
            let Limit::TokenBucket(grants) = pool.grants() else { panic!("{limit:?}") };
            let (count, per) = (u128::from(grants.rate().count()), u128::from(grants.rate().per()));
            let most = u128::from(grants.burst()) + u128::from(pool.period().as_micros()) * count / per;
            assert!(most <= u128::from(pool.size()), "{limit:?} grants {most} of {}", pool.size());
            let (earned, of) = match &limit {
                Limit::TokenBucket(limit) => (limit.rate().count(), limit.rate().per()),
                Limit::SlidingWindow(limit) => (limit.limit(), limit.length().as_micros()),
                _ => (1, 1),
            };
            // no bucket is faster than ten in a microsecond
            let kept_up = count * u128::from(of) >= u128::from(earned) * per || count == 10 * per;
            assert!(kept_up, "{limit:?} is slowed");
        }
    }
}
