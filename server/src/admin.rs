//! The admin port: metrics, the rules in force, the state of the server, the log level.

mod circuits;
mod console;
mod date;
mod log;
mod rlconfig;
mod stats;
mod store;
mod writes;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::time::Instant;

pub use self::circuits::CircuitsPage;
pub use self::console::{Console, ConsoleSources};
pub(crate) use self::writes::Denied;
pub use self::writes::Writes;
pub(crate) use self::writes::{bearer, same, vouch};
use crate::config::watch::ConfigState;
use crate::engine::Engine;
use crate::store::Store;
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::page;

/// Every path of this port with its help, in order.
const ENDPOINTS: [(&str, &str); 10] = [
    ("/", "this list"),
    ("/circuits", "circuits that this server owns as JSON, the first thousand"),
    ("/console", "the console, a web page; live events at /console/events"),
    ("/console/override", "POST forces a circuit"),
    ("/console/state", "what the console shows as JSON"),
    ("/log", "log level: GET shows it, PUT ?level=debug changes it"),
    ("/metrics", "counters in Prometheus' text format"),
    ("/rlconfig", "print out the currently loaded configuration for debugging"),
    ("/stats", "state of the server as JSON"),
    ("/store/clear", "POST forgets all counters"),
];

/// What the admin port shows and changes.
pub struct Admin {
    /// The rules in force.
    pub engine: Arc<Engine>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What became of the latest loads.
    pub config: Arc<ConfigState>,
    /// The log level.
    pub log: LogHandle,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The circuits that this server owns.
    pub circuits: CircuitsPage,
    /// What the console shows.
    pub console: Arc<Console>,
    /// Who may change anything.
    pub writes: Writes,
}

/// An [`Admin`] in service.
struct Served {
    admin: Admin,
    since: Instant,
}

type Shared = State<Arc<Served>>;

/// The routes of the admin port. Its uptime begins now.
pub fn routes(admin: Admin) -> Router {
    let change =
        async |served: Shared, headers: HeaderMap, query: Query<_>| log::change(served, &headers, query);
    Router::new()
        .route("/", get(list))
        .route("/circuits", get(circuits::show))
        .route("/log", get(log::show).put(change).post(change))
        .route("/metrics", get(async |State(served): Shared| metrics(served.admin.metrics.clone()).await))
        .route("/rlconfig", get(rlconfig::show))
        .route("/stats", get(stats::show))
        .route("/store/clear", post(store::clear))
        .merge(console::routes())
        .fallback(async || (StatusCode::NOT_FOUND, list().await))
        .with_state(Arc::new(Served { admin, since: Instant::now() }))
}

/// The metrics page alone, at `path`, for a port of its own.
pub fn metrics_routes(counters: Arc<Metrics>, path: &str) -> Router {
    let page = async |State(counters): State<Arc<Metrics>>| metrics(counters).await;
    Router::new().route(path, get(page)).with_state(counters)
}

async fn list() -> String {
    ENDPOINTS.map(|(path, help)| format!("{path}: {help}\n")).concat()
}

/// With thousands of rules the page takes a while: it must not keep others waiting.
async fn metrics(counters: Arc<Metrics>) -> Response {
    match tokio::task::spawn_blocking(move || counters.render()).await {
        Ok(page) => ([(header::CONTENT_TYPE, page::CONTENT_TYPE)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
