//! Counters that threads do not share.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Copies of a counter. More threads than this share some.
pub(super) const STRIPES: usize = 8;

/// Two cache lines, since x86 fetches lines in pairs: a write here disturbs no neighbour.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The copy of the calling thread, below [`STRIPES`]. No result depends on it, only who waits for whom.
#[inline]
pub(super) fn mine() -> usize {
    MINE.with(|mine| {
        let index = mine.get();
        if index < STRIPES { index } else { assign(mine) }
    })
}

#[cold]
fn assign(mine: &Cell<usize>) -> usize {
    let index = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
    mine.set(index);
    index
}

/// A total that many threads add to.
#[derive(Debug, Default)]
pub(super) struct Total([Apart<AtomicU64>; STRIPES]);

impl Total {
    #[inline]
    pub(super) fn add_one(&self) {
        if let Some(Apart(count)) = self.0.get(mine()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|Apart(count)| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    pub(super) fn clear(&self) {
        for Apart(count) in &self.0 {
            count.store(0, Ordering::Relaxed);
        }
    }
}
