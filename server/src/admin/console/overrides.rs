//! `POST /console/override`: forces a circuit for a while, with a reason. Needs the admin token in a header, which no
//! other site's page can make a browser send.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::r#override::Mode;
use tonic::Code;

use crate::admin::Shared;
use crate::admin::writes::Denied;

/// Longest time to force a circuit, in seconds: a week.
const LONGEST: u32 = 7 * 86_400;

/// What a person wants.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    namespace: String,
    target: String,
    #[serde(default)]
    shard: String,
    #[serde(default)]
    operation: String,
    mode: Wanted,
    reason: String,
    actor: String,
    /// `1..=604800`; nothing with the mode `none`.
    ttl_seconds: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    /// Ends an override.
    None,
    ForcedOpen,
    Disabled,
    MetricsOnly,
    Enforce,
}

type Answer = (StatusCode, Json<Value>);

pub(super) async fn force(
    State(served): Shared,
    headers: HeaderMap,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Answer {
    let admin = &served.admin;
    if let Err(denied) = admin.writes.permit(&headers) {
        let status = match denied {
            Denied::WrongToken(_) => StatusCode::UNAUTHORIZED,
            Denied::NoToken(_) => StatusCode::FORBIDDEN,
        };
        return failed(status, denied.text());
    }
    let request = match wish {
        Ok(Json(wish)) => read(wish),
        Err(rejection) => return failed(rejection.status(), &rejection.body_text()),
    };
    let request = match request {
        Ok(request) => request,
        Err(why) => return failed(StatusCode::BAD_REQUEST, &why),
    };
    match admin.console.sources.breakers.force_circuit(request).await {
        Ok(circuit) => (StatusCode::OK, Json(circuit)),
        // nobody reports on it: there is nothing to show once it is free
        Err(status) if status.code() == Code::NotFound => (StatusCode::OK, Json(Value::Null)),
        Err(status) => failed(status_of(status.code()), status.message()),
    }
}

fn read(wish: Wish) -> Result<wire::SetOverrideRequest, String> {
    if wish.reason.trim().is_empty() {
        return Err("reason is empty: say why".to_owned());
    }
    let ttl = match (wish.mode, wish.ttl_seconds) {
        (Wanted::None, _) => None,
        (_, Some(seconds @ 1..=LONGEST)) => Some(prost_types::Duration { seconds: seconds.into(), nanos: 0 }),
        (_, given) => {
            let given = given.map_or_else(|| "missing".to_owned(), |given| given.to_string());
            return Err(format!("ttl_seconds is {given}, must be 1 to {LONGEST}"));
        }
    };
    let mode = match wish.mode {
        Wanted::None => Mode::None,
        Wanted::ForcedOpen => Mode::ForcedOpen,
        Wanted::Disabled => Mode::Disabled,
        Wanted::MetricsOnly => Mode::MetricsOnly,
        Wanted::Enforce => Mode::Enforce,
    };
    let Wish { namespace, target, shard, operation, actor, reason, .. } = wish;
    Ok(wire::SetOverrideRequest {
        key: Some(wire::CircuitKey { namespace, target, shard, operation }),
        r#override: Some(wire::Override { mode: mode.into(), ttl, actor, reason }),
    })
}

const fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::ResourceExhausted => StatusCode::INSUFFICIENT_STORAGE,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn failed(status: StatusCode, why: &str) -> Answer {
    (status, Json(json!({ "error": why })))
}
