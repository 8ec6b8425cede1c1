//! Refusals of a server: responses, so that the error type of a service stays what it is.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tonic::Code;

use crate::error::{Advice, RejectionKind, status};

/// Whether a request speaks gRPC: then its refusal is a status in the headers of a 200.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Why a server does not serve a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: RejectionKind,
    pub(crate) http: StatusCode,
    pub(crate) message: &'static str,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// As a response without a body: a gRPC status in the headers, or an HTTP status with `Retry-After`.
    pub(crate) fn response<B: Default>(&self, grpc: bool) -> Response<B> {
        if grpc { self.grpc() } else { self.http() }
    }

    fn http<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.http;
        if let Some(after) = self.retry_after {
            let secs = after.as_micros().div_ceil(1_000_000);
            let secs = HeaderValue::from(u64::try_from(secs).unwrap_or(u64::MAX));
            response.headers_mut().insert(http::header::RETRY_AFTER, secs);
        }
        response
    }

    fn grpc<B: Default>(&self) -> Response<B> {
        let code: Code = self.kind.code();
        let advice = Advice { retry_after: self.retry_after, never: false };
        status(code, self.message.to_owned(), None, &advice).into_http()
    }
}
