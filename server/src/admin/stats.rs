//! `/stats`: the state of the server.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::date::rfc3339;
use super::{Served, Shared};
use crate::config::watch::ConfigSnapshot;
use crate::store::{Fault, Remote, Usage};

pub(super) async fn show(State(served): Shared) -> Json<Value> {
    let metrics = &served.admin.metrics;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": served.since.elapsed().as_secs(),
        "rules": rules(&served),
        "config": config(&served.admin.config.snapshot()),
        "store": usage(&served.admin.store.usage()),
        "connections": object(metrics.connections()),
        "held_requests": metrics.held(),
        "unknown_domains": object(metrics.unknown_domains()),
    }))
}

fn rules(served: &Served) -> Value {
    let rules = served.admin.engine.rules();
    let Some(rules) = rules.as_ref() else { return Value::Null };
    json!({ "domains": rules.matcher().domains(), "rules": rules.matcher().rules().len() })
}

pub(super) fn config(config: &ConfigSnapshot) -> Value {
    json!({
        "last_load_ok": config.last_good_unix_ms.is_some() && config.problems.is_empty(),
        "last_attempt": (config.last_attempt_unix_ms > 0).then(|| rfc3339(config.last_attempt_unix_ms)),
        "last_good": config.last_good_unix_ms.map(rfc3339),
        "generation": config.generation,
        "files": config.files,
        "problems": config.problems,
        "warnings": config.warnings,
    })
}

pub(super) fn usage(usage: &Usage) -> Value {
    let Usage { keys, bytes, full, swept, remote, denials } = usage;
    let full = json!({ "denied": full.denied, "allowed": full.allowed, "evicted": full.evicted });
    let denials = denials
        .map(|denials| json!({ "keys": denials.keys, "hits": denials.hits, "saved_calls": denials.saved }));
    match remote {
        None => json!({ "kind": "memory", "keys": keys, "bytes": bytes, "full": full, "swept": swept }),
        Some(remote) => json!({
            "kind": "redis",
            "groups": remote.groups,
            "calls": remote.calls,
            "waiting": remote.waiting,
            "not_asked": remote.open,
            "servers": remote.servers,
            "faults": faults(remote),
            "replaced": { "other_algorithm": remote.replaced, "corrupt": remote.corrupt },
            "uncancelled": remote.uncancelled,
            "denials": denials,
        }),
    }
}

fn faults(remote: &Remote) -> Value {
    let faults = Fault::ALL.into_iter().zip(remote.faults).filter(|(_, times)| *times > 0);
    object(faults.map(|(fault, times)| (fault.name(), times)))
}

pub(super) fn object(entries: impl IntoIterator<Item = (impl Into<String>, u64)>) -> Value {
    Value::Object(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect::<Map<_, _>>())
}
