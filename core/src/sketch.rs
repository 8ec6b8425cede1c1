//! The most frequent of very many things, in bounded memory and with bounds on the error.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// The most frequent keys of a stream by the algorithm Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient
/// computation of frequent and top-k elements in data streams", ICDT 2005), weighted.
///
/// With `capacity` cells after counts that add up to `total`:
/// - for a key that is kept, `count - error ≤ true count ≤ count`;
/// - for a key that is not kept, `true count ≤ floor() ≤ total / capacity`;
/// - so every key whose true count is above `total / capacity` is kept.
///
/// All but `total ≤ capacity × floor` hold for a [merged](TopK::merge) sketch too (Agarwal et al., "Mergeable
/// summaries", PODS 2012). Each key carries a value `V`, which begins anew when the key takes another's cell.
#[derive(Clone, Debug)]
pub struct TopK<K, V> {
    capacity: usize,
    cells: HashMap<K, Cell<V>, RandomState>,
    total: u64,
    /// What a key that is in no cell may have at the most.
    floor: u64,
}

#[derive(Clone, Debug)]
struct Cell<V> {
    count: u64,
    error: u64,
    value: V,
}

/// A key that is among the most frequent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frequent<'s, K, V> {
    /// The key.
    pub key: &'s K,
    /// Never less than its true count.
    pub count: u64,
    /// By how much `count` may be too high.
    pub error: u64,
    /// What it carries.
    pub value: &'s V,
}

impl<K: Clone + Eq + Hash + Ord, V: Clone + Default> TopK<K, V> {
    /// An empty sketch that keeps at most `capacity` keys; 0 counts as 1.
    #[must_use]
    pub fn new(capacity: usize) -> TopK<K, V> {
        TopK { capacity: capacity.max(1), cells: HashMap::default(), total: 0, floor: 0 }
    }

    /// Counts `key` `weight` times. Returns what the key carries, to be brought up to date.
    ///
    /// A key that is not kept takes the cell with the lowest count, and inherits that as its error. To find it all
    /// cells are read: the caller keeps the capacity small, or calls seldom.
    pub fn add(&mut self, key: K, weight: u64) -> &mut V {
        self.total = self.total.saturating_add(weight);
        let inherited = if self.cells.contains_key(&key) { 0 } else { self.make_room() };
        let fresh = || Cell { count: inherited, error: inherited, value: V::default() };
        let cell = self.cells.entry(key).or_insert_with(fresh);
        cell.count = cell.count.saturating_add(weight);
        &mut cell.value
    }

    /// Frees a cell if none is free. Returns what a new key may have counted before.
    fn make_room(&mut self) -> u64 {
        if self.cells.len() >= self.capacity {
            let lowest = self.cells.iter().min_by_key(|(_, cell)| cell.count);
            if let Some((key, count)) = lowest.map(|(key, cell)| (key.clone(), cell.count)) {
                self.cells.remove(&key);
                self.floor = self.floor.max(count);
            }
        }
        self.floor
    }

    /// What a key that is not kept has counted at the most.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// Everything that was counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Keys that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether no key is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Adds what `other` has counted, of another part of the stream. Where both carry a value for a key,
    /// `combine` brings ours up to date. Keeps at most this sketch's capacity.
    pub fn merge(&mut self, other: &TopK<K, V>, combine: impl Fn(&mut V, &V)) {
        for (key, ours) in &mut self.cells {
            if !other.cells.contains_key(key) {
                ours.count = ours.count.saturating_add(other.floor);
                ours.error = ours.error.saturating_add(other.floor);
            }
        }
        for (key, theirs) in &other.cells {
            let unknown = || Cell { count: self.floor, error: self.floor, value: V::default() };
            let ours = self.cells.entry(key.clone()).or_insert_with(unknown);
            ours.count = ours.count.saturating_add(theirs.count);
            ours.error = ours.error.saturating_add(theirs.error);
            combine(&mut ours.value, &theirs.value);
        }
        self.floor = self.floor.saturating_add(other.floor);
        self.total = self.total.saturating_add(other.total);
        self.cut();
    }

    /// Drops the least frequent beyond the capacity; the floor rises to the most that one of them may have.
    fn cut(&mut self) {
        if self.cells.len() <= self.capacity {
            return;
        }
        let kept: Vec<K> = self.top(self.capacity).iter().map(|frequent| frequent.key.clone()).collect();
        let mut dropped = std::mem::take(&mut self.cells);
        for key in kept {
            if let Some((key, cell)) = dropped.remove_entry(&key) {
                self.cells.insert(key, cell);
            }
        }
        let highest = dropped.values().map(|cell| cell.count).max().unwrap_or_default();
        self.floor = self.floor.max(highest);
    }

    /// Puts a key with bounds that somebody else has found. Nothing if the key is kept already, or there is no room.
    pub fn insert(&mut self, key: K, (count, error): (u64, u64), value: V) {
        if self.cells.len() < self.capacity && !self.cells.contains_key(&key) {
            self.cells.insert(key, Cell { count, error, value });
        }
    }

    /// Raises the floor and the total to what somebody else has found.
    pub fn raise(&mut self, floor: u64, total: u64) {
        self.floor = self.floor.max(floor);
        self.total = self.total.max(total);
    }

