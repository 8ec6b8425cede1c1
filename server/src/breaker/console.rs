//! What the console shows of circuits, and of the other servers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::timeout;
use tollgate_core::sketch::TopK;
use tollgate_proto::tollgate::v1 as wire;
use tonic::Status;

use super::relay::Client;
use super::{Breakers, circuits, encode};
use crate::telemetry::hot::{HotName, HotView, KEYS, Seen, Sketch};
use crate::telemetry::metrics::Metrics;

/// Longest time that another server may take.
const ANSWER: Duration = Duration::from_millis(600);
/// Keys of each kind that one server tells another.
const TOLD_KEYS: usize = 64;
/// Changes that it tells.
const TOLD_CHANGES: usize = 64;
/// Circuits of one server that are shown.
const SHOWN: u32 = 200;
/// Longest text of another server's that is taken, in bytes.
const LONGEST: usize = 512;

/// What one server tells the console of another.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its most frequent keys.
    pub hot: HotView,
    /// The latest changes of its circuits, as JSON.
    pub changes: Vec<Value>,
    /// Its circuits, as JSON.
    pub circuits: Vec<Value>,
}

/// Another server of the fleet.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name among the servers of one Redis.
    pub name: String,
    /// Its gRPC port.
    pub address: String,
    /// What it told, or why it did not.
    pub told: Result<Told, String>,
}

impl Breakers {
    /// Other servers may ask for the hot keys of `metrics` from now on; the first one stays.
    pub fn tell_hot_keys(&self, metrics: Arc<Metrics>) {
        let _first_stays = self.hot.set(metrics);
    }

    /// The address of this server, as the others know it; empty if there are no others.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.me.address
    }

    /// The name of this server among those of one Redis.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.me.name
    }

    /// What this server tells the consoles of others.
    pub(super) fn own_console(&self) -> wire::GetConsoleResponse {
        let changes = self.counts.history.latest(TOLD_CHANGES);
        let Some(metrics) = self.hot.get() else {
            return wire::GetConsoleResponse { changes, ..wire::GetConsoleResponse::default() };
        };
        let view = metrics.hot().view();
        wire::GetConsoleResponse {
            asked: Some(to_wire(&view.asked, view.now)),
            refused: Some(to_wire(&view.refused, view.now)),
            covers_seconds: view.covers,
            changes,
        }
    }

    /// The circuits of this server, and the latest changes of their states.
    #[must_use]
    pub fn own_circuits(&self) -> (Vec<Value>, Vec<Value>) {
        let page = circuits::Page { size: SHOWN as usize, ..circuits::Page::default() };
        let circuits = self.circuits.list(self.now(), &page, &self.me.address);
        let changes = self.counts.history.latest(TOLD_CHANGES);
        let shown = circuits.iter().map(circuit).collect();
        (shown, changes.iter().map(|change| json_of(change, &self.me.address)).collect())
    }

    /// What the other servers tell. One that does not within a moment is there with the reason.
    pub async fn peers(&self) -> Vec<Peer> {
        let now = self.hot.get().map_or(0, |metrics| metrics.hot().now());
        let asked = self.links.members().into_iter().map(async |member| {
            let told = match self.links.client(&member.name) {
                None => Err("it cannot be reached".to_owned()),
                Some(client) => told(client, &member.address, now).await,
            };
            Peer { name: member.name, address: member.address, told }
        });
        join_all(asked).await
    }

    /// Forces a circuit for whoever has permission, wherever it is.
    ///
    /// # Errors
    /// The wish makes no sense, or its owner cannot be asked.
    pub async fn force_circuit(&self, request: wire::SetOverrideRequest) -> Result<Value, Status> {
        self.force(request).await.map(|forced| circuit(&forced))
    }
}

async fn told(client: Client, address: &str, now: u64) -> Result<Told, String> {
    let (mut console, mut lister) = (client.clone(), client);
    let page = wire::ListCircuitsRequest { page_size: SHOWN, ..Default::default() };
    let both = async {
        tokio::try_join!(console.get_console(wire::GetConsoleRequest {}), lister.list_own_circuits(page),)
    };
    let (console, circuits) = match timeout(ANSWER, both).await {
        Ok(Ok((console, circuits))) => (console.into_inner(), circuits.into_inner().circuits),
        Ok(Err(status)) => return Err(status.message().to_owned()),
        Err(_) => return Err(format!("no answer within {} ms", ANSWER.as_millis())),
    };
    let covers = console.covers_seconds;
    let hot = HotView {
        asked: from_wire(console.asked.unwrap_or_default(), now),
        refused: from_wire(console.refused.unwrap_or_default(), now),
        covers,
        now,
    };
    let changes = console.changes.iter().map(|change| json_of(change, address)).collect();
    Ok(Told { hot, changes, circuits: circuits.iter().map(circuit).collect() })
}

