//! Everything that is the case at one moment.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Console, keys, rules};
use crate::admin::stats;
use crate::breaker::Peer;

/// Circuits that are shown, and changes of their states.
const CIRCUITS: usize = 200;
const CHANGES: usize = 100;

/// Circuits by how much they should be looked at.
const STATES: [&str; 5] = ["open", "half_open", "recovering", "forced_open", "disabled"];

impl Console {
    /// What is the case now; `peers` are the other servers.
    pub(super) fn snapshot(&self, peers: Vec<Peer>) -> Value {
        let sources = &self.sources;
        let view = keys::merged(sources.metrics.hot().view(), &peers);
        let (point, log, window) = {
            let history = self.history();
            (history.latest(), history.log(), history.window(Instant::now()))
        };
        let rules = sources.engine.rules();
        let uses = sources.metrics.rule_uses();
        let mut store = stats::usage(&sources.store.usage());
        store["up"] = sources.store.is_up().into();
        json!({
            "at_ms": self.unix_ms(),
            "uptime_seconds": self.since.elapsed().as_secs(),
            "server": { "name": sources.breakers.name(), "address": sources.breakers.address() },
            "point": point,
            "keys": keys::show(&view),
            "rules": rules::show(rules.as_deref(), uses, &window, &keys::fullest(&view)),
            "peers": peers.iter().map(peer).collect::<Vec<_>>(),
            "breakers": self.breakers(peers),
            "store": store,
            "fallbacks": log,
            "config": stats::config(&sources.config.snapshot()),
            "connections": stats::object(sources.metrics.connections()),
            "held": sources.metrics.held(),
            "unknown_domains": stats::object(sources.metrics.unknown_domains()),
        })
    }

    fn breakers(&self, peers: Vec<Peer>) -> Value {
        let (mut circuits, mut changes) = self.sources.breakers.own_circuits();
        for told in peers.into_iter().filter_map(|peer| peer.told.ok()) {
            circuits.extend(told.circuits);
            changes.extend(told.changes);
        }
        let of = circuits.len();
        circuits.sort_by_key(urgency);
        circuits.truncate(CIRCUITS);
        changes.sort_by_key(|change| std::cmp::Reverse(change["at_ms"].as_u64()));
        changes.truncate(CHANGES);
        json!({ "of": of, "shown": circuits, "changes": changes })
    }
}

/// Forced circuits first, then those that hold something back.
fn urgency(circuit: &Value) -> (bool, usize, String) {
    let state = circuit["state"].as_str().unwrap_or_default();
    let place = STATES.iter().position(|known| *known == state).unwrap_or(STATES.len());
    (circuit["override"].is_null(), place, format!("{}/{}", circuit["namespace"], circuit["target"]))
}

fn peer(peer: &Peer) -> Value {
    json!({ "name": peer.name, "address": peer.address, "silent": peer.told.as_ref().err() })
}