    /// The `most` most frequent keys, the most frequent first; equals in the order of their keys.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<Frequent<'_, K, V>> {
        let frequent = |(key, cell): (_, &'_ Cell<V>)| (key, cell.count, cell.error);
        let mut all: Vec<(&K, u64, u64)> = self.cells.iter().map(frequent).collect();
        all.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0)));
        all.truncate(most);
        let whole = |(key, count, error)| {
            self.cells.get(key).map(|cell| Frequent { key, count, error, value: &cell.value })
        };
        all.into_iter().filter_map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Sketch = TopK<u8, u64>;
    type Stream = Vec<(u8, u64)>;

    fn sketch(capacity: usize, stream: &Stream) -> Sketch {
        let mut sketch = Sketch::new(capacity);
        for (key, weight) in stream {
            *sketch.add(*key, *weight) += weight;
        }
        sketch
    }

    fn truth(stream: &Stream) -> HashMap<u8, u64> {
        let mut truth = HashMap::new();
        for (key, weight) in stream {
            *truth.entry(*key).or_default() += weight;
        }
        truth
    }

    /// A few keys come often, many seldom.
    fn stream() -> impl Strategy<Value = Stream> {
        let key = prop_oneof![3 => 0_u8..4, 2 => 0_u8..40];
        prop::collection::vec((key, 1_u64..50), 0..400)
    }

    fn holds_its_bounds(sketch: &Sketch, stream: &Stream) -> Result<(), TestCaseError> {
        let truth = truth(stream);
        let kept: HashMap<u8, (u64, u64)> = sketch
            .top(usize::MAX)
            .iter()
            .map(|frequent| (*frequent.key, (frequent.count, frequent.error)))
            .collect();
        for key in 0..40 {
            let real = truth.get(&key).copied().unwrap_or_default();
            match kept.get(&key) {
                Some((count, error)) => prop_assert!(count - error <= real && real <= *count),
                None => prop_assert!(real <= sketch.floor(), "{key}: {real} > {}", sketch.floor()),
            }
        }
        prop_assert_eq!(sketch.total(), truth.values().sum::<u64>());
        Ok(())
    }

    proptest! {
        #[test]
        fn counts_are_never_too_low_and_too_high_by_their_error_at_most(
            capacity in 1_usize..24, stream in stream(),
        ) {
            let sketch = sketch(capacity, &stream);
            prop_assert!(sketch.len() <= capacity);
            prop_assert!(sketch.floor() <= sketch.total() / capacity as u64);
            holds_its_bounds(&sketch, &stream)?;
        }

        #[test]
        fn merged_sketches_hold_the_bounds_of_the_whole(
            capacities in (1_usize..24, 1_usize..24), one in stream(), two in stream(), three in stream(),
        ) {
            let mut merged = sketch(capacities.0, &one);
            for part in [&two, &three] {
                merged.merge(&sketch(capacities.1, part), |ours, theirs| *ours += theirs);
            }
            prop_assert!(merged.len() <= capacities.0);
            holds_its_bounds(&merged, &[one, two, three].concat())?;
        }

        #[test]
        fn a_merged_sketch_goes_on_counting_within_its_bounds(one in stream(), two in stream(), three in stream()) {
            let mut merged = sketch(6, &one);
            merged.merge(&sketch(9, &two), |ours, theirs| *ours += theirs);
            for (key, weight) in &three {
                merged.add(*key, *weight);
            }
            holds_its_bounds(&merged, &[one, two, three].concat())?;
        }

        #[test]
        fn a_sketch_with_room_for_all_is_exact(stream in stream()) {
            let sketch = sketch(40, &stream);
            let exact = sketch.top(usize::MAX).iter().all(|frequent| {
                frequent.error == 0 && *frequent.value == frequent.count
            });
            prop_assert!(exact && sketch.floor() == 0);
        }

        #[test]
        fn a_sketch_read_from_another_has_its_bounds(capacity in 1_usize..24, stream in stream()) {
            let original = sketch(capacity, &stream);
            let mut copy = Sketch::new(capacity);
            for frequent in original.top(usize::MAX) {
                copy.insert(*frequent.key, (frequent.count, frequent.error), *frequent.value);
            }
            copy.raise(original.floor(), original.total());
            holds_its_bounds(&copy, &stream)?;
        }
    }

    #[test]
    fn the_most_frequent_come_first() {
        let sketch = sketch(3, &vec![(1, 5), (2, 9), (3, 5), (4, 1)]);
        // 4 took the cell of 1 or 3, and what that had counted
        let top = sketch.top(2);
        assert_eq!((*top[0].key, top[0].count, top[0].error), (2, 9, 0));
        assert_eq!((*top[1].key, top[1].count, top[1].error), (4, 6, 5));
        assert_eq!((sketch.len(), sketch.floor(), sketch.total()), (3, 5, 20));
    }

    #[test]
    fn a_key_that_takes_a_cell_carries_nothing_of_the_one_before() {
        let mut sketch = Sketch::new(1);
        *sketch.add(1, 7) = 7;
        assert_eq!(*sketch.add(2, 1), 0);
        assert!(!sketch.is_empty());
    }

    #[test]
    fn no_capacity_is_a_capacity_of_one() {
        assert_eq!(sketch(0, &vec![(1, 1), (2, 1)]).len(), 1);
    }
}
