//! Section `[store.redis]`: where Redis is, how it is used, and what a start without it does.

mod address;
mod check;

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::address::{RedisAddress, RedisAddresses, RedisLogin, RedisPlace};
pub(super) use self::check::{problems, warnings};
use super::duration;
use super::secret::{Secret, SecretUrl};
use super::text::optional_path;

/// Most bytes of a prefix: every key in Redis begins with it.
const MAX_PREFIX: usize = 64;

/// `[store.redis]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Address or list of addresses, empty; [`Redis::addresses`] has the forms. `REDIS_URL`
    pub url: SecretUrl,
    /// `single`, `sentinel` or `cluster`, `single`. `REDIS_TYPE`
    pub kind: RedisKind,
    /// How an address without a scheme is meant, `auto`. `REDIS_SOCKET_TYPE`
    pub socket: RedisSocket,
    /// `password` or `user:password`, empty. `REDIS_AUTH`
    pub auth: Secret,
    /// File that holds the same, empty; read at the start. `REDIS_AUTH_FILE`
    #[serde(with = "optional_path")]
    pub auth_file: Option<PathBuf>,
    /// The same for the sentinels, empty. `REDIS_SENTINEL_AUTH`
    pub sentinel_auth: Secret,
    /// TLS to Redis and to the sentinels, `false`; an address with `rediss://` makes it `true`. `REDIS_TLS`
    pub tls: bool,
    /// PEM file of the authorities that the servers' certificates are checked against, empty: the system's.
    /// `REDIS_TLS_CACERT`
    #[serde(with = "optional_path")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file of the client's certificate, empty. `REDIS_TLS_CLIENT_CERT`
    #[serde(with = "optional_path")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key, empty. `REDIS_TLS_CLIENT_KEY`
    #[serde(with = "optional_path")]
    pub tls_key: Option<PathBuf>,
    /// The servers' certificates may be for other hosts, `false`. `REDIS_TLS_SKIP_HOSTNAME_VERIFICATION`
    pub tls_skip_hostname_verification: bool,
    /// Longest time to connect, `10s`, more than 0. `REDIS_TIMEOUT`
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Longest wait for one answer, `100ms`, more than 0; the caller's own deadline counts too. `REDIS_OP_TIMEOUT`
    #[serde(with = "duration")]
    pub call_timeout: Duration,
    /// Number of the database, `0` (or what the URL says), from 0 to 15; a cluster has only 0.
    pub database: u8,
    /// What the names of all keys begin with, `tg:`, and nothing with `layout = "reference"`; at most 64 printable
    /// ASCII characters without `{` and `}`, which would place all keys of a cluster in one slot. `CACHE_KEY_PREFIX`
    #[serde(deserialize_with = "prefix")]
    pub prefix: String,
    /// `tollgate` or `reference`, `tollgate`: whose key names and accounting.
    pub layout: RedisLayout,
    /// Replicas that have to confirm each charge, `0`, from 0 to 16.
    pub wait_replicas: u32,
    /// Connections to each Redis server, `0` = one per worker, up to 64. All requests share them.
    pub lanes: u32,
    /// Requests that may wait for one Redis server, `4096`, from 1 to 1000000; further ones are answered by the
    /// rules' `on_overload`.
    pub max_waiting: u64,
    /// Servers of tollgate that `on_failure: local` divides limits by as long as Redis has not told their number,
    /// `0` = unknown, up to 100000.
    pub replicas: u64,
    /// What a start does while Redis does not answer, `wait`.
    pub at_start: RedisAtStart,
    /// With `at_start = "wait"`: the server gives up and exits after this long, `0s` = never.
    /// `REDIS_STARTUP_MAX_ELAPSED_TIME`
    #[serde(with = "duration")]
    pub startup_timeout: Duration,
    /// Not healthy while no connection to Redis works, `false`. `REDIS_HEALTH_CHECK_ACTIVE_CONNECTION`
    pub health_check: bool,
    /// With `layout = "reference"`: up to this many seconds are added to the life of a key, `300`, from 0 to 86400.
    /// `EXPIRATION_JITTER_MAX_SECONDS`
    pub expiration_jitter_secs: u64,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis {
            url: SecretUrl::default(),
            kind: RedisKind::Single,
            socket: RedisSocket::Auto,
            auth: Secret::default(),
            auth_file: None,
            sentinel_auth: Secret::default(),
            tls: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls_skip_hostname_verification: false,
            timeout: Duration::from_secs(10),
            call_timeout: Duration::from_millis(100),
            database: 0,
            prefix: "tg:".to_owned(),
            layout: RedisLayout::Tollgate,
            wait_replicas: 0,
            lanes: 0,
            max_waiting: 4_096,
            replicas: 0,
            at_start: RedisAtStart::Wait,
            startup_timeout: Duration::ZERO,
            health_check: false,
            expiration_jitter_secs: 300,
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

/// How an address without a scheme is meant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisSocket {
    /// As the path of a Unix socket if it begins with `/` or `.`, else as `host:port`.
    Auto,
    /// As the path of a Unix socket, whatever it looks like: the reference's default.
    Unix,
    /// As `host:port`.
    Tcp,
}

/// What a start does while Redis does not answer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisAtStart {
    /// The ports are open, and the server is not ready until Redis answers.
    Wait,
    /// The server is ready at once; the rules' `on_failure` answers until Redis does.
    Serve,
    /// The server exits with an error.
    Refuse,
}

/// Whose key names and accounting.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisLayout {
    /// Ours.
    Tollgate,
    /// Those of envoyproxy/ratelimit, so that both servers can share one Redis.
    Reference,
}

/// Something wrong with these settings.
#[derive(Debug)]
struct Flaw {
    /// The setting that is wrong, as in `store.redis.url`.
    key: &'static str,
    /// What is wrong, without any secret.
    why: String,
}

impl Flaw {
    fn new(key: &'static str, why: impl Into<String>) -> Flaw {
        Flaw { key, why: why.into() }
    }
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_allowed = |byte: u8| (b' '..=b'~').contains(&byte) && !b"{}".contains(&byte);
    if text.len() <= MAX_PREFIX && text.bytes().all(is_allowed) {
        return Ok(text);
    }
    Err(Error::custom("not a prefix"))
}
