//! HTTP: the reference's `/json` and `/healthcheck`, probes, and forward-auth for gateways.

mod auth;
mod json;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use super::rls::RlsService;
use crate::config::settings::Auth;
use crate::engine::Engine;
use crate::health::Health;

pub use self::json::Codec;

/// What the routes need.
#[derive(Clone)]
pub struct HttpState {
    /// Decides.
    pub engine: Arc<Engine>,
    /// Answers `/json`.
    pub rls: RlsService,
    /// Reads and writes protobuf-JSON.
    pub codec: Arc<Codec>,
    /// Whether requests should come here.
    pub health: Arc<Health>,
    /// How forward-auth makes descriptors.
    pub auth: Arc<Auth>,
}

/// The routes of the HTTP port, for bodies of at most `max_body_bytes`.
#[must_use]
pub fn routes(state: HttpState, max_body_bytes: usize) -> Router {
    Router::new()
        .route("/json", any(json::json))
        .route("/healthcheck", any(healthcheck))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/auth/{domain}", any(auth::auth))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .with_state(state)
}

/// As the reference: 200 `OK` or 500 with no body.
async fn healthcheck(State(state): State<HttpState>) -> Response {
    if state.health.serving() { "OK".into_response() } else { StatusCode::INTERNAL_SERVER_ERROR.into_response() }
}

async fn readyz(State(state): State<HttpState>) -> Response {
    match state.health.not_ready() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
