//! `POST /json`: the rate limit service in protobuf-JSON, status codes as the reference.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{Extensions, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use tollgate_proto::envoy::service::ratelimit::v3 as wire;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

use super::HttpState;
use crate::adapter::Invalid;
use crate::adapter::bounded::{MAX_DESCRIPTORS, MAX_ENTRIES};
use crate::adapter::rls::{answered, permitted};
use crate::telemetry::metrics::{Answered, Api, ErrorKind};

/// Reads requests and writes responses in protobuf's JSON mapping.
#[derive(Clone, Debug)]
pub struct Codec {
    /// Of Envoy's rate limit service.
    rls: Mapping,
    /// Of the native `Check`.
    pub(super) check: Mapping,
}

impl Codec {
    /// A codec for this build's wire types.
    ///
    /// # Errors
    /// The descriptors that were compiled in are broken.
    pub fn new() -> anyhow::Result<Codec> {
        let pool = DescriptorPool::decode(tollgate_proto::DESCRIPTORS)?;
        let message =
            |name: &str| pool.get_message_by_name(name).ok_or_else(|| anyhow::anyhow!("no message {name}"));
        let mapping = |request: &str, response: &str| {
            anyhow::Ok(Mapping { request: message(request)?, response: message(response)? })
        };
        let rls = "envoy.service.ratelimit.v3";
        Ok(Codec {
            rls: mapping(&format!("{rls}.RateLimitRequest"), &format!("{rls}.RateLimitResponse"))?,
            check: mapping("tollgate.v1.CheckRequest", "tollgate.v1.CheckResponse")?,
        })
    }
}

/// The JSON of one call.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    request: MessageDescriptor,
    response: MessageDescriptor,
}

impl Mapping {
    /// Camel or snake case, enums by name or number, 64-bit numbers as text or number, no unknown fields.
    pub(super) fn read<M: Message + Default>(&self, body: &[u8]) -> anyhow::Result<M> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let message = DynamicMessage::deserialize(self.request.clone(), &mut json)?;
        json.end()?;
        Ok(message.transcode_to()?)
    }

    /// Camel case, enum names, defaults left out.
    pub(super) fn write<M: Message>(&self, response: &M) -> anyhow::Result<Vec<u8>> {
        let mut message = DynamicMessage::new(self.response.clone());
        message.transcode_from(response)?;
        let mut body = Vec::with_capacity(256);
        let mut json = serde_json::Serializer::new(&mut body);
        message.serialize_with_options(&mut json, &SerializeOptions::new())?;
        Ok(body)
    }
}

pub(super) async fn json(
    State(state): State<HttpState>,
    extensions: Extensions,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large\n").into_response();
        }
        Err(_) => return bad_request("the body cannot be read"),
    };
    if let Err(invalid) = uncrowded(&body) {
        state.engine.metrics().request(Api::Json, Answered::Error(ErrorKind::Service));
        return bad_request(&invalid.to_string());
    }
    let request = match state.codec.rls.read::<wire::RateLimitRequest>(&body) {
        Ok(request) => request,
        Err(error) => {
            state.engine.metrics().request(Api::Json, Answered::Error(ErrorKind::Malformed));
            return bad_request(&error.to_string());
        }
    };
    let answer = match permitted(&extensions, &request.domain) {
        Ok(()) => state.rls.answer(&request, state.timeout).await,
        Err(forbidden) => Err(forbidden),
    };
    state.engine.metrics().request(Api::Json, answered(&answer));
    match answer {
        Ok(response) => respond(&state.codec.rls, &response),
        Err(invalid @ Invalid::Forbidden { .. }) => {
            (StatusCode::FORBIDDEN, format!("{invalid}\n")).into_response()
        }
        Err(invalid) => bad_request(&invalid.to_string()),
    }
}

/// Refuses a body with more objects than a sound request can have, before they are made: an empty one has three
/// bytes in JSON and hundreds in memory.
pub(super) fn uncrowded(body: &[u8]) -> Result<(), Invalid> {
    const MAX_OBJECTS: usize = MAX_DESCRIPTORS + MAX_ENTRIES;
    if body.len() <= MAX_OBJECTS {
        return Ok(());
    }
    // a brace in a text counts too; no sound request has so many of either
    let found = body.iter().filter(|byte| **byte == b'{').count();
    if found <= MAX_OBJECTS {
        return Ok(());
    }
    Err(Invalid::TooMany { what: "objects", found, most: MAX_OBJECTS })
}

fn respond(codec: &Mapping, response: &wire::RateLimitResponse) -> Response {
    let over = response.overall_code == i32::from(Code::OverLimit);
    let status = if over { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
    match codec.write(response) {
        Ok(body) => {
            let json = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, json)], body).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot write a response as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n").into_response()
        }
    }
}

/// The reference's answer to whatever is wrong, and the reason in a header of ours.
fn bad_request(why: &str) -> Response {
    let reason: String =
        why.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(200).collect();
    let mut response = (StatusCode::BAD_REQUEST, "Bad Request\n").into_response();
    if let Ok(reason) = HeaderValue::from_str(&reason) {
        response.headers_mut().insert("x-tollgate-error", reason);
    }
    response
}
