//! The embedded store: a sharded map in this process, exact under concurrency, bounded.
//!
//! Every shard has one lock, held for the length of one step (or, for `all_or_nothing`, of one request's
//! steps, the shards locked in ascending order). A sweep holds one shard at a time.

mod all;
mod room;
mod sweep;

use std::time::Duration;

use dashmap::{DashMap, SharedValue};
use foldhash::quality::RandomState;
use hashbrown::raw::RawTable;
use moka::sync::Cache;
use tollgate_core::limit::{Ask, Limit, Retry, State, Step, Verdict};
use tollgate_core::rules::{Answer, By, Charge, Hit, Key};
use tollgate_core::time::{Span, Time};

use self::room::Room;
pub use self::room::{Bounds, OnFull};
use super::{Answers, Charging, Clearing, Forgetting, REMEMBERED, Replies, Request, Store, Usage};

/// What a key remembers, and until when that makes a difference.
#[derive(Clone, Debug)]
struct Kept {
    state: State,
    expires: Time,
    /// Bytes that the store's account has for the state besides the key's.
    heap: usize,
}

/// Boxed, since a table has up to twice as many slots as keys.
type Slot = (Box<[u8]>, SharedValue<Box<Kept>>);
type Shard = RawTable<Slot>;

/// The embedded store.
#[derive(Debug)]
pub struct MemoryStore {
    map: DashMap<Box<[u8]>, Box<Kept>, RandomState>,
    room: Room,
    /// What requests with an id were answered.
    remembered: Cache<Box<[u8]>, Answers>,
}

/// Most requests with an id whose answers are remembered.
const MAX_REMEMBERED: u64 = 100_000;

/// What is charged, with its place in the map.
struct Placed<'h> {
    key: &'h Key,
    limit: &'h Limit,
    ask: Ask,
    hash: u64,
    shard: usize,
}

impl MemoryStore {
    /// An empty store that never holds more than `bounds` say.
    #[must_use]
    pub fn new(bounds: Bounds) -> MemoryStore {
        let shards = bounds.shards();
        MemoryStore {
            map: DashMap::with_hasher_and_shard_amount(RandomState::default(), shards),
            room: Room::new(bounds, shards),
            remembered: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(Duration::from_micros(REMEMBERED.as_micros()))
                .build(),
        }
    }

    /// Finds the shard of `hit`; `None` for a rule without a limit, which is never charged.
    fn place<'h>(&self, hit: &'h Hit<'_>) -> Option<Placed<'h>> {
        Some(self.place_key((&hit.key, hit.rule.limit.as_ref()?), hit.ask))
    }

    fn place_key<'h>(&self, (key, limit): (&'h Key, &'h Limit), ask: Ask) -> Placed<'h> {
        let hash = key.hash_with(self.map.hasher());
        #[expect(clippy::cast_possible_truncation, reason = "a hash: any bits do")]
        let shard = self.map.determine_shard(hash as usize);
        Placed { key, limit, ask, hash, shard }
    }

    fn charge_one(&self, hit: &Hit<'_>, now: Time) -> Answer {
        self.place(hit).map_or_else(|| answer(unlimited()), |placed| self.charge_placed(&placed, now))
    }

    /// Charges one counter under its shard's lock. A new key that finds no room is tried once more after
    /// room was made, and then answered by `on_full`.
    #[inline]
    fn charge_placed(&self, placed: &Placed<'_>, now: Time) -> Answer {
        self.try_charge(placed, now)
            .or_else(|_| if self.make_room(now) { self.try_charge(placed, now) } else { Err(NoRoom) })
            .unwrap_or_else(|NoRoom| self.answer_full(placed.limit, placed.ask, now))
    }

    fn try_charge(&self, placed: &Placed<'_>, now: Time) -> Result<Answer, NoRoom> {
        let Placed { key, limit, ask, hash, shard } = *placed;
        let key = key.as_bytes();
        let mut table = self.map.shards()[shard].write();
        if let Some((_, kept)) = table.get_mut(hash, |(stored, _)| **stored == *key) {
            let kept = kept.get_mut();
            let step = limit.step(Some(&kept.state), now, ask);
            return Ok(answer(keep(kept, limit, step)));
        }
        let step = limit.step(None, now, ask);
        let Some(state) = step.state else { return Ok(answer(step.verdict)) };
        let heap = limit.heap_bytes();
        if !self.room.reserve(1, key.len() + heap) {
            return Err(NoRoom);
        }
        let expires = limit.expires(&state);
        self.insert(&mut table, placed, Kept { state, expires, heap });
        Ok(answer(step.verdict))
    }

