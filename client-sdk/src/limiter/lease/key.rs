//! One key's tokens.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1::{Descriptor, LeaseReturn};

use super::demand::Demand;
use crate::clock::Clock;
use crate::limiter::decision::Decision;
use crate::limiter::key::Key;
use crate::limiter::request::Ask;

use Ordering::{AcqRel, Acquire, Relaxed};

/// In which a key's checks are counted.
const WINDOW: Span = Span::SECOND;

/// Tokens that were granted.
#[derive(Debug)]
pub(super) struct Lease {
    /// As the service named it.
    pub(super) id: Vec<u8>,
    /// How many there were.
    pub(super) granted: u64,
    /// How many there are; `None` if there is no limit.
    pub(super) tokens: Option<AtomicU64>,
    /// They are worth nothing from then on.
    pub(super) until: Time,
    /// More are bought from then on.
    pub(super) half: Time,
    /// What whoever spends one is told.
    pub(super) decision: Decision,
}

impl Lease {
    /// Takes `cost` tokens, all or none.
    fn take(&self, cost: u64) -> bool {
        let Some(tokens) = &self.tokens else { return true };
        tokens.fetch_update(AcqRel, Acquire, |left| left.checked_sub(cost)).is_ok()
    }

    /// Takes all that is left.
    fn take_all(&self) -> u64 {
        self.tokens.as_ref().map_or(0, |tokens| tokens.swap(0, AcqRel))
    }

    fn left(&self) -> u64 {
        self.tokens.as_ref().map_or(u64::MAX, |tokens| tokens.load(Acquire))
    }

    /// Whether it still has something at `now`.
    fn holds(&self, now: Time) -> bool {
        now < self.until && self.left() > 0
    }
}

/// At most two leases: the older one is spent first.
#[derive(Clone, Debug, Default)]
struct Purse {
    leases: [Option<Arc<Lease>>; 2],
}

impl Purse {
    fn leases(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.leases.iter().flatten()
    }
}

/// One key: how hot it is, and its tokens.
#[derive(Debug)]
pub(in crate::limiter) struct LeasedKey {
    pub(super) domain: String,
    pub(super) descriptors: Vec<Descriptor>,
    pub(in crate::limiter) key: Key,
    pub(super) affinity: u64,
    purse: ArcSwap<Purse>,
    refilling: AtomicBool,
    /// It is in the client's list of those that hold tokens.
    listed: AtomicBool,
    /// No lease is asked for before this, microseconds.
    blocked: AtomicU64,
    /// Units asked for, ever.
    asked: AtomicU64,
    last_used: AtomicU64,
    window: AtomicU64,
    in_window: AtomicU32,
    hot: AtomicBool,
    demand: Mutex<Demand>,
}

/// A refill is under way; dropped, another one may begin.
pub(super) struct Refilling(Arc<LeasedKey>);

impl Drop for Refilling {
    fn drop(&mut self) {
        self.0.refilling.store(false, Ordering::Release);
    }
}

impl LeasedKey {
    pub(super) fn new(ask: &Ask) -> LeasedKey {
        let plain = |descriptor: &Descriptor| Descriptor { cost: None, ..descriptor.clone() };
        LeasedKey {
            domain: ask.wire.domain.clone(),
            descriptors: ask.wire.descriptors.iter().map(plain).collect(),
            key: ask.key.clone(),
            affinity: ask.key.affinity(),
            purse: ArcSwap::default(),
            refilling: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            blocked: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            window: AtomicU64::new(0),
            in_window: AtomicU32::new(0),
            hot: AtomicBool::new(false),
            demand: Mutex::new(Demand::new()),
        }
    }

    /// Counts a check that costs `cost`. Whether the key is hot: `threshold` checks in this second, or in the
    /// last one.
    pub(super) fn note(&self, now: Time, cost: u64, threshold: u32) -> bool {
        self.asked.fetch_add(cost, Relaxed);
        self.last_used.store(now.as_micros(), Relaxed);
        let began = self.window.load(Relaxed);
        let age = now - Time::from_micros(began);
        if age >= WINDOW && self.window.compare_exchange(began, now.as_micros(), Relaxed, Relaxed).is_ok() {
            let counted = self.in_window.swap(0, Relaxed);
            let recent = age < WINDOW + WINDOW;
            self.hot.store(recent && counted >= threshold, Relaxed);
        }
        let counted = self.in_window.fetch_add(1, Relaxed).saturating_add(1);
        self.hot.load(Relaxed) || counted >= threshold
    }

