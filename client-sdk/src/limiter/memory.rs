//! What is remembered for each key, in bounded memory.

use foldhash::quality::RandomState;
use moka::sync::Cache;

use super::key::Key;

/// A bounded number of keys; the ones used least make room. The hash is seeded by the process, since callers'
/// callers choose the keys.
pub(super) type Remembered<V> = Cache<Key, V, RandomState>;

/// Remembers about `keys` keys.
pub(super) fn remembered<V: Clone + Send + Sync + 'static>(keys: u64) -> Remembered<V> {
    Cache::builder().max_capacity(keys).build_with_hasher(RandomState::default())
}
