//! HTTP: the reference's `/json` and `/healthcheck`, the native API's `/v1/check`, probes, and forward-auth
//! for gateways.

mod auth;
mod check;
mod json;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use super::native::NativeService;
use super::rls::RlsService;
use crate::config::settings::Auth;
use crate::engine::Engine;
use crate::health::Health;
use crate::telemetry::calls::Calls;

pub use self::json::Codec;

/// What the routes need.
#[derive(Clone)]
pub struct HttpState {
    /// Decides.
    pub engine: Arc<Engine>,
    /// Answers `/json`.
    pub rls: RlsService,
    /// Answers `/v1/check`.
    pub native: NativeService,
    /// Reads and writes protobuf-JSON.
    pub codec: Arc<Codec>,
    /// Whether requests should come here.
    pub health: Arc<Health>,
    /// The longest that a request may take, and so wait for its turn.
    pub timeout: Option<Duration>,
    /// How forward-auth makes descriptors.
    pub auth: Arc<Auth>,
}

/// How much one HTTP request may take.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of its body.
    pub max_body_bytes: usize,
    /// Time from its head to the answer; `None` is as long as it takes.
    pub timeout: Option<Duration>,
}

/// The routes of the HTTP port.
pub fn routes(state: HttpState, limits: HttpLimits) -> Router {
    Router::new()
        .route("/json", any(json::json))
        .route("/healthcheck", any(healthcheck))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/auth/{domain}", any(auth::auth))
        .route("/v1/check", post(check::check))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(DefaultBodyLimit::max(limits.max_body_bytes))
        .layer(from_fn(move |request, next| in_time(limits.timeout, request, next)))
        .with_state(state)
}

/// The same routes, with every request watched by `calls`.
pub fn watched(routes: Router, calls: Arc<Calls>) -> Router {
    routes.layer(from_fn(move |request, next| watch(calls.clone(), request, next)))
}

async fn watch(calls: Arc<Calls>, request: Request, next: Next) -> Response {
    let method = known(request.method());
    let call = calls.web(method, route_of(request.uri().path()), request.headers());
    let response = match call.live() {
        None => next.run(request).await,
        Some(live) => live.within(next.run(request)).await,
    };
    call.ends(response.status().as_u16());
    response
}

/// A method for metrics: clients may send any word.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// The route of a path for metrics, or nothing: clients may ask for any path.
fn route_of(path: &str) -> &'static str {
    const ROUTES: [&str; 5] = ["/json", "/healthcheck", "/livez", "/readyz", "/v1/check"];
    match path.strip_prefix("/auth/") {
        Some(domain) if !domain.is_empty() && !domain.contains('/') => "/auth/{domain}",
        _ => ROUTES.into_iter().find(|route| *route == path).unwrap_or_default(),
    }
}

async fn in_time(timeout: Option<Duration>, request: Request, next: Next) -> Response {
    let answer = next.run(request);
    match timeout {
        None => answer.await,
        Some(limit) => tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response()),
    }
}

/// As the reference: 200 `OK` or 500 with no body.
async fn healthcheck(State(state): State<HttpState>) -> Response {
    if state.health.serving() {
        "OK".into_response()
    } else {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

async fn readyz(State(state): State<HttpState>) -> Response {
    match state.health.not_ready() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
