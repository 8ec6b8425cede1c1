//! What the servers of one Redis know of each other besides their number: where each can be reached, and the
//! circuits that people have forced.

use std::sync::OnceLock;
use std::time::Duration;

use redis::{FromRedisValue as _, RedisError, cmd};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::lane::{Probing, fault_of};
use super::upkeep::{ALIVE, command, timed_out};
use super::{RedisStore, fault};
use crate::store::Fault;

/// Forced circuits stay this long after the last server has gone, in milliseconds: 30 days.
const KEPT: &str = "2592000000";
/// The field with the time of the last change; the others are JSON and begin with a bracket.
const VERSION: &str = "version";

/// What one look at the other servers shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roll {
    /// The records of all servers that live, this one among them; sorted.
    pub members: Vec<String>,
    /// When a forced circuit last changed, by Redis' clock in microseconds; 0 if there is none.
    pub overrides: u64,
}

/// The circuits that people have forced, as they are stored.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forced {
    /// Redis' clock, microseconds since 1970.
    pub now: u64,
    /// Which change they are of.
    pub version: u64,
    /// Field and value of each.
    pub entries: Vec<(String, String)>,
}

/// What this server says of itself, and what it heard of the others.
#[derive(Debug, Default)]
pub(super) struct Fleet(OnceLock<Advertised>);

#[derive(Debug)]
struct Advertised {
    record: String,
    seen: watch::Sender<Roll>,
}

/// What is believed of the other servers.
#[derive(Debug, Default)]
pub(super) struct Believed {
    members: Vec<String>,
    /// The set was lost; until all had time to come back, those of before are believed in too.
    doubtful_until: Option<Instant>,
}

impl Believed {
    fn note(&mut self, seen: &mut Vec<String>, added: bool) {
        let now = Instant::now();
        if added && !self.members.is_empty() {
            self.doubtful_until = Some(now + Duration::from_micros(ALIVE.unsigned_abs()));
        }
        if self.doubtful_until.is_some_and(|until| now < until) {
            seen.append(&mut self.members);
        }
        seen.sort_unstable();
        seen.dedup();
        self.members.clone_from(seen);
    }
}

impl RedisStore {
    /// Tells the other servers `record` from now on, and says what they tell. The first call counts: later
    /// ones hear the same.
    pub fn advertise(&self, record: String) -> watch::Receiver<Roll> {
        let fresh = || Advertised { record, seen: watch::Sender::new(Roll::default()) };
        self.fleet.0.get_or_init(fresh).seen.subscribe()
    }

    /// Looks who is there, and says that this server is.
    pub(super) async fn meet(&self, probing: &mut Probing, believed: &mut Believed) -> Result<(), Fault> {
        let Some(Advertised { record, seen }) = self.fleet.0.get() else { return Ok(()) };
        let met = self.call_the_roll(record, probing).await.map_err(|error| fault::of(&error))?;
        let (mut members, added, overrides) = met;
        believed.note(&mut members, added);
        seen.send_if_modified(|roll| {
            let new = Roll { members, overrides };
            let differs = *roll != new;
            *roll = new;
            differs
        });
        Ok(())
    }

    async fn call_the_roll(
        &self,
        record: &str,
        probing: &mut Probing,
    ) -> Result<(Vec<String>, bool, u64), RedisError> {
        let (peers, overrides) = (self.fleet_key("peers"), self.fleet_key("overrides"));
        let slot = super::key::slot(peers.as_bytes());
        let (secs, micros) = <(i64, i64)>::from_redis_value(self.step(probing, slot, cmd("TIME")).await?)?;
        let now = secs * 1_000_000 + micros;
        let mut look = redis::pipe();
        look.atomic();
        look.add_command(command("ZADD", &[&peers, &now.to_string(), record]));
        look.add_command(command("PEXPIRE", &[&peers, &(ALIVE / 1_000).to_string()])).ignore();
        let gone = format!("({}", now - ALIVE);
        look.add_command(command("ZREMRANGEBYSCORE", &[&peers, "-inf", &gone])).ignore();
        look.add_command(command("ZRANGE", &[&peers, "0", "-1"]));
        look.add_command(command("PEXPIRE", &[&overrides, KEPT])).ignore();
        look.add_command(command("HGET", &[&overrides, VERSION]));
        let patience = self.sender.call_timeout();
        let (added, members, version): (u64, Vec<String>, Option<u64>) =
            timeout(patience, probing.link().transaction(&look))
                .await
                .unwrap_or_else(|_| Err(timed_out()))?;
        Ok((members, added > 0, version.unwrap_or_default()))
    }

