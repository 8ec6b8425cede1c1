//! Circuits for people and metrics.

use std::sync::atomic::Ordering::Relaxed;

use tollgate_core::time::Time;
use tollgate_proto::tollgate::v1 as wire;

use super::super::counts::Retired;
use super::super::encode::{self, Kept, STATES};
use super::super::key::Key;
use super::entry::Entry;
use super::{Circuits, lock};

/// What all circuits have in common.
#[derive(Clone, Debug, Default)]
pub(in crate::breaker) struct Sums {
    /// Circuits by state, as in [`STATES`].
    pub(in crate::breaker) states: [u64; STATES.len()],
    /// Clients that listen, counted once for each circuit.
    pub(in crate::breaker) listening: u64,
    /// What the circuits that are here have counted.
    pub(in crate::breaker) counted: Retired,
}

impl Circuits {
    /// One circuit; `None` if it is not here.
    pub(in crate::breaker) fn get(&self, now: Time, key: &Key, owner: &str) -> Option<wire::Circuit> {
        let shard = self.shard(key);
        shard.circuits.get(key).map(|entry| self.show(now, key, entry, owner))
    }

    /// The first `most` circuits of `namespace` (of all if it is empty) after `after`, in the order of their keys.
    pub(in crate::breaker) fn list(&self, now: Time, page: &Page<'_>, owner: &str) -> Vec<wire::Circuit> {
        let wanted = |key: &Key| {
            (page.namespace.is_empty() || key.namespace() == page.namespace)
                && page.after.as_ref().is_none_or(|after| key > after)
        };
        let mut keys: Vec<Key> = Vec::new();
        for shard in &self.shards {
            keys.extend(lock(shard).circuits.keys().filter(|key| wanted(key)).cloned());
        }
        if keys.len() > page.size {
            keys.select_nth_unstable(page.size);
            keys.truncate(page.size);
        }
        keys.sort_unstable();
        keys.iter().filter_map(|key| self.get(now, key, owner)).collect()
    }

    fn show(&self, now: Time, key: &Key, entry: &Entry, owner: &str) -> wire::Circuit {
        let forced = self.overrides.get(key, now);
        let mut seen = entry.circuit.snapshot(now);
        seen.would_open = entry.would_open;
        let local_faults = entry.faults.values().cloned().collect();
        encode::circuit(key, &seen, Kept { now, owner, local_faults, forced: forced.as_ref() })
    }

    /// Circuits that are here.
    pub(in crate::breaker) fn len(&self) -> usize {
        self.kept.load(Relaxed)
    }

    /// What metrics show.
    pub(in crate::breaker) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for shard in &self.shards {
            for entry in lock(shard).circuits.values() {
                let state = entry.circuit.state();
                let place = STATES.iter().position(|(known, _)| *known == state);
                sums.states[place.unwrap_or_default()] += 1;
                sums.listening += entry.listeners().count() as u64;
                sums.counted.add(&entry.circuit.totals());
            }
        }
        sums
    }
}

/// Which part of a list.
#[derive(Clone, Debug, Default)]
pub(in crate::breaker) struct Page<'a> {
    pub(in crate::breaker) namespace: &'a str,
    pub(in crate::breaker) after: Option<Key>,
    pub(in crate::breaker) size: usize,
}