fn circuit(circuit: &wire::Circuit) -> Value {
    let mut shown = encode::page(circuit);
    shown["owner"] = Value::from(circuit.owner.as_str());
    shown
}

fn json_of(change: &wire::CircuitChange, owner: &str) -> Value {
    let key = change.key.clone().unwrap_or_default();
    serde_json::json!({
        "namespace": key.namespace,
        "target": key.target,
        "shard": key.shard,
        "operation": key.operation,
        "at_ms": change.at_unix_ms,
        "from": change.from,
        "to": change.to,
        "reason": change.reason,
        "owner": owner,
    })
}

/// The most frequent; what the others may have counts into the floor.
fn to_wire(sketch: &Sketch, now: u64) -> wire::TopKeys {
    let top = sketch.top(TOLD_KEYS + 1);
    let next = top.get(TOLD_KEYS).map_or(0, |next| next.count);
    let keys = top.iter().take(TOLD_KEYS).map(|frequent| wire::TopKey {
        domain: frequent.key.domain.to_string(),
        rule: frequent.key.rule.to_string(),
        text: frequent.key.text.to_string(),
        count: frequent.count,
        error: frequent.error,
        variance: frequent.value.variance,
        used: frequent.value.used,
        limit: frequent.value.limit,
        retry_ms: frequent.value.retry_ms,
        seconds_ago: now.saturating_sub(frequent.value.second),
        shadow: frequent.value.shadow,
    });
    wire::TopKeys { keys: keys.collect(), floor: sketch.floor().max(next), total: sketch.total() }
}

/// The sketch of another server; `now` is our second.
fn from_wire(told: wire::TopKeys, now: u64) -> Sketch {
    let mut sketch = TopK::new(KEYS);
    for key in told.keys.into_iter().take(KEYS) {
        let texts = [&key.domain, &key.rule, &key.text];
        if texts.iter().any(|text| text.len() > LONGEST) {
            continue;
        }
        let seen = Seen {
            variance: key.variance,
            used: key.used,
            limit: key.limit,
            retry_ms: key.retry_ms,
            second: now.saturating_sub(key.seconds_ago),
            shadow: key.shadow,
        };
        let name = HotName { rule: key.rule.into(), domain: key.domain.into(), text: key.text.into() };
        sketch.insert(Arc::new(name), (key.count, key.error.min(key.count)), seen);
    }
    sketch.raise(told.floor, told.total);
    sketch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<HotName> {
        Arc::new(HotName { rule: "d.k".into(), domain: "d".into(), text: text.into() })
    }

    #[test]
    fn a_sketch_is_told_with_its_bounds() {
        let mut sketch: Sketch = TopK::new(KEYS);
        for number in 0..200_u64 {
            let seen = sketch.add(name(&format!("k={number}")), 1 + number);
            *seen = Seen { used: 3, limit: 5, second: 40, shadow: true, ..Seen::default() };
        }
        let read = from_wire(to_wire(&sketch, 42), 100);
        assert_eq!((read.len(), read.floor(), read.total()), (TOLD_KEYS, 136, sketch.total()));
        let top = read.top(1);
        assert_eq!((&*top[0].key.text, top[0].count, top[0].error), ("k=199", 200, 0));
        let expected = Seen { used: 3, limit: 5, second: 98, shadow: true, ..Seen::default() };
        assert_eq!(*top[0].value, expected);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let key =
            |text: &str, count, error| wire::TopKey { text: text.into(), count, error, ..Default::default() };
        let keys = vec![key(&"x".repeat(LONGEST + 1), 9, 0), key("k=1", 2, 7)];
        let read = from_wire(wire::TopKeys { keys, floor: 0, total: 2 }, 0);
        let top = read.top(9);
        assert_eq!((top.len(), top[0].count, top[0].error), (1, 2, 2));
    }
}
