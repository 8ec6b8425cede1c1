//! What a server does beside its requests: counts itself among the servers, follows a cluster's slots, and on
//! request removes what is ours.

use std::time::Duration;

use redis::{Cmd, FromRedisValue as _, RedisError, Value, cmd};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::lane::{Probing, fault_of};
use super::{RedisStore, fault};
use crate::store::Fault;

/// How often a server says that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// Without a sign of life for this long a server counts no more, in microseconds.
const ALIVE: i64 = 6_000_000;
/// Keys that one step of a removal looks at.
const SCANNED: usize = 1_000;

impl RedisStore {
    /// Keeps the number of servers and the cluster's slots fresh, for as long as it is polled.
    pub async fn keep_up(&self) {
        let me = self.name();
        let mut probing: Option<Probing> = None;
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            match self.beat(&me, &mut probing).await {
                Ok(servers) => self.servers.set(servers),
                Err(fault) => {
                    // the count of before is the best there is
                    tracing::debug!(cause = fault.name(), "cannot count the servers");
                    probing = None;
                }
            }
        }
    }

    /// Counts no more among the servers. The others see it at their next look.
    ///
    /// # Errors
    /// Redis cannot be asked; then it counts for a few seconds more.
    pub async fn leave(&self) -> Result<(), Fault> {
        let mut probing = self.sender.lanes.probe().await.map_err(|error| fault_of(&error))?;
        let key = self.servers_key();
        let slot = super::key::slot(key.as_bytes());
        let gone = self.step(&mut probing, slot, command("ZREM", &[&key, &self.name()])).await;
        gone.map(|_| ()).map_err(|error| fault::of(&error))
    }

    /// The name of this server among the others.
    fn name(&self) -> String {
        format!("{:016x}", self.me)
    }

    fn servers_key(&self) -> String {
        format!("{}servers", self.sender.options.prefix)
    }

    async fn beat(&self, me: &str, kept: &mut Option<Probing>) -> Result<u64, Fault> {
        let mut probing = match kept.take() {
            Some(probing) => probing,
            None => self.sender.lanes.probe().await.map_err(|error| fault_of(&error))?,
        };
        self.sender.refresh(&mut probing).await?;
        let servers = self.count_servers(me, &mut probing).await.map_err(|error| fault::of(&error))?;
        *kept = Some(probing);
        Ok(servers)
    }

    /// A sorted set of servers by the time of their last sign of life, on Redis' clock.
    async fn count_servers(&self, me: &str, probing: &mut Probing) -> Result<u64, RedisError> {
        let key = self.servers_key();
        let slot = super::key::slot(key.as_bytes());
        let (secs, micros) = <(i64, i64)>::from_redis_value(self.step(probing, slot, cmd("TIME")).await?)?;
        let now = secs * 1_000_000 + micros;
        let commands = [
            command("ZADD", &[&key, &now.to_string(), me]),
            command("PEXPIRE", &[&key, &(ALIVE / 1_000).to_string()]),
            command("ZREMRANGEBYSCORE", &[&key, "-inf", &format!("({}", now - ALIVE)]),
            command("ZCARD", &[&key]),
        ];
        let mut last = Value::Nil;
        for command in commands {
            last = self.step(probing, slot, command).await?;
        }
        Ok(u64::from_redis_value(last)?)
    }

    async fn step(&self, probing: &mut Probing, slot: u16, command: Cmd) -> Result<Value, RedisError> {
        match timeout(self.sender.call_timeout(), probing.link().send(slot, command)).await {
            Ok(result) => result,
            Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        }
    }

    /// Removes every key that begins with our prefix, and no other. Returns how many there were.
    ///
    /// # Errors
    /// A server cannot be asked, or there is no prefix, so that ours cannot be told from others'.
    pub async fn clear(&self) -> Result<u64, Fault> {
        if self.sender.options.prefix.is_empty() {
            return Err(Fault::Forbidden);
        }
        let mut probing = self.sender.lanes.probe().await.map_err(|error| fault_of(&error))?;
        self.sender.refresh(&mut probing).await?;
        let masters = self.sender.topology.load().masters.clone();
        let places = if masters.is_empty() { vec![None] } else { masters.into_iter().map(Some).collect() };
        let mut removed = 0;
        for place in places {
            removed +=
                self.clear_one(&mut probing, place.as_ref()).await.map_err(|error| fault::of(&error))?;
        }
        Ok(removed)
    }

    async fn clear_one(
        &self,
        probing: &mut Probing,
        place: Option<&(String, u16)>,
    ) -> Result<u64, RedisError> {
        let pattern = format!("{}*", glob_escaped(&self.sender.options.prefix));
        let (mut cursor, mut removed) = (0_u64, 0);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCANNED);
            let answer = at(probing, place, scan).await?;
            let (next, keys) = <(u64, Vec<Vec<u8>>)>::from_redis_value(answer)?;
            for key in keys {
                let mut unlink = cmd("UNLINK");
                unlink.arg(key);
                removed += u64::from_redis_value(at(probing, place, unlink).await?)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(removed);
            }
        }
    }
}

async fn at(probing: &mut Probing, place: Option<&(String, u16)>, command: Cmd) -> Result<Value, RedisError> {
    match place {
        Some((host, port)) => probing.link().send_to(host, *port, command).await,
        None => probing.link().send_any(command).await,
    }
}

fn command(name: &str, arguments: &[&str]) -> Cmd {
    let mut command = cmd(name);
    command.arg(arguments);
    command
}

/// The text with everything escaped that a pattern of Redis would take for more than itself.
fn glob_escaped(text: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(glob_escaped("tg:*[x]?"), "tg:\\*\\[x\\]\\?");
    }
}
