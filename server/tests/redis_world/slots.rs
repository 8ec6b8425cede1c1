//! What a cluster node says about the cluster.

use redis::{FromRedisValue as _, Value};

use super::server::{Server, field};

/// A node as it sees itself.
pub struct Member {
    pub id: String,
    pub master: bool,
    /// The ID of its master, for a replica.
    pub master_id: String,
    /// Of two masters that claim a slot the one with the higher epoch is right.
    pub epoch: u64,
    slots: Vec<(u16, u16)>,
}

impl Member {
    /// `None` if it does not answer.
    pub async fn of(server: &Server) -> Option<Member> {
        let text = String::from_redis_value(server.try_command(&["CLUSTER", "NODES"]).await.ok()?).ok()?;
        text.lines().find(|line| line.contains("myself")).and_then(Member::parse)
    }

    /// A line such as `id 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-99 [100->-otherid]`.
    fn parse(line: &str) -> Option<Member> {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, _, flags, master_id, _, _, epoch, _, slots @ ..] = words.as_slice() else { return None };
        Some(Member {
            id: (*id).to_owned(),
            master: flags.split(',').any(|flag| flag == "master"),
            master_id: (*master_id).to_owned(),
            epoch: epoch.parse().ok()?,
            slots: slots.iter().filter_map(|range| parse_range(range)).collect(),
        })
    }

    pub fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }

    pub fn owns_any(&self) -> bool {
        self.master && !self.slots.is_empty()
    }

    pub fn first_slot(&self) -> Option<u16> {
        self.slots.first().map(|(first, _)| *first)
    }
}

/// `None` for a slot that is on its way.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// A line of CLUSTER SLOTS: first slot, last slot, the port of the master, the ports of the replicas in order.
pub type Range = (u16, u16, u16, Vec<u16>);

/// The slots as `server` tells them to clients. `None` if it does not answer.
pub async fn slots_seen_by(server: &Server) -> Option<Vec<Range>> {
    let answer = server.try_command(&["CLUSTER", "SLOTS"]).await.ok()?;
    let Value::Array(ranges) = answer else { return None };
    let mut ranges = ranges.into_iter().map(range).collect::<Option<Vec<Range>>>()?;
    ranges.sort();
    Some(ranges)
}

fn range(value: Value) -> Option<Range> {
    let Value::Array(parts) = value else { return None };
    let [first, last, nodes @ ..] = parts.as_slice() else { return None };
    let number = |value: &Value| u16::from_redis_value(value.clone()).ok();
    let port = |value: &Value| match value {
        Value::Array(node) => number(node.get(1)?),
        _ => None,
    };
    let ports: Vec<u16> = nodes.iter().filter_map(port).collect();
    let (master, replicas) = ports.split_first()?;
    let mut replicas = replicas.to_vec();
    replicas.sort_unstable();
    Some((number(first)?, number(last)?, *master, replicas))
}

/// Whether `server` serves its part of the cluster.
pub async fn is_ok(server: &Server) -> bool {
    let Ok(answer) = server.try_command(&["CLUSTER", "INFO"]).await else { return false };
    let text = String::from_redis_value(answer).unwrap_or_default();
    field(&text, "cluster_state") == Some("ok")
}

/// Whether `server` knows all of `count` nodes, past their first handshake.
pub async fn knows(server: &Server, count: usize) -> bool {
    let text: String = server.get(&["CLUSTER", "NODES"]).await;
    text.lines().count() == count && !text.contains("handshake")
}
