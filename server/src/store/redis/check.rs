//! What kind of Redis this is: looked at when a server starts, and by whoever clears it.

use std::fmt;

use redis::{FromRedisValue as _, Value, cmd};

use super::lane::{Probing, fault_of};
use super::{RedisStore, fault};
use crate::store::Fault;

/// The oldest Redis that has everything the script uses (`SET … PXAT`).
const OLDEST: (u32, u32) = (6, 2);

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// `redis` or `valkey`.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// Servers that were looked at.
    pub servers: usize,
    /// Why keys of ours may vanish before their time; empty if they may not.
    pub eviction: Option<String>,
}

/// A Redis that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// It did not answer.
    Fault(Fault, String),
    /// Its version is below 6.2.
    Version(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Fault(fault, error) => write!(f, "Redis cannot be used: {fault}: {error}"),
            Unusable::Version(version) => {
                write!(f, "Redis {version} is too old: at least {}.{} is needed", OLDEST.0, OLDEST.1)
            }
        }
    }
}

impl RedisStore {
    /// Connects and looks at every server.
    ///
    /// # Errors
    /// One cannot be reached or is too old.
    pub async fn check(&self) -> Result<Found, Unusable> {
        let mut probing = self
            .sender
            .lanes
            .probe()
            .await
            .map_err(|error| Unusable::Fault(fault_of(&error), error.to_string()))?;
        self.sender
            .refresh(&mut probing)
            .await
            .map_err(|fault| Unusable::Fault(fault, "it does not tell its slots".to_owned()))?;
        let masters = self.sender.topology.load().masters.clone();
        let mut found: Option<Found> = None;
        let places = if masters.is_empty() { vec![None] } else { masters.into_iter().map(Some).collect() };
        for place in &places {
            let info = self.info(&mut probing, place.as_ref()).await?;
            let one = read(&info, places.len())?;
            let eviction = found.and_then(|found| found.eviction).or_else(|| one.eviction.clone());
            found = Some(Found { eviction, ..one });
        }
        found.ok_or_else(|| Unusable::Fault(Fault::Garbled, "there is no server".to_owned()))
    }

    async fn info(&self, probing: &mut Probing, place: Option<&(String, u16)>) -> Result<String, Unusable> {
        let mut command = cmd("INFO");
        let answer = match place {
            Some((host, port)) => probing.link().send_to(host, *port, command).await,
            None => {
                command.arg("everything");
                probing.any(command, self.sender.call_timeout()).await
            }
        };
        let text = answer.and_then(|answer: Value| Ok(String::from_redis_value(answer)?));
        text.map_err(|error| Unusable::Fault(fault::of(&error), error.to_string()))
    }
}

fn read(info: &str, servers: usize) -> Result<Found, Unusable> {
    let field = |name: &str| {
        let value =
            |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned());
        info.lines().find_map(value)
    };
    // Valkey tells the version of Redis that it is compatible with, and its own
    let compatible = field("redis_version").unwrap_or_default();
    if parsed(&compatible).is_none_or(|version| version < OLDEST) {
        return Err(Unusable::Version(compatible));
    }
    let (name, version) = match field("valkey_version") {
        Some(version) => ("valkey", version),
        None => ("redis", compatible),
    };
    let policy = field("maxmemory_policy").unwrap_or_default();
    let bounded = field("maxmemory").is_some_and(|bytes| bytes != "0");
    let evicts = bounded && !policy.is_empty() && policy != "noeviction";
    let eviction = evicts.then(|| {
        format!("maxmemory-policy is {policy}: under pressure Redis forgets counters; set noeviction")
    });
    Ok(Found { name: name.to_owned(), version, servers, eviction })
}

fn parsed(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text: &str| read(&format!("# Server\r\nredis_version:{text}\r\n"), 1).is_ok();
        assert_eq!(["6.2.0", "7.0.15", "10.1.0"].map(version), [true; 3]);
        assert_eq!(["6.0.16", "5.0.7", "", "x"].map(version), [false; 4]);
    }

    #[test]
    fn valkey_is_told_by_its_own_version() {
        let found = read("redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n", 3).unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str(), found.servers), ("valkey", "8.1.0", 3));
    }

    #[test]
    fn a_policy_that_can_evict_our_keys_is_named() {
        let eviction = |memory: &str, policy: &str| {
            let info = format!("redis_version:7.0.0\r\nmaxmemory:{memory}\r\nmaxmemory_policy:{policy}\r\n");
            read(&info, 1).unwrap().eviction
        };
        assert!(eviction("1000", "volatile-ttl").unwrap().contains("volatile-ttl"));
        assert_eq!(eviction("1000", "noeviction"), None);
        assert_eq!(eviction("0", "allkeys-lru"), None, "without a bound nothing is evicted");
    }
}
