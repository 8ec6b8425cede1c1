//! The most frequent of many keys in bounded memory.

use std::collections::{BTreeSet, HashMap};

/// How often a key was counted.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Count {
    /// At most this often.
    pub(super) most: u64,
    /// By how much that may be too high; 0 as long as all keys had room.
    pub(super) error: u64,
}

/// Exact up to `capacity` keys, then Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient computation of
/// frequent and top-k elements in data streams", 2005): a new key takes the place and the count of the rarest.
pub(super) struct Top {
    capacity: usize,
    counts: HashMap<String, Count>,
    by_count: BTreeSet<(u64, String)>,
}

impl Top {
    pub(super) fn new(capacity: usize) -> Top {
        Top { capacity: capacity.max(1), counts: HashMap::new(), by_count: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, key: &str) {
        if let Some(count) = self.counts.get_mut(key) {
            self.by_count.remove(&(count.most, key.to_owned()));
            count.most += 1;
            self.by_count.insert((count.most, key.to_owned()));
            return;
        }
        let mut inherited = 0;
        if self.counts.len() >= self.capacity
            && let Some((count, rarest)) = self.by_count.pop_first()
        {
            self.counts.remove(&rarest);
            inherited = count;
        }
        self.counts.insert(key.to_owned(), Count { most: inherited + 1, error: inherited });
        self.by_count.insert((inherited + 1, key.to_owned()));
    }

    /// The `number` most frequent ones, those first.
    pub(super) fn first(&self, number: usize) -> Vec<(&str, Count)> {
        let keys = self.by_count.iter().rev().take(number);
        keys.map(|(_, key)| (key.as_str(), self.counts.get(key).copied().unwrap_or_default())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_are_counted_exactly() {
        let mut top = Top::new(3);
        "abacab".chars().for_each(|key| top.add(&key.to_string()));
        let exact = |most| Count { most, error: 0 };
        assert_eq!(top.first(2), [("a", exact(3)), ("b", exact(2))]);
    }

    #[test]
    fn a_frequent_key_is_found_among_many_and_its_count_is_bounded() {
        let mut top = Top::new(50);
        for round in 0..1_000 {
            top.add("hot");
            top.add(&format!("rare {round}"));
        }
        let (key, count) = top.first(1)[0];
        assert_eq!(key, "hot");
        assert!(count.most >= 1_000 && count.most - count.error <= 1_000, "{count:?}");
        assert_eq!((top.counts.len(), top.by_count.len()), (50, 50));
    }
}
