//! The engine and the memory store on a clock that only the input moves: nothing waits, nothing is served.

use std::path::Path;
use std::sync::Arc;

use tollgate_core::rules::{Decision, Defaults, Matcher, Query};
use tollgate_core::time::{Span, Time};

use crate::clock::ManualClock;
use crate::config::compile::compile;
use crate::config::location::Location;
use crate::config::rules::Options;
use crate::config::ruleset::Ruleset;
use crate::config::settings::{Rules, duration};
use crate::engine::{Engine, Manner};
use crate::fallback::{Fallback, Servers};
use crate::store::Store as _;
use crate::store::memory::{Bounds, MemoryStore, OnFull};
use crate::telemetry::metrics::{MetricOptions, Metrics};

/// Share of a limit from which hits count as near it; nobody reads these counts.
const NEAR: f32 = 0.8;
/// Bytes that the counters may take for each key of the bound, about.
const BYTES_PER_KEY: u64 = 512;

/// The rules of a folder as the server would load them; every error in one text.
pub(super) fn rules(dir: &Path, options: Options) -> Result<Matcher, String> {
    let location = Location::folder(dir, options, Rules::default().max_file_bytes)?;
    let compiled =
        location.read().and_then(|sources| compile(&sources, &location.options, Defaults::default()));
    let texts = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    compiled.map(|compiled| compiled.matcher).map_err(texts)
}

/// `text` as a length of time, such as `90s`, `1m30s` or `15ms`.
pub(super) fn span(text: &str) -> Option<Span> {
    let time = duration::parse(text)?;
    Some(Span::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
}

/// `text` as a point in time, RFC 3339, from 1970 on.
pub(super) fn instant(text: &str) -> Option<Time> {
    let micros = text.trim().parse::<jiff::Timestamp>().ok()?.as_microsecond();
    u64::try_from(micros).ok().map(Time::from_micros)
}

/// `time` as RFC 3339.
pub(super) fn shown(time: Time) -> String {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

/// Rules with counters of their own.
pub(super) struct DryRun {
    engine: Engine,
    rules: Ruleset,
    store: Arc<MemoryStore>,
}

impl DryRun {
    /// Fresh counters for the rules of `matcher`, at most `max_keys` of them; what ends first makes room.
    pub(super) fn new(matcher: Matcher, max_keys: u64) -> DryRun {
        let metrics = Arc::new(Metrics::new(MetricOptions {
            near_limit_ratio: NEAR,
            reference_names: false,
            stripes: 1,
            response_time_as_milliseconds: false,
        }));
        let max_bytes = max_keys.saturating_mul(BYTES_PER_KEY);
        let store = Arc::new(MemoryStore::new(Bounds { max_keys, max_bytes, on_full: OnFull::Evict }));
        let fallback = Arc::new(Fallback::new(Servers::new(1)));
        let rules = Ruleset::new(matcher, &metrics);
        let clock = Arc::new(ManualClock::default());
        DryRun { engine: Engine::new(store.clone(), fallback, clock, metrics), rules, store }
    }

    /// Decides `query` at `now`; nobody is held back.
    pub(super) fn decide(&self, query: &Query<'_>, now: Time) -> Result<Decision<'_>, String> {
        let manner = Manner { now: Some(now), ..Manner::default() };
        match self.engine.decide_unheld(&self.rules, query, manner) {
            Some(decided) => decided.map_err(|error| error.to_string()),
            None => Err("the memory store has to answer at once".to_owned()),
        }
    }

    /// How many used counters were dropped to make room for others.
    pub(super) fn evicted(&self) -> u64 {
        self.store.usage().full.evicted
    }
}