    /// Takes `cost` tokens. The clock is read after they have been taken: if the lease is over by then, they
    /// were worth nothing.
    pub(super) fn spend(&self, cost: u64, clock: &dyn Clock) -> Option<Decision> {
        let purse = self.purse.load();
        let mut leases = purse.leases();
        leases.find(|lease| lease.take(cost) && clock.now() < lease.until).map(|lease| lease.decision.clone())
    }

    /// Whether tokens should be bought: half of the last purchase is spent, or half of its time is over.
    pub(super) fn wants_more(&self, now: Time) -> bool {
        if now.as_micros() < self.blocked.load(Relaxed) {
            return false;
        }
        let purse = self.purse.load();
        let Some(newest) = purse.leases().last() else { return true };
        let left = purse.leases().filter(|lease| now < lease.until).map(|lease| lease.left());
        now >= newest.half || left.fold(0, u64::saturating_add) <= newest.granted / 2
    }

    /// Begins to buy, unless somebody does already.
    pub(super) fn begin_refill(&self) -> bool {
        !self.refilling.swap(true, AcqRel)
    }

    /// The end of what [`LeasedKey::begin_refill`] began, however it ends.
    pub(super) fn refilling(self: &Arc<LeasedKey>) -> Refilling {
        Refilling(self.clone())
    }

    /// How many tokens to buy.
    pub(super) fn want(&self, now: Time, most: u64) -> u64 {
        self.demand().want(now, self.asked.load(Relaxed), most)
    }

    pub(super) fn bought(&self, granted: u64, short: bool, round_trip: Span) {
        self.demand().bought(granted, short, round_trip);
    }

    /// Makes room for a further lease: forgets the ones that are spent or over, and takes back what the older of
    /// two still has.
    pub(super) fn make_room(&self, now: Time) -> Option<LeaseReturn> {
        let purse = self.purse.load();
        let mut kept = purse.leases().filter(|lease| lease.holds(now)).cloned();
        let (older, newer) = (kept.next(), kept.next());
        let Some(newer) = newer else {
            self.purse.store(Arc::new(Purse { leases: [older, None] }));
            return None;
        };
        self.purse.store(Arc::new(Purse { leases: [Some(newer), None] }));
        older.and_then(|older| given_back(&older))
    }

    /// Adds a lease. Only the task that buys does.
    pub(super) fn add(&self, lease: Lease) {
        let first = self.purse.load().leases().next().cloned();
        let lease = Some(Arc::new(lease));
        let leases = if first.is_some() { [first, lease] } else { [lease, None] };
        self.purse.store(Arc::new(Purse { leases }));
    }

    /// Asks for no lease before `until`.
    pub(super) fn block(&self, until: Time) {
        self.blocked.store(until.as_micros(), Relaxed);
    }

    /// Whether anything can be spent, or is about to be.
    pub(super) fn holds(&self, now: Time) -> bool {
        self.refilling.load(Acquire) || self.purse.load().leases().any(|lease| lease.holds(now))
    }

    /// Puts it on the list of those that hold tokens, or takes it off; whether that changed anything. The list's
    /// lock is held.
    pub(super) fn list(&self, yes: bool) -> bool {
        self.listed.swap(yes, Relaxed) != yes
    }

    /// When it was asked last.
    pub(super) fn last_used(&self) -> Time {
        Time::from_micros(self.last_used.load(Relaxed))
    }

