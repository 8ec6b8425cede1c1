//! How much the store may hold, and how much it does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tollgate_core::time::Time;

use crate::store::{Full, Usage};

/// Bytes that a key takes besides its text: slot, control byte, spare slots of the table, allocation.
const KEY_OVERHEAD: usize = 128;

/// What a new key is answered when there is no room for it and no state to forget.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnFull {
    /// Refuse it.
    #[default]
    Deny,
    /// Admit it without counting.
    Allow,
    /// Forget the states that end soonest.
    Evict,
}

/// The most that a store may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Keys, at least 1.
    pub max_keys: u64,
    /// Bytes by the store's estimate: the keys' text, 128 for each, and 16 for each
    /// admission that an exact log may hold.
    pub max_bytes: u64,
    /// What happens at the bound.
    pub on_full: OnFull,
}

impl Bounds {
    /// So many shards that one holds a few thousand keys when the store is full: a sweep of one holds its lock
    /// for a fraction of a millisecond.
    pub(super) fn shards(&self) -> usize {
        usize::try_from(self.max_keys / 1024).unwrap_or(usize::MAX).clamp(64, 4096).next_power_of_two()
    }
}

/// The account of a store's keys.
#[derive(Debug)]
pub(super) struct Room {
    bounds: Bounds,
    keys: AtomicU64,
    bytes: AtomicU64,
    swept: AtomicU64,
    denied: AtomicU64,
    allowed: AtomicU64,
    evicted: AtomicU64,
    /// Per shard: no state ends before this instant (one that was refunded may).
    earliest: Box<[AtomicU64]>,
    /// The same for all shards.
    earliest_of_all: AtomicU64,
}

impl Room {
    pub(super) fn new(bounds: Bounds, shards: usize) -> Room {
        let never = || AtomicU64::new(u64::MAX);
        Room {
            bounds,
            keys: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            swept: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            earliest: (0..shards).map(|_| never()).collect(),
            earliest_of_all: never(),
        }
    }

    pub(super) fn on_full(&self) -> OnFull {
        self.bounds.on_full
    }

    /// Takes room for `keys` new keys whose texts have `bytes` bytes, if there is room for all.
    pub(super) fn reserve(&self, keys: usize, bytes: usize) -> bool {
        let (keys, bytes) = account(keys, bytes);
        if !take(&self.keys, keys, self.bounds.max_keys) {
            return false;
        }
        if take(&self.bytes, bytes, self.bounds.max_bytes) {
            return true;
        }
        self.keys.fetch_sub(keys, Relaxed);
        false
    }

    /// Gives back the room of keys that are gone.
    pub(super) fn release(&self, keys: usize, bytes: usize) {
        let (keys, bytes) = account(keys, bytes);
        self.keys.fetch_sub(keys, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Notes that a state of `shard` ends at `expires`.
    pub(super) fn expects(&self, shard: usize, expires: Time) {
        let expires = expires.as_micros();
        for earliest in [&self.earliest[shard], &self.earliest_of_all] {
            if earliest.load(Relaxed) > expires {
                earliest.fetch_min(expires, Relaxed);
            }
        }
    }

    /// No state of `shard` ends before this; [`Time::MAX`] if it is empty.
    pub(super) fn earliest_in(&self, shard: usize) -> Time {
        Time::from_micros(self.earliest[shard].load(Relaxed))
    }

    /// Sets what a sweep of `shard`, under its lock, has found.
    pub(super) fn found_earliest(&self, shard: usize, earliest: Time) {
        self.earliest[shard].store(earliest.as_micros(), Relaxed);
    }

    /// No state ends before this.
    pub(super) fn earliest(&self) -> Time {
        Time::from_micros(self.earliest_of_all.load(Relaxed))
    }

    /// Looks up the first end over all shards again.
    pub(super) fn refresh_earliest(&self) {
        self.earliest_of_all.store(u64::MAX, Relaxed);
        let first = self.earliest.iter().map(|earliest| earliest.load(Relaxed)).min();
        self.earliest_of_all.fetch_min(first.unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn count_swept(&self, keys: usize) {
        self.swept.fetch_add(keys as u64, Relaxed);
    }

    pub(super) fn count_evicted(&self, keys: usize) {
        self.evicted.fetch_add(keys as u64, Relaxed);
    }

    /// Counts a new key that found no room.
    pub(super) fn count_full(&self) {
        match self.bounds.on_full {
            OnFull::Allow => self.allowed.fetch_add(1, Relaxed),
            OnFull::Deny | OnFull::Evict => self.denied.fetch_add(1, Relaxed),
        };
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            keys: self.keys.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            full: Full {
                denied: self.denied.load(Relaxed),
                allowed: self.allowed.load(Relaxed),
                evicted: self.evicted.load(Relaxed),
            },
            swept: self.swept.load(Relaxed),
            ..Usage::default()
        }
    }
}

fn account(keys: usize, bytes: usize) -> (u64, u64) {
    (keys as u64, (bytes + keys * KEY_OVERHEAD) as u64)
}

/// Adds `amount` unless that exceeds `max`.
fn take(account: &AtomicU64, amount: u64, max: u64) -> bool {
    let more = |used: u64| used.checked_add(amount).filter(|&sum| sum <= max);
    account.fetch_update(Relaxed, Relaxed, more).is_ok()
}
