//! `/store/clear`: forgets all counters.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::Shared;

/// Forgets everything of ours: in memory all keys, in Redis those that begin with our prefix.
pub(super) async fn clear(State(served): Shared, headers: HeaderMap) -> (StatusCode, String) {
    let admin = &served.admin;
    if let Err(why) = admin.writes.permit(&headers) {
        return (StatusCode::FORBIDDEN, format!("{}\n", why.text()));
    }
    match admin.store.clear().await {
        Ok(keys) => {
            tracing::warn!(keys, "all counters were cleared through the admin port");
            (StatusCode::OK, format!("{keys} keys cleared\n"))
        }
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("the store cannot be cleared: {fault}\n")),
    }
}