    /// Is no peer of the others any more.
    pub(super) async fn part(&self, probing: &mut Probing) -> Result<(), RedisError> {
        let Some(Advertised { record, .. }) = self.fleet.0.get() else { return Ok(()) };
        let peers = self.fleet_key("peers");
        let slot = super::key::slot(peers.as_bytes());
        self.step(probing, slot, command("ZREM", &[&peers, record])).await.map(|_| ())
    }

    /// All circuits that people have forced.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn overrides(&self) -> Result<Forced, Fault> {
        let mut probing = self.sender.lanes.probe().await.map_err(|error| fault_of(&error))?;
        self.sender.refresh(&mut probing).await?;
        self.read_overrides(&mut probing).await.map_err(|error| fault::of(&error))
    }

    async fn read_overrides(&self, probing: &mut Probing) -> Result<Forced, RedisError> {
        let key = self.fleet_key("overrides");
        let slot = super::key::slot(key.as_bytes());
        let (secs, micros) = <(u64, u64)>::from_redis_value(self.step(probing, slot, cmd("TIME")).await?)?;
        let all = self.step(probing, slot, command("HGETALL", &[&key])).await?;
        let mut forced = Forced { now: secs * 1_000_000 + micros, ..Forced::default() };
        for (field, value) in <Vec<(String, String)>>::from_redis_value(all)? {
            if field == VERSION {
                forced.version = value.parse().unwrap_or_default();
            } else {
                forced.entries.push((field, value));
            }
        }
        Ok(forced)
    }

    /// Stores what `field` is forced to, or with `None` that it is not any more. Redis' own time of then,
    /// microseconds since 1970, is given to `value`. Returns which change there was before, and which this is.
    ///
    /// # Errors
    /// Redis cannot be asked, or does not take it.
    pub async fn set_override(
        &self,
        field: &str,
        value: impl FnOnce(u64) -> Option<String>,
    ) -> Result<(u64, u64), Fault> {
        let mut probing = self.sender.lanes.probe().await.map_err(|error| fault_of(&error))?;
        self.sender.refresh(&mut probing).await?;
        let key = self.fleet_key("overrides");
        let slot = super::key::slot(key.as_bytes());
        let time = self.step(&mut probing, slot, cmd("TIME")).await.map_err(|error| fault::of(&error))?;
        let (secs, micros) =
            <(u64, u64)>::from_redis_value(time).map_err(|error| fault::of(&error.into()))?;
        let now = secs * 1_000_000 + micros;
        let mut change = redis::pipe();
        change.atomic();
        change.add_command(command("HGET", &[&key, VERSION]));
        match value(now) {
            Some(value) => change.add_command(command("HSET", &[&key, field, &value])).ignore(),
            None => change.add_command(command("HDEL", &[&key, field])).ignore(),
        };
        // the time, so that no number comes twice even if Redis forgets
        change.add_command(command("HSET", &[&key, VERSION, &now.to_string()])).ignore();
        change.add_command(command("PEXPIRE", &[&key, KEPT])).ignore();
        let patience = self.sender.call_timeout();
        let before: Result<(Option<u64>,), RedisError> =
            timeout(patience, probing.link().transaction(&change)).await.unwrap_or_else(|_| Err(timed_out()));
        let (before,) = before.map_err(|error| fault::of(&error))?;
        Ok((before.unwrap_or_default(), now))
    }

    /// Both names have one hash tag: one look at both is one step.
    pub(super) fn fleet_key(&self, name: &str) -> String {
        match self.sender.options.prefix.as_str() {
            "" => format!("tollgate:{{fleet}}:{name}"),
            prefix => format!("{prefix}{{fleet}}:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_set_of_servers_does_not_make_the_others_vanish() {
        let mut believed = Believed::default();
        let mut note = |names: &[&str], added| {
            let mut members = seen(names);
            believed.note(&mut members, added);
            members
        };
        assert_eq!(note(&["a"], true), ["a"], "the first look is believed");
        assert_eq!(note(&["b", "a"], false), ["a", "b"]);
        assert_eq!(note(&["a"], true), ["a", "b"], "the set was lost");
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(note(&["a", "c"], false), ["a", "b", "c"], "whoever is new is believed at once");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(note(&["a", "c"], false), ["a", "c"], "all had time to come back");
    }
}