    /// Adds a key for which room is reserved.
    fn insert(&self, table: &mut Shard, placed: &Placed<'_>, kept: Kept) {
        self.room.expects(placed.shard, kept.expires);
        let slot = (placed.key.as_bytes().into(), SharedValue::new(Box::new(kept)));
        table.insert(placed.hash, slot, |(stored, _)| self.hash_of(stored));
    }

    fn forget_one(&self, placed: &Placed<'_>) {
        let key = placed.key.as_bytes();
        let mut table = self.map.shards()[placed.shard].write();
        if let Some((_, kept)) = table.remove_entry(placed.hash, |(stored, _)| **stored == *key) {
            self.room.release(1, key.len() + kept.get().heap);
        }
    }

    fn hash_of(&self, key: &[u8]) -> u64 {
        use std::hash::BuildHasher as _;
        self.map.hasher().hash_one(key)
    }

    /// What a new key is told when there is no room for it.
    fn answer_full(&self, limit: &Limit, ask: Ask, now: Time) -> Answer {
        let fresh = limit.step(None, now, ask).verdict;
        self.room.count_full();
        if self.room.on_full() == OnFull::Allow {
            return Answer { verdict: fresh, by: By::Full };
        }
        let until = (self.room.earliest() - now).max(Span::MICRO);
        let retry_after = if fresh.allowed { Retry::After(until) } else { fresh.retry_after };
        let refused = Verdict { allowed: false, remaining: 0, retry_after, reset_after: until, ..fresh };
        Answer { verdict: Verdict { used: fresh.used_before, ..refused }, by: By::Full }
    }
}

impl MemoryStore {
    /// Charges `hits` at `now`; never waits.
    pub fn charge_at(&self, charge: Charge, hits: &[Hit<'_>], now: Time) -> Answers {
        match charge {
            Charge::AllOrNothing if hits.len() > 1 => self.charge_all(hits, now),
            _ => hits.iter().map(|hit| self.charge_one(hit, now)).collect(),
        }
    }

    /// The same, once for each `id`.
    fn charge_once(&self, id: &[u8], request: &Request<'_>) -> Answers {
        let Request { charge, hits, now, .. } = *request;
        let key = hits.first().map_or(&[][..], |hit| hit.key.as_bytes());
        let name: Box<[u8]> = [id, &[0], key].concat().into();
        self.remembered.get_with(name, || self.charge_at(charge, hits, now))
    }
}

impl Store for MemoryStore {
    fn charge_now(&self, request: &Request<'_>) -> Option<Replies> {
        let Request { charge, hits, now, id, .. } = *request;
        Some(match (id, charge) {
            (Some(id), _) => self.charge_once(id, request).into_iter().map(Ok).collect(),
            (None, Charge::AllOrNothing) => self.charge_at(charge, hits, now).into_iter().map(Ok).collect(),
            (None, _) => hits.iter().map(|hit| Ok(self.charge_one(hit, now))).collect(),
        })
    }

    #[inline]
    fn charge_key(&self, counter: (&Key, &Limit), ask: Ask, now: Time) -> Option<Answer> {
        Some(self.charge_placed(&self.place_key(counter, ask), now))
    }

    fn charge<'a>(&'a self, request: Request<'a>) -> Charging<'a> {
        Box::pin(std::future::ready(Store::charge_now(self, &request).unwrap_or_default()))
    }

    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], _now: Time) -> Forgetting<'a> {
        hits.iter().filter_map(|hit| self.place(hit)).for_each(|placed| self.forget_one(&placed));
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear(&self) -> Clearing<'_> {
        self.remembered.invalidate_all();
        Box::pin(std::future::ready(Ok(self.forget_all())))
    }

    fn usage(&self) -> Usage {
        self.room.usage()
    }
}

/// There is no room for a new key.
#[derive(Clone, Copy, Debug)]
struct NoRoom;

fn answer(verdict: Verdict) -> Answer {
    Answer { verdict, by: By::Memory }
}

/// Stores what the step says, if it says anything.
fn keep(kept: &mut Kept, limit: &Limit, step: Step) -> Verdict {
    if let Some(state) = step.state {
        kept.expires = limit.expires(&state);
        kept.state = state;
    }
    step.verdict
}

/// The verdict of a rule without a limit.
fn unlimited() -> Verdict {
    Verdict {
        allowed: true,
        limit: u64::MAX,
        remaining: u64::MAX,
        used_before: 0,
        used: 0,
        retry_after: Retry::After(Span::ZERO),
        reset_after: Span::ZERO,
        wait: Span::ZERO,
    }
}

#[cfg(test)]
mod tests;
