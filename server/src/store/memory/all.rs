//! All hits of a request or none: every shard that they touch is locked for the length of their steps.

use dashmap::RwLockWriteGuard;
use smallvec::SmallVec;
use tollgate_core::limit::{Ask, Cost, State, Step};
use tollgate_core::rules::{By, Hit, Refusal, refuses};
use tollgate_core::time::Time;

use super::room::OnFull;
use super::{Kept, MemoryStore, NoRoom, Placed, Shard, answer, unlimited};
use crate::store::Answers;

type Locked<'s> = SmallVec<[(usize, RwLockWriteGuard<'s, Shard>); 4]>;

impl MemoryStore {
    pub(super) fn charge_all(&self, hits: &[Hit<'_>], now: Time) -> Answers {
        let placed: SmallVec<[Placed<'_>; 4]> = hits.iter().filter_map(|hit| self.place(hit)).collect();
        if placed.len() != hits.len() {
            return hits.iter().map(|_| answer(unlimited())).collect();
        }
        if let Ok(answers) = self.try_charge_all(hits, &placed, now) {
            return answers;
        }
        if self.make_room(now)
            && let Ok(answers) = self.try_charge_all(hits, &placed, now)
        {
            return answers;
        }
        self.answer_all_full(hits, &placed, now)
    }

    fn try_charge_all(&self, hits: &[Hit<'_>], placed: &[Placed<'_>], now: Time) -> Result<Answers, NoRoom> {
        let mut locked = self.lock(placed);
        let steps = steps(placed, &locked, now);
        let answers: Answers = steps.iter().map(|step| answer(step.verdict)).collect();
        if refuses(hits, &answers) != Refusal::None {
            return Ok(uncharged(placed, &locked, &steps, now));
        }
        self.reserve_new(placed, &locked, &steps)?;
        for (place, step) in placed.iter().zip(steps) {
            if let Some(state) = step.state {
                self.write(&mut locked, place, state);
            }
        }
        Ok(answers)
    }

    /// Locks in ascending order, so that two requests never wait for each other.
    fn lock(&self, placed: &[Placed<'_>]) -> Locked<'_> {
        let mut shards: SmallVec<[usize; 4]> = placed.iter().map(|place| place.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards.into_iter().map(|shard| (shard, self.map.shards()[shard].write())).collect()
    }

    /// Reserves room for every key that is not there yet, or for none.
    fn reserve_new(&self, placed: &[Placed<'_>], locked: &Locked<'_>, steps: &[Step]) -> Result<(), NoRoom> {
        let mut new: SmallVec<[&[u8]; 4]> = SmallVec::new();
        let mut bytes = 0;
        for (place, step) in placed.iter().zip(steps) {
            let key = place.key.as_bytes();
            if step.state.is_some() && stored(locked, place).is_none() && !new.contains(&key) {
                new.push(key);
                bytes += key.len() + place.limit.heap_bytes();
            }
        }
        if new.is_empty() || self.room.reserve(new.len(), bytes) { Ok(()) } else { Err(NoRoom) }
    }

    fn write(&self, locked: &mut Locked<'_>, place: &Placed<'_>, state: State) {
        let Some((_, table)) = locked.iter_mut().find(|(shard, _)| *shard == place.shard) else { return };
        let kept = Kept { expires: place.limit.expires(&state), state, heap: place.limit.heap_bytes() };
        let key = place.key.as_bytes();
        if let Some((_, old)) = table.get_mut(place.hash, |(stored, _)| **stored == *key) {
            let heap = old.get().heap;
            **old.get_mut() = Kept { heap, ..kept };
        } else {
            self.insert(table, place, kept);
        }
    }

    /// No room for the new keys of the request: `on_full` answers for them. Unless that refuses, the keys
    /// that are there are charged.
    fn answer_all_full(&self, hits: &[Hit<'_>], placed: &[Placed<'_>], now: Time) -> Answers {
        let mut locked = self.lock(placed);
        let steps = steps(placed, &locked, now);
        let told = placed.iter().zip(&steps).map(|(place, step)| match stored(&locked, place) {
            None if step.state.is_some() => self.answer_full(place.limit, place.ask, now),
            _ => answer(step.verdict),
        });
        let answers: Answers = told.collect();
        if self.room.on_full() != OnFull::Allow || refuses(hits, &answers) != Refusal::None {
            let mut told = uncharged(placed, &locked, &steps, now);
            for (told, full) in told.iter_mut().zip(&answers).filter(|(_, full)| full.by == By::Full) {
                *told = *full;
            }
            return told;
        }
        for (place, step) in placed.iter().zip(steps) {
            if let Some(state) = step.state.filter(|_| stored(&locked, place).is_some()) {
                self.write(&mut locked, place, state);
            }
        }
        answers
    }
}

fn stored<'l>(locked: &'l Locked<'_>, place: &Placed<'_>) -> Option<&'l State> {
    let (_, table) = locked.iter().find(|(shard, _)| *shard == place.shard)?;
    let key = place.key.as_bytes();
    table.get(place.hash, |(stored, _)| **stored == *key).map(|(_, kept)| &kept.get().state)
}

/// Steps every hit in order without writing; a key that is there twice sees its own earlier step.
fn steps(placed: &[Placed<'_>], locked: &Locked<'_>, now: Time) -> SmallVec<[Step; 4]> {
    let mut steps: SmallVec<[Step; 4]> = SmallVec::new();
    for place in placed {
        let same = |(other, _): &(&Placed<'_>, &Step)| other.key == place.key;
        let mut own =
            placed.iter().zip(steps.iter()).filter(same).filter_map(|(_, step)| step.state.as_ref());
        let step = place.limit.step(own.next_back().or_else(|| stored(locked, place)), now, place.ask);
        steps.push(step);
    }
    steps
}

/// The answers of a refused request: whoever would have admitted it is told as if nobody had asked.
fn uncharged(placed: &[Placed<'_>], locked: &Locked<'_>, steps: &[Step], now: Time) -> Answers {
    let told = placed.iter().zip(steps).map(|(place, step)| {
        if !step.verdict.allowed {
            return answer(step.verdict);
        }
        let look = Ask { cost: Cost::Take(0), ..place.ask };
        answer(place.limit.step(stored(locked, place), now, look).verdict)
    });
    told.collect()
}
