//! `/log`: what is logged.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Served, Shared};

type Answer = (StatusCode, String);

/// The query of a change.
#[derive(Deserialize)]
pub(super) struct Change {
    level: Option<String>,
}

pub(super) async fn show(State(served): Shared) -> String {
    level(&served)
}

pub(super) fn change(State(served): Shared, headers: &HeaderMap, Query(change): Query<Change>) -> Answer {
    match changed(&served, headers, change) {
        Ok(()) => (StatusCode::OK, level(&served)),
        Err((status, why)) => (status, format!("{why}\n")),
    }
}

fn changed(served: &Arc<Served>, headers: &HeaderMap, change: Change) -> Result<(), Answer> {
    let admin = &served.admin;
    admin.writes.permit(headers).map_err(|why| (StatusCode::FORBIDDEN, why.text().to_owned()))?;
    let wanted = change.level.ok_or((StatusCode::BAD_REQUEST, "?level= is missing".to_owned()))?;
    let before = admin.log.get();
    admin.log.set(&wanted).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    tracing::info!(before, now = wanted, "log level changed");
    Ok(())
}

fn level(served: &Served) -> String {
    format!("{}\n", served.admin.log.get())
}
