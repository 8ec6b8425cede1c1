//! The most frequent keys of the whole fleet.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde_json::{Value, json};

use super::history::rate;
use crate::breaker::Peer;
use crate::telemetry::hot::{HotView, Seen, Sketch};

/// Keys of each kind that are shown.
const SHOWN: usize = 20;

/// How much of its limit the fullest known key of a rule has used.
pub(super) struct Fullest {
    pub(super) key: Box<str>,
    pub(super) percent: u64,
}

/// By the path of the rule.
pub(super) type Fullests = HashMap<Box<str>, Fullest, RandomState>;

/// Adds what other servers have seen to what this one has.
pub(super) fn merged(mut view: HotView, peers: &[Peer]) -> HotView {
    for told in peers.iter().filter_map(|peer| peer.told.as_ref().ok()) {
        view.asked.merge(&told.hot.asked, Seen::join);
        view.refused.merge(&told.hot.refused, Seen::join);
        view.covers = view.covers.max(told.hot.covers);
    }
    view
}

/// The tables of keys.
pub(super) fn show(view: &HotView) -> Value {
    json!({
        "covers_seconds": view.covers.max(1),
        "asked": table(&view.asked, view),
        "refused": table(&view.refused, view),
        "asked_total": view.asked.total(),
        "refused_total": view.refused.total(),
    })
}

fn table(sketch: &Sketch, view: &HotView) -> Value {
    let row = |frequent: &tollgate_core::sketch::Frequent<'_, _, Seen>| {
        let (name, seen): (&std::sync::Arc<crate::telemetry::hot::HotName>, _) =
            (frequent.key, frequent.value);
        let noise = seen.noise();
        json!({
            "domain": name.domain,
            "rule": name.rule,
            "key": name.text,
            "count": frequent.count,
            "low": frequent.count.saturating_sub(frequent.error.saturating_add(noise)),
            "high": frequent.count.saturating_add(noise),
            "per_second": rate(frequent.count, view.covers.max(1) as f64),
            "used": seen.used,
            "limit": seen.limit,
            "retry_ms": (seen.retry_ms != u64::MAX).then_some(seen.retry_ms),
            "seconds_ago": view.now.saturating_sub(seen.second),
            "shadow": seen.shadow,
        })
    };
    sketch.top(SHOWN).iter().map(row).collect()
}

/// The fullest key of each rule, among those that are known.
pub(super) fn fullest(view: &HotView) -> Fullests {
    let mut fullest = Fullests::default();
    let all = [view.asked.top(usize::MAX), view.refused.top(usize::MAX)];
    for frequent in all.iter().flatten() {
        let Seen { used, limit, .. } = *frequent.value;
        let percent = used.saturating_mul(100).checked_div(limit).unwrap_or(100).min(100);
        let known = fullest.get(&frequent.key.rule).map(|known| known.percent);
        if known.is_none_or(|known| percent > known) {
            let key = frequent.key.text.clone();
            fullest.insert(frequent.key.rule.clone(), Fullest { key, percent });
        }
    }
    fullest
}
