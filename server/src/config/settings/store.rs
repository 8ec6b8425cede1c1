//! Section `[store]`: where the counters live.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::secret::{Secret, SecretUrl};

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

/// `[store.redis]`: read and checked, but this version has no such store.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Address or list of addresses, empty. `REDIS_URL`
    pub url: SecretUrl,
    /// `single`, `sentinel` or `cluster`, `single`. `REDIS_TYPE`
    pub kind: RedisKind,
    /// `unix` or `tcp`, `unix` as the reference. `REDIS_SOCKET_TYPE`
    pub socket: RedisSocket,
    /// `password` or `user:password`, empty. `REDIS_AUTH`
    pub auth: Secret,
    /// The same for the sentinels, empty. `REDIS_SENTINEL_AUTH`
    pub sentinel_auth: Secret,
    /// TLS to Redis, `false`. `REDIS_TLS`
    pub tls: bool,
    /// Time to connect, `10s`. `REDIS_TIMEOUT`
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis {
            url: SecretUrl::default(),
            kind: RedisKind::Single,
            socket: RedisSocket::Unix,
            auth: Secret::default(),
            sentinel_auth: Secret::default(),
            tls: false,
            timeout: Duration::from_secs(10),
        }
    }
}

/// How the Redis servers stand together.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisKind {
    /// One server.
    Single,
    /// One server that sentinels name.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// How the Redis server is reached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisSocket {
    /// A Unix socket; the URL is its path.
    Unix,
    /// TCP.
    Tcp,
}
