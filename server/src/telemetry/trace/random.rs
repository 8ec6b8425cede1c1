//! Identifiers by chance, without a lock.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};

use tollgate_core::load::random::SplitMix64;

thread_local! {
    /// This thread's generator.
    static RANDOM: Cell<Option<SplitMix64>> = const { Cell::new(None) };
}

/// 64 random bits. Not for secrets.
#[inline]
pub(super) fn next() -> u64 {
    RANDOM.with(|place| {
        let mut random = place.take().unwrap_or_else(|| SplitMix64::new(RandomState::new().hash_one(())));
        let bits = random.next_u64();
        place.set(Some(random));
        bits
    })
}

/// A trace's identifier whose lower half is `low`.
pub(super) fn trace_id(low: u64) -> [u8; 16] {
    ((u128::from(next() | 1) << 64) | u128::from(low)).to_be_bytes()
}

/// A span's identifier; never zero.
pub(super) fn span_id() -> [u8; 8] {
    next().max(1).to_be_bytes()
}
