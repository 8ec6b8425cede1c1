//! `/circuits`: the circuits that this server owns, as JSON.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::Shared;

/// What the page shows when it is asked for.
pub type CircuitsPage = std::sync::Arc<dyn Fn() -> Value + Send + Sync>;

pub(super) async fn show(State(served): Shared) -> Json<Value> {
    Json((served.admin.circuits)())
}
