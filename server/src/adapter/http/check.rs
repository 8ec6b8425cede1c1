//! `POST /v1/check`: the native API's `Check` in protobuf-JSON. 200 lets pass, 429 refuses; both carry the
//! whole answer. Anything else means that there is no decision, with a code and a text.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tollgate_proto::tollgate::v1 as wire;

use super::HttpState;
use super::json::uncrowded;
use crate::adapter::native::NotDecided;
use crate::telemetry::metrics::{Answered, Api, ErrorKind};

pub(super) async fn check(
    State(state): State<HttpState>,
    extensions: Extensions,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let malformed = || state.engine.metrics().request(Api::HttpCheck, Answered::Error(ErrorKind::Malformed));
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            malformed();
            return error(rejection.status(), "INVALID_ARGUMENT", &rejection.body_text(), None);
        }
    };
    if let Err(invalid) = uncrowded(&body) {
        malformed();
        return error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &invalid.to_string(), None);
    }
    let request = match state.codec.check.read::<wire::CheckRequest>(&body) {
        Ok(request) => request,
        Err(why) => {
            malformed();
            return error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &why.to_string(), None);
        }
    };
    if let Err(forbidden) = state.native.permit(&extensions, &request.domain, Api::HttpCheck) {
        return failed(&forbidden);
    }
    match state.native.answer(&request, state.timeout, Api::HttpCheck).await {
        Ok(answer) => respond(&state, &answer),
        Err(undecided) => failed(&undecided),
    }
}

fn respond(state: &HttpState, answer: &wire::CheckResponse) -> Response {
    let status = if answer.allowed { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    let body = match state.codec.check.write(answer) {
        Ok(body) => body,
        Err(why) => {
            tracing::error!(error = %why, "cannot write an answer as JSON");
            return error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL",
                "the answer cannot be written",
                None,
            );
        }
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    describe(headers);
    if let Some(retry) = &answer.retry_after {
        let seconds = retry.seconds + i64::from(retry.nanos > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

fn describe(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn failed(undecided: &NotDecided) -> Response {
    let code = undecided.code();
    let status = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, code.name(), &undecided.to_string(), code.retry_after())
}

fn error(status: StatusCode, code: &str, message: &str, retry: Option<Duration>) -> Response {
    let body = json!({ "code": code, "message": message }).to_string();
    let mut response = (status, body).into_response();
    describe(response.headers_mut());
    if let Some(retry) = retry {
        let seconds = retry.as_secs() + u64::from(retry.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}
