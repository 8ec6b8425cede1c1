//! Section `[store]`: where the counters live.

use serde::{Deserialize, Serialize};

use super::redis::Redis;

/// `[store]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `memory` or `redis`; when nobody sets it: `redis` if there is a `store.redis.url`, else `memory`.
    /// Flag `--store`
    pub kind: StoreKind,
    /// Bounds of the store in memory.
    pub memory: Memory,
    /// The Redis to use.
    pub redis: Redis,
    /// What is remembered of the refusals of a Redis.
    pub denials: Denials,
}

/// The kinds of store.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In this process.
    #[default]
    Memory,
    /// In Redis, shared by all servers.
    Redis,
}

/// `[store.memory]`
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Most keys that are kept, `10000000`.
    pub max_keys: u64,
    /// Most bytes that they take, `2147483648` (2 GiB).
    pub max_bytes: u64,
    /// What a new key gets when the store is full, `deny`.
    pub on_full: OnFull,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { max_keys: 10_000_000, max_bytes: 2 << 30, on_full: OnFull::Deny }
    }
}

/// The answer to a new key when there is no room for it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// Refuse it: a flood of new keys never resets a used one.
    Deny,
    /// Admit it without counting.
    Allow,
    /// Forget another key for it.
    Evict,
}

/// `[store.denials]`: refusals of Redis that this process remembers, so that it need not ask again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Denials {
    /// Most bytes that they take, `16777216` (16 MiB), and `0` with `store.redis.layout = "reference"`; 0 remembers
    /// none. Other values below [`Denials::LEAST_BYTES`] are raised to it. `LOCAL_CACHE_SIZE_IN_BYTES`
    pub max_bytes: u64,
}

impl Denials {
    /// The smallest cache, in bytes; the reference's too.
    pub const LEAST_BYTES: u64 = 512 << 10;
}

impl Default for Denials {
    fn default() -> Denials {
        Denials { max_bytes: 16 << 20 }
    }
}
