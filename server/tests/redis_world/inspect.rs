//! What a server holds, and what it has been asked.

use std::collections::BTreeMap;

use redis::aio::ConnectionLike;
use redis::{Cmd, RedisResult, pipe};

use super::cluster::Cluster;
use super::server::Server;

/// Commands that connections and this harness send for themselves.
const OWN: [&str; 6] = ["auth", "client|", "cluster|", "hello", "info", "select"];

/// How many keys one SCAN looks at, and one pipeline asks about.
const BATCH: usize = 1_000;

/// PTTL's answer for a key that never expires; -2 is that of a key that is gone.
const NO_TTL: i64 = -1;

/// All keys that start with `prefix`, in order. Bytes that are no UTF-8 are shown as such.
pub async fn keys(connection: &mut impl ConnectionLike, prefix: &str) -> RedisResult<Vec<String>> {
    Ok(raw_keys(connection, prefix).await?.iter().map(|key| shown(key)).collect())
}

fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

async fn raw_keys(connection: &mut impl ConnectionLike, prefix: &str) -> RedisResult<Vec<Vec<u8>>> {
    let pattern = format!("{}*", escaped(prefix));
    let (mut all, mut cursor) = (Vec::new(), 0_u64);
    loop {
        let mut scan = Cmd::new();
        scan.arg("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(BATCH);
        let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
        all.extend(found);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    // SCAN may show a key twice
    all.sort();
    all.dedup();
    Ok(all)
}

/// The keys that start with `prefix` and would stay for ever.
pub async fn keys_without_ttl(
    connection: &mut impl ConnectionLike,
    prefix: &str,
) -> RedisResult<Vec<String>> {
    without_ttl(connection, prefix, false).await
}

/// `in_cluster`: a key of a slot that moves answers only to those who ask for it there.
async fn without_ttl(
    connection: &mut impl ConnectionLike,
    prefix: &str,
    in_cluster: bool,
) -> RedisResult<Vec<String>> {
    let mut found = Vec::new();
    for batch in raw_keys(connection, prefix).await?.chunks(BATCH) {
        let mut pipeline = pipe();
        for key in batch {
            if in_cluster {
                pipeline.cmd("ASKING").ignore();
            }
            pipeline.cmd("PTTL").arg(key.as_slice());
        }
        let left: Vec<i64> = pipeline.query_async(connection).await?;
        let lasting = batch.iter().zip(left).filter(|(_, left)| *left == NO_TTL);
        found.extend(lasting.map(|(key, _)| shown(key)));
    }
    Ok(found)
}

/// `text` for a pattern of SCAN in which every character stands for itself.
fn escaped(text: &str) -> String {
    let special = |character| matches!(character, '*' | '?' | '[' | ']' | '\\');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn assert_none(lasting: &[String]) {
    assert!(lasting.is_empty(), "{} keys never expire: {lasting:?}", lasting.len());
}

impl Server {
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        keys(&mut self.connection().await.unwrap(), prefix).await.unwrap()
    }

    pub async fn keys_without_ttl(&self, prefix: &str) -> Vec<String> {
        keys_without_ttl(&mut self.connection().await.unwrap(), prefix).await.unwrap()
    }

    pub async fn assert_all_have_ttl(&self, prefix: &str) {
        assert_none(&self.keys_without_ttl(prefix).await);
    }

    /// All commands since the start, those that scripts call too.
    pub async fn commands_processed(&self) -> u64 {
        self.info("stats", "total_commands_processed").await.parse().unwrap()
    }

    /// Calls per command since the start.
    pub async fn command_counts(&self) -> CommandCounts {
        let text: String = self.get(&["INFO", "commandstats"]).await;
        CommandCounts { calls: text.lines().filter_map(calls).collect() }
    }
}

impl Cluster {
    /// The keys of all masters, in order. A key that another task moves meanwhile may be missed.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut all = Vec::new();
        for master in self.masters().await {
            all.extend(self.node(master).keys(prefix).await);
        }
        all.sort();
        all.dedup();
        all
    }

    /// Right also between the steps of a [`super::Migration`], but not while another task takes them.
    pub async fn keys_without_ttl(&self, prefix: &str) -> Vec<String> {
        let mut all = Vec::new();
        for master in self.masters().await {
            let mut connection = self.node(master).connection().await.unwrap();
            all.extend(without_ttl(&mut connection, prefix, true).await.unwrap());
        }
        all
    }

    pub async fn assert_all_have_ttl(&self, prefix: &str) {
        assert_none(&self.keys_without_ttl(prefix).await);
    }

    /// Calls per command, summed over the masters: what replicas repeat does not count.
    pub async fn command_counts(&self) -> CommandCounts {
        let mut sum = CommandCounts::default();
        for master in self.masters().await {
            sum.add(&self.node(master).command_counts().await);
        }
        sum
    }
}

/// Calls per command. Names are in lower case, subcommands as in `config|get`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandCounts {
    calls: BTreeMap<String, u64>,
}

impl CommandCounts {
    /// The calls of one command, those of scripts included.
    pub fn of(&self, name: &str) -> u64 {
        self.calls.get(name).copied().unwrap_or_default()
    }

    /// All calls but those that connections and this harness make for themselves.
    pub fn total(&self) -> u64 {
        let own = |name: &str| OWN.iter().any(|own| name.starts_with(own));
        self.calls.iter().filter(|(name, _)| !own(name)).map(|(_, calls)| calls).sum()
    }

    /// What came after `earlier`, without commands that were not called.
    pub fn since(&self, earlier: &CommandCounts) -> CommandCounts {
        let new = self.calls.iter().map(|(name, calls)| (name.clone(), calls - earlier.of(name)));
        CommandCounts { calls: new.filter(|(_, calls)| *calls > 0).collect() }
    }

    fn add(&mut self, other: &CommandCounts) {
        for (name, calls) in &other.calls {
            *self.calls.entry(name.clone()).or_default() += calls;
        }
    }
}

/// A line such as `cmdstat_evalsha:calls=3,usec=41,...`.
fn calls(line: &str) -> Option<(String, u64)> {
    let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(':')?;
    let calls = figures.split(',').find_map(|figure| figure.strip_prefix("calls="))?;
    Some((name.to_owned(), calls.parse().ok()?))
}
