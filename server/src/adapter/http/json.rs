//! `POST /json`: the rate limit service in protobuf-JSON, status codes as the reference.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use tollgate_proto::envoy::service::ratelimit::v3 as wire;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

use super::HttpState;
use crate::adapter::rls::answered;
use crate::telemetry::metrics::{Answered, Api, ErrorKind};

/// Reads requests and writes responses in protobuf's JSON mapping.
#[derive(Clone, Debug)]
pub struct Codec {
    request: MessageDescriptor,
    response: MessageDescriptor,
}

impl Codec {
    /// A codec for this build's wire types.
    ///
    /// # Errors
    /// The descriptors that were compiled in are broken.
    pub fn new() -> anyhow::Result<Codec> {
        let pool = DescriptorPool::decode(tollgate_proto::DESCRIPTORS)?;
        let message = |name: &str| {
            let name = format!("envoy.service.ratelimit.v3.{name}");
            pool.get_message_by_name(&name).ok_or_else(|| anyhow::anyhow!("no message {name}"))
        };
        Ok(Codec { request: message("RateLimitRequest")?, response: message("RateLimitResponse")? })
    }

    /// Camel or snake case, enums by name or number, 64-bit numbers as text or number, no unknown fields.
    fn read(&self, body: &[u8]) -> anyhow::Result<wire::RateLimitRequest> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let message = DynamicMessage::deserialize(self.request.clone(), &mut json)?;
        json.end()?;
        Ok(message.transcode_to()?)
    }

    /// Camel case, enum names, defaults left out.
    fn write(&self, response: &wire::RateLimitResponse) -> anyhow::Result<Vec<u8>> {
        let mut message = DynamicMessage::new(self.response.clone());
        message.transcode_from(response)?;
        let mut body = Vec::with_capacity(256);
        let mut json = serde_json::Serializer::new(&mut body);
        message.serialize_with_options(&mut json, &SerializeOptions::new())?;
        Ok(body)
    }
}

pub(super) async fn json(State(state): State<HttpState>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large\n").into_response();
        }
        Err(_) => return bad_request("the body cannot be read"),
    };
    let request = match state.codec.read(&body) {
        Ok(request) => request,
        Err(error) => {
            state.engine.metrics().request(Api::Json, Answered::Error(ErrorKind::Malformed));
            return bad_request(&error.to_string());
        }
    };
    let answer = state.rls.answer(&request, state.timeout).await;
    state.engine.metrics().request(Api::Json, answered(&answer));
    match answer {
        Ok(response) => respond(&state.codec, &response),
        Err(invalid) => bad_request(&invalid.to_string()),
    }
}

fn respond(codec: &Codec, response: &wire::RateLimitResponse) -> Response {
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
