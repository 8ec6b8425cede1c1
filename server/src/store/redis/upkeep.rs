//! What a server does beside its requests: counts itself among the servers, follows a cluster's slots, and on
//! request removes what is ours.

use std::time::Duration;

use redis::{Cmd, FromRedisValue as _, RedisError, Value, cmd};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tollgate_core::rules::Hit;
use tollgate_core::time::Time;

use super::fleet::Believed;
use super::lane::{Probing, fault_of};
use super::{RedisStore, fault};
use crate::fallback::Servers;
use crate::store::Fault;

/// How often a server says that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// Without a sign of life for this long a server counts no more, in microseconds.
pub(super) const ALIVE: i64 = 6_000_000;
/// Keys that one step of a removal looks at.
const SCANNED: usize = 1_000;

/// What one look at the servers shows.
#[derive(Clone, Copy, Debug)]
struct Seen {
    servers: u64,
    /// This one was not among them before.
    added: bool,
}

/// What is known of the number of servers.
#[derive(Debug, Default)]
struct Counted {
    any: bool,
    /// The set of servers was lost; until all had time to come back, lower counts are not believed.
    doubtful_until: Option<Instant>,
}

impl Counted {
    fn note(&mut self, seen: Seen, servers: &Servers) {
        let now = Instant::now();
        if self.any && seen.added {
            self.doubtful_until = Some(now + Duration::from_micros(ALIVE.unsigned_abs()));
        }
        self.any = true;
        if seen.servers >= servers.count() || self.doubtful_until.is_none_or(|until| now >= until) {
            servers.set(seen.servers);
        }
    }
}

impl RedisStore {
    /// Keeps the number of servers and the cluster's slots fresh, for as long as it is polled.
    pub async fn keep_up(&self) {
        let me = self.name();
        let mut probing: Option<Probing> = None;
        let (mut counted, mut believed) = (Counted::default(), Believed::default());
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            match self.beat(&me, &mut probing, &mut believed).await {
                Ok(seen) => counted.note(seen, &self.servers),
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
        gone.map_err(|error| fault::of(&error))?;
        self.part(&mut probing).await.map_err(|error| fault::of(&error))
    }

    /// The name of this server among the others.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:016x}", self.me)
    }

    fn servers_key(&self) -> String {
        match self.sender.options.prefix.as_str() {
            // without a prefix we are a guest: the name has to say whose it is
            "" => "tollgate:servers".to_owned(),
            prefix => format!("{prefix}servers"),
        }
    }

    async fn beat(
        &self,
        me: &str,
        kept: &mut Option<Probing>,
        believed: &mut Believed,
    ) -> Result<Seen, Fault> {
        let mut probing = match kept.take() {
            Some(probing) => probing,
            None => self.sender.lanes.probe().await.map_err(|error| fault_of(&error))?,
        };
        self.sender.refresh(&mut probing).await?;
        let servers = self.count_servers(me, &mut probing).await.map_err(|error| fault::of(&error))?;
        match self.meet(&mut probing, believed).await {
            Ok(()) => *kept = Some(probing),
            Err(fault) => tracing::debug!(cause = fault.name(), "cannot look for the other servers"),
        }
        Ok(servers)
    }

    /// A sorted set of servers by the time of their last sign of life, on Redis' clock.
    async fn count_servers(&self, me: &str, probing: &mut Probing) -> Result<Seen, RedisError> {
        let key = self.servers_key();
        let slot = super::key::slot(key.as_bytes());
        let (secs, micros) = <(i64, i64)>::from_redis_value(self.step(probing, slot, cmd("TIME")).await?)?;
        let now = secs * 1_000_000 + micros;
        let mut beat = redis::pipe();
        // all in one step, so that the set never stays behind without an end
        beat.atomic();
        beat.add_command(command("ZADD", &[&key, &now.to_string(), me]));
        beat.add_command(command("PEXPIRE", &[&key, &(ALIVE / 1_000).to_string()])).ignore();
        let gone = format!("({}", now - ALIVE);
        beat.add_command(command("ZREMRANGEBYSCORE", &[&key, "-inf", &gone])).ignore();
        beat.add_command(command("ZCARD", &[&key]));
        let patience = self.sender.call_timeout();
        let (added, servers): (u64, u64) = timeout(patience, probing.link().transaction(&beat))
            .await
            .unwrap_or_else(|_| Err(timed_out()))?;
        Ok(Seen { servers, added: added > 0 })
    }

    pub(super) async fn step(
        &self,
        probing: &mut Probing,
        slot: u16,
        command: Cmd,
    ) -> Result<Value, RedisError> {
        match timeout(self.sender.call_timeout(), probing.link().send(slot, command)).await {
            Ok(result) => result,
            Err(_) => Err(timed_out()),
        }
    }

    /// Removes the counters of `hits`; with the reference's layout, those of the window that `now` is in.
    ///
    /// # Errors
    /// A server cannot be asked; other counters may be gone.
    pub(super) async fn forget_counters(&self, hits: &[Hit<'_>], now: Time) -> Result<(), Fault> {
        let mut probing = self.sender.lanes.probe().await.map_err(|error| fault_of(&error))?;
        self.sender.refresh(&mut probing).await?;
        for name in self.names(hits, now) {
            let slot = name.slot();
            let mut unlink = cmd("UNLINK");
            unlink.arg(name.into_bytes());
            self.step(&mut probing, slot, unlink).await.map_err(|error| fault::of(&error))?;
        }
        Ok(())
    }

    /// Removes every key that begins with our prefix, and no other; circuits that people have forced stay so.
    /// Returns how many there were.
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
        let forced = self.fleet_key("overrides").into_bytes();
        let (mut cursor, mut removed) = (0_u64, 0);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCANNED);
            let answer = at(probing, place, scan).await?;
            let (next, keys) = <(u64, Vec<Vec<u8>>)>::from_redis_value(answer)?;
            for key in keys.into_iter().filter(|key| *key != forced) {
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

pub(super) fn timed_out() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

pub(super) fn command(name: &str, arguments: &[&str]) -> Cmd {
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

    #[tokio::test(start_paused = true)]
    async fn a_lost_set_of_servers_does_not_make_one_of_them_all() {
        let (servers, mut counted) = (Servers::new(9), Counted::default());
        let seen = |servers, added| Seen { servers, added };
        counted.note(seen(3, true), &servers);
        assert_eq!(servers.count(), 3, "the first look is believed");
        counted.note(seen(2, false), &servers);
        assert_eq!(servers.count(), 2, "one has left");
        counted.note(seen(1, true), &servers);
        assert_eq!(servers.count(), 2, "the set was lost");
        tokio::time::advance(Duration::from_secs(4)).await;
        counted.note(seen(4, false), &servers);
        assert_eq!(servers.count(), 4, "more is believed at once");
        counted.note(seen(1, false), &servers);
        assert_eq!(servers.count(), 4);
        tokio::time::advance(Duration::from_secs(2)).await;
        counted.note(seen(1, false), &servers);
        assert_eq!(servers.count(), 1, "all had time to come back");
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(glob_escaped("tg:*[x]?"), "tg:\\*\\[x\\]\\?");
    }
}