    /// Takes everything that is left. What is taken at the same time by somebody else is theirs.
    pub(super) fn empty(&self, now: Time) -> Vec<LeaseReturn> {
        let purse = self.purse.load();
        purse.leases().filter(|lease| now < lease.until).filter_map(|lease| given_back(lease)).collect()
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn given_back(lease: &Lease) -> Option<LeaseReturn> {
    let unspent = lease.take_all();
    (unspent > 0).then(|| LeaseReturn { lease: lease.id.clone(), unspent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::decision::DecisionSource;
    use crate::limiter::request::Request;
    use std::time::Duration;

    #[derive(Debug)]
    struct At(AtomicU64);

    impl Clock for At {
        fn now(&self) -> Time {
            Time::from_micros(self.0.load(Ordering::SeqCst))
        }
    }

    fn key() -> LeasedKey {
        let ask = Request::of([("tenant", "acme")]).prepare("shop", Duration::from_millis(50)).unwrap();
        LeasedKey::new(&ask)
    }

    fn lease(tokens: u64, until: u64) -> Lease {
        Lease {
            id: vec![7],
            granted: tokens,
            tokens: Some(AtomicU64::new(tokens)),
            until: Time::from_micros(until),
            half: Time::from_micros(until / 2),
            decision: Decision::bare(true, DecisionSource::Lease),
        }
    }

    fn spend_all(key: &LeasedKey, clock: &At, spent: &AtomicU64) {
        while key.spend(1, clock).is_some() {
            spent.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn sixty_four_threads_spend_each_token_once() {
        let (key, clock) = (key(), At(AtomicU64::new(1)));
        key.add(lease(100_000, 10));
        key.add(lease(50_000, 10));
        let spent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| spend_all(&key, &clock, &spent));
            }
        });
        assert_eq!(spent.into_inner(), 150_000);
    }

    #[test]
    fn what_is_given_back_and_what_is_spent_add_up() {
        let (key, clock) = (key(), At(AtomicU64::new(1)));
        key.add(lease(200_000, 10));
        let spent = AtomicU64::new(0);
        let mut returned = 0;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| spend_all(&key, &clock, &spent));
            }
            while spent.load(Relaxed) < 1_000 {
                std::hint::spin_loop();
            }
            returned = key.empty(clock.now()).iter().map(|back| back.unspent).sum();
        });
        assert_eq!(spent.into_inner() + returned, 200_000);
    }

    #[test]
    fn a_paused_process_spends_nothing_after_the_end() {
        let (key, clock) = (key(), At(AtomicU64::new(1)));
        key.add(lease(10, 100));
        assert!(key.spend(1, &clock).is_some());
        clock.0.store(100, Ordering::SeqCst);
        assert!(key.spend(1, &clock).is_none());
        assert!(key.empty(clock.now()).is_empty(), "and gives nothing back");
        assert!(!key.holds(clock.now()));
    }

    #[test]
    fn a_clock_that_jumps_between_taking_and_looking_voids_the_token() {
        #[derive(Debug)]
        struct Jumps(AtomicU64);
        impl Clock for Jumps {
            fn now(&self) -> Time {
                Time::from_micros(self.0.fetch_add(100, Relaxed))
            }
        }
        let key = key();
        key.add(lease(10, 100));
        let clock = Jumps(AtomicU64::new(0));
        assert!(key.spend(1, &clock).is_some(), "read at 0");
        assert!(key.spend(1, &clock).is_none(), "read at 100");
    }

    #[test]
    fn costs_are_all_or_nothing_and_fall_through_to_the_newer_lease() {
        let (key, clock) = (key(), At(AtomicU64::new(1)));
        key.add(lease(3, 10));
        assert!(key.spend(4, &clock).is_none());
        key.add(lease(5, 10));
        assert!(key.spend(4, &clock).is_some(), "from the newer");
        assert!(key.spend(3, &clock).is_some(), "from the older");
        assert!(key.spend(2, &clock).is_none());
        assert!(key.spend(1, &clock).is_some());
    }

    #[test]
    fn the_older_of_two_is_given_back_with_the_next_purchase() {
        let key = key();
        key.add(lease(3, 100));
        assert_eq!(key.make_room(Time::from_micros(1)), None, "one is kept");
        key.add(lease(5, 100));
        assert_eq!(key.make_room(Time::from_micros(1)), Some(LeaseReturn { lease: vec![7], unspent: 3 }));
        assert_eq!(key.make_room(Time::from_micros(1)), None);
        assert_eq!(key.make_room(Time::from_micros(100)), None, "what is over is not given back");
        assert!(!key.holds(Time::from_micros(1)));
    }

    #[test]
    fn more_is_bought_at_half_of_the_tokens_or_half_of_the_time() {
        let (key, clock) = (key(), At(AtomicU64::new(1)));
        assert!(key.wants_more(clock.now()));
        key.add(lease(10, 100));
        assert!(!key.wants_more(clock.now()));
        assert!(key.wants_more(Time::from_micros(50)));
        assert!(key.spend(5, &clock).is_some() && key.wants_more(clock.now()));
        key.block(Time::from_micros(60));
        assert!(!key.wants_more(Time::from_micros(59)) && key.wants_more(Time::from_micros(60)));
    }
}
