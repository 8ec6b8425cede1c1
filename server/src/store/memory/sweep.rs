//! Forgetting: states that equal fresh ones go, one shard at a time.

use std::time::Duration;

use tollgate_core::time::Time;

use super::room::OnFull;
use super::{Kept, MemoryStore, Shard, Slot};
use crate::clock::Clock;
use crate::store::{Full, Usage};

/// How long one round over all shards takes.
const ROUND: Duration = Duration::from_secs(5);
/// Shards that are swept between two pauses.
const BATCH: usize = 2;
/// Pauses of a round in which nothing has ended: each wakes a thread.
const PAUSES: usize = 50;

impl MemoryStore {
    /// Sweeps for ever: every shard once in five seconds, a few at a time. To look at a shard in which nothing
    /// has ended costs one comparison.
    pub async fn sweep_forever(&self, clock: &dyn Clock) {
        let shards = self.map.shards().len();
        let most = shards.div_ceil(PAUSES);
        let mut told = self.room.usage().full;
        let (mut looked, mut swept) = (0, 0);
        for shard in (0..shards).cycle() {
            let now = clock.now();
            looked += 1;
            swept += usize::from(now >= self.room.earliest_in(shard));
            self.sweep(shard, now);
            if shard == 0 {
                told = alarm(told, self.room.usage());
            }
            if looked >= most || swept >= BATCH {
                self.room.refresh_earliest();
                let share = u32::try_from(looked).unwrap_or(u32::MAX);
                tokio::time::sleep(ROUND * share / u32::try_from(shards).unwrap_or(u32::MAX)).await;
                (looked, swept) = (0, 0);
            }
        }
    }

    /// Makes room for a new key: forgets states that have ended, else (with `evict`) those that end first.
    /// Returns whether anything went. Costs one comparison while nothing can have ended.
    pub(super) fn make_room(&self, now: Time) -> bool {
        self.forget_ended(now) || (self.room.on_full() == OnFull::Evict && self.evict_some(now))
    }

    fn forget_ended(&self, now: Time) -> bool {
        if now < self.room.earliest() {
            return false;
        }
        let any = (0..self.map.shards().len()).any(|shard| self.sweep(shard, now) > 0);
        if !any {
            self.room.refresh_earliest();
        }
        any
    }

    /// Forgets every state; returns how many there were.
    pub(super) fn forget_all(&self) -> u64 {
        (0..self.map.shards().len()).map(|shard| self.rebuild(shard, |_| false) as u64).sum()
    }

    /// Forgets what has ended in one shard; returns how many keys went.
    pub(super) fn sweep(&self, shard: usize, now: Time) -> usize {
        if now < self.room.earliest_in(shard) {
            return 0;
        }
        let gone = self.rebuild(shard, |kept| kept.expires > now);
        self.room.count_swept(gone);
        gone
    }

    /// Drops about an eighth of some shard that has keys: those whose states end first.
    fn evict_some(&self, now: Time) -> bool {
        let shards = self.map.shards();
        #[expect(clippy::cast_possible_truncation, reason = "any place to begin at does")]
        let begin = now.as_micros() as usize % shards.len();
        let mut order = (begin..shards.len()).chain(0..begin);
        let Some(shard) = order.find(|&shard| !shards[shard].read().is_empty()) else { return false };
        let (last, mut ties) = self.first_eighth(shard);
        let gone = self.rebuild(shard, |kept| {
            let tie = kept.expires == last && ties > 0;
            ties -= usize::from(tie);
            kept.expires >= last && !tie
        });
        self.room.count_evicted(gone);
        gone > 0
    }

    /// The end of the last state of the first eighth, and how many of those that end then belong to it.
    fn first_eighth(&self, shard: usize) -> (Time, usize) {
        let mut ends: Vec<Time> = Vec::new();
        self.rebuild(shard, |kept| {
            ends.push(kept.expires);
            true
        });
        ends.sort_unstable();
        let eighth = ends.len() / 8;
        let last = ends.get(eighth).copied().unwrap_or(Time::EPOCH);
        (last, ends.iter().take(eighth + 1).filter(|&&end| end == last).count())
    }

    /// Moves what `stays` into a new table of its own size; returns how many keys went.
    fn rebuild(&self, shard: usize, mut stays: impl FnMut(&Kept) -> bool) -> usize {
        let mut table = self.map.shards()[shard].write();
        let old = std::mem::take(&mut *table);
        let before = old.len();
        let (mut bytes, mut earliest) = (0, Time::MAX);
        let mut kept: Vec<Slot> = Vec::with_capacity(before);
        for (key, value) in old {
            if stays(value.get()) {
                earliest = earliest.min(value.get().expires);
                kept.push((key, value));
            } else {
                bytes += key.len() + value.get().heap;
            }
        }
        let gone = before - kept.len();
        let mut new = Shard::with_capacity(kept.len());
        for slot in kept {
            new.insert(self.hash_of(&slot.0), slot, |(key, _)| self.hash_of(key));
        }
        *table = new;
        self.room.found_earliest(shard, earliest);
        self.room.release(gone, bytes);
        gone
    }
}

/// Warns, once a round, that new keys have found no room since `told`.
fn alarm(told: Full, usage: Usage) -> Full {
    let Full { denied, allowed, evicted } = usage.full;
    if usage.full != told {
        let keys = usage.keys;
        tracing::warn!(
            keys,
            denied,
            allowed,
            evicted,
            "the memory store is full: see store.memory in the settings"
        );
    }
    usage.full
}
