//! `/console`: a page that shows what the server does while it does it.
//!
//! Once a second [`Console::keep`] notes a few sums, watched or not, so that the plots are full at once. Everything
//! else is gathered only while somebody watches, once for all who do, and told by server-sent events.

mod history;
mod keys;
mod overrides;
mod page;
mod rules;
mod snapshot;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::history::History;
use super::writes::{Denied, Writes};
use super::{Served, Shared};
use crate::breaker::Breakers;
use crate::config::settings::Effective;
use crate::config::watch::ConfigState;
use crate::engine::Engine;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// How often everything is told anew.
const SECOND: Duration = Duration::from_secs(1);
/// Viewers at a time.
const MOST_VIEWERS: usize = 64;
/// Longest body of a request to change something, in bytes.
const LONGEST_BODY: usize = 16 << 10;

/// Where the console looks.
pub struct ConsoleSources {
    /// The rules in force.
    pub engine: Arc<Engine>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What became of the latest loads.
    pub config: Arc<ConfigState>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Circuits, and the other servers.
    pub breakers: Arc<Breakers>,
}

/// What the console knows.
pub struct Console {
    sources: ConsoleSources,
    /// Settings with their origins: they never change.
    settings: Value,
    since: Instant,
    history: Mutex<History>,
    latest: tokio::sync::Mutex<Option<(Instant, Arc<str>)>>,
    news: watch::Sender<Arc<str>>,
}

impl Console {
    /// A console over `sources`; `effective` is shown as it is. Needs a runtime: its time begins now.
    ///
    /// # Errors
    /// A setting cannot be written.
    pub fn new(sources: ConsoleSources, effective: &Effective) -> anyhow::Result<Arc<Console>> {
        let row = |(key, value, origin): (String, String, String)| json!([key, value, origin]);
        Ok(Arc::new(Console {
            sources,
            settings: effective.rows()?.into_iter().map(row).collect(),
            since: Instant::now(),
            history: Mutex::new(History::new(Instant::now())),
            latest: tokio::sync::Mutex::default(),
            news: watch::Sender::new(Arc::from("")),
        }))
    }

    /// Notes what happens, and tells those who watch, for as long as it is polled.
    pub async fn keep(self: Arc<Console>) {
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            let console = self.clone();
            blocking(move || console.note_second()).await;
            if self.news.receiver_count() > 0 {
                let now = self.now(SECOND / 2).await;
                self.news.send_replace(now);
            }
        }
    }

    /// One second's sums. With thousands of rules this takes milliseconds.
    fn note_second(&self) {
        let sources = &self.sources;
        sources.metrics.hot().turn();
        let at = Instant::now();
        let mut history = self.history();
        history.note(history::Second {
            at,
            at_ms: self.unix_ms(),
            totals: sources.metrics.totals(),
            fallen: sources.metrics.fallen_back(),
            times: sources.store.call_times(),
        });
        if history.wants_rules(at) {
            history.note_rules(at, sources.metrics.rule_uses());
        }
    }

    /// What is the case now, not older than `age`.
    async fn now(self: &Arc<Console>, age: Duration) -> Arc<str> {
        let mut latest = self.latest.lock().await;
        if let Some((at, text)) = &*latest
            && at.elapsed() < age
        {
            return text.clone();
        }
        let peers = self.sources.breakers.peers().await;
        let console = self.clone();
        let text: Arc<str> = blocking(move || console.snapshot(peers).to_string()).await.into();
        *latest = Some((Instant::now(), text.clone()));
        text
    }

    /// Everything: what never changes, the past minutes, and now.
    async fn whole(self: &Arc<Console>, writes: &Writes) -> String {
        let now = self.now(SECOND).await;
        let fixed = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "writes": permission(writes),
            "settings": self.settings,
        });
        let history = self.history().points();
        format!("{{\"fixed\":{fixed},\"history\":{history},\"now\":{now}}}")
    }

    fn unix_ms(&self) -> u64 {
        self.sources.engine.now().as_micros() / 1_000
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may change something.
fn permission(writes: &Writes) -> &'static str {
    match writes.permit(&HeaderMap::new()) {
        Ok(()) => "open",
        Err(Denied::WrongToken(_)) => "token",
        Err(Denied::NoToken(_)) => "closed",
    }
}

/// Does `work` where it can take a while. It does not panic; if it did, so would whoever waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // the runtime ends, and this task with it
        Err(_) => std::future::pending().await,
    }
}

/// The routes of the console.
pub(super) fn routes() -> Router<Arc<Served>> {
    let mut routes = Router::new()
        .route("/console/events", get(stream::show))
        .route("/console/state", get(state))
        .route("/console/override", post(overrides::force).layer(DefaultBodyLimit::max(LONGEST_BODY)));
    for file in &page::FILES {
        routes = routes.route(file.path, get(async || page::show(file)));
    }
    routes
}

async fn state(State(served): Shared) -> Response {
    let whole = served.admin.console.whole(&served.admin.writes).await;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, whole).into_response()
}

#[cfg(test)]
mod tests;
