//! Which server has which slot.

use std::sync::Arc;

use redis::{FromRedisValue as _, Value};

use super::key::{SLOTS, in_slot, slot};
use super::shard::Shard;

/// The shards of a cluster, or the only one.
pub(super) struct Topology {
    shards: Vec<Arc<Shard>>,
    /// Shard by slot; empty where one shard has all.
    owner: Vec<u16>,
    /// The masters' addresses, by shard; empty where there is only one server.
    pub(super) masters: Vec<(String, u16)>,
}

/// The slots from `first` to `last`, and their master.
struct Range {
    first: u16,
    last: u16,
    master: (String, u16),
}

impl Topology {
    /// One server that has everything; also what a cluster looks like before it was asked.
    pub(super) fn single(prefix: &str, lanes: usize) -> Topology {
        let probe = in_slot(prefix, |_| true);
        Topology {
            shards: vec![Arc::new(Shard::new(0, probe, lanes))],
            owner: Vec::new(),
            masters: Vec::new(),
        }
    }

    /// The shards that `CLUSTER SLOTS` tells of, those of `before` kept where they are the same. `None` if
    /// the answer makes no sense, or some slot has no master.
    pub(super) fn read(answer: &Value, before: &Topology, prefix: &str, lanes: usize) -> Option<Topology> {
        let ranges = ranges(answer)?;
        let mut masters: Vec<(String, u16)> = Vec::new();
        let mut owner = vec![u16::MAX; SLOTS.into()];
        for range in ranges {
            let place = masters.iter().position(|master| *master == range.master).unwrap_or(masters.len());
            if place == masters.len() {
                masters.push(range.master);
            }
            let shard = u16::try_from(place).ok()?;
            owner.get_mut(range.first.into()..=range.last.into())?.fill(shard);
        }
        if owner.contains(&u16::MAX) {
            return None;
        }
        let shard = |place: usize| {
            let mine =
                |slot: u16| owner.get(usize::from(slot)).is_some_and(|&shard| usize::from(shard) == place);
            let first = (0..SLOTS).find(|&slot| mine(slot)).unwrap_or_default();
            // one whose probe would ask another server now is not the same any more
            let same = |shard: &&Arc<Shard>| shard.first_slot == first && mine(slot(&shard.probe));
            let known = before.shards.iter().find(same).filter(|_| !before.owner.is_empty());
            known.cloned().unwrap_or_else(|| Arc::new(Shard::new(first, in_slot(prefix, mine), lanes)))
        };
        let shards = (0..masters.len()).map(shard).collect();
        Some(Topology { shards, owner, masters })
    }

    /// The shard that has `slot`.
    pub(super) fn shard(&self, slot: u16) -> &Arc<Shard> {
        let place = self.owner.get(usize::from(slot)).map_or(0, |&shard| usize::from(shard));
        &self.shards[place]
    }

    /// All shards.
    pub(super) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }
}

/// The ranges of slots in an answer to `CLUSTER SLOTS`.
fn ranges(answer: &Value) -> Option<Vec<Range>> {
    let Value::Array(ranges) = answer else { return None };
    ranges.iter().map(range).collect()
}

fn range(value: &Value) -> Option<Range> {
    let Value::Array(parts) = value else { return None };
    let [first, last, master, ..] = parts.as_slice() else { return None };
    let Value::Array(master) = master else { return None };
    let [host, port, ..] = master.as_slice() else { return None };
    Some(Range {
        first: u16::from_redis_value_ref(first).ok()?,
        last: u16::from_redis_value_ref(last).ok()?,
        master: (String::from_redis_value_ref(host).ok()?, u16::from_redis_value_ref(port).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: i64) -> Value {
        Value::Array(vec![
            Value::BulkString(b"127.0.0.1".to_vec()),
            Value::Int(port),
            Value::BulkString(b"id".to_vec()),
        ])
    }

    fn slots(ranges: &[(i64, i64, i64)]) -> Value {
        let range = |&(first, last, port): &(i64, i64, i64)| {
            Value::Array(vec![Value::Int(first), Value::Int(last), node(port)])
        };
        Value::Array(ranges.iter().map(range).collect())
    }

    fn read(answer: &Value, before: &Topology) -> Option<Topology> {
        Topology::read(answer, before, "tg:", 1)
    }

    #[test]
    fn every_slot_has_its_shard() {
        let single = Topology::single("tg:", 1);
        let answer = slots(&[(0, 99, 7000), (100, 9_999, 7001), (10_000, 16_383, 7000)]);
        let topology = read(&answer, &single).unwrap();
        assert_eq!(topology.shards().len(), 2);
        let first = |slot| topology.shard(slot).first_slot;
        assert_eq!([first(0), first(99), first(100), first(9_999), first(10_000)], [0, 0, 100, 100, 0]);
        assert!((100..10_000).contains(&slot(&topology.shard(100).probe)));
    }

    #[test]
    fn a_shard_outlives_its_master() {
        let single = Topology::single("tg:", 1);
        let before = read(&slots(&[(0, 8_191, 7000), (8_192, 16_383, 7001)]), &single).unwrap();
        let after = read(&slots(&[(0, 8_191, 7002), (8_192, 16_383, 7001)]), &before).unwrap();
        assert!(Arc::ptr_eq(before.shard(5), after.shard(5)));
        assert_eq!(after.masters[0], ("127.0.0.1".to_owned(), 7002));
        assert!(!Arc::ptr_eq(single.shard(5), before.shard(5)));
    }

    #[test]
    fn a_cluster_with_a_hole_is_none() {
        let single = Topology::single("tg:", 1);
        assert!(read(&slots(&[(0, 8_191, 7000)]), &single).is_none());
        assert!(read(&Value::Nil, &single).is_none());
        assert!(read(&slots(&[(0, 20_000, 7000)]), &single).is_none());
    }
}
