//! Refusals as responses, and what responses say about limits.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tonic::Code;

use super::question::Answered;
use crate::error::{Advice, status};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A refusal over HTTP: 429, or 503 if the limiter could not answer; no body.
pub(super) fn http<B: Default>(answered: &Answered, headers: bool) -> Response<B> {
    let decision = &answered.decision;
    let mut response = Response::new(B::default());
    *response.status_mut() =
        if decision.is_closed() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::TOO_MANY_REQUESTS };
    if let Some(after) = decision.retry_advice {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(after).max(1)));
    }
    if headers {
        describe(answered, response.headers_mut());
    }
    response
}

/// A refusal over gRPC: `RESOURCE_EXHAUSTED`, or `UNAVAILABLE` if the limiter could not answer.
pub(super) fn grpc<B: Default>(answered: &Answered) -> Response<B> {
    let Answered { decision, policy } = answered;
    let advice = Advice { retry_after: decision.retry_advice, never: decision.never };
    let status = if decision.is_closed() {
        status(Code::Unavailable, "the rate limiter cannot be asked".into(), None, &advice)
    } else {
        status(Code::ResourceExhausted, format!("over the rate limit {policy}"), Some(policy), &advice)
    };
    status.into_http()
}

/// Adds `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
pub(super) fn describe(answered: &Answered, headers: &mut HeaderMap) {
    let Answered { decision, policy } = answered;
    if decision.limit == 0 {
        return;
    }
    let name = quoted(policy);
    let reset = if decision.allowed { Some(decision.reset_after) } else { decision.retry_after };
    let time = reset.map_or_else(String::new, |reset| format!(";t={}", seconds(reset)));
    let limit = format!("{name};r={}{time}", decision.remaining);
    // both are printable by construction; a value that is not is left out
    if let (Ok(limit), Ok(policy)) = (limit.parse(), format!("{name};q={}", decision.limit).parse()) {
        headers.insert(RATE_LIMIT, limit);
        headers.insert(RATE_LIMIT_POLICY, policy);
    }
}

/// A string of RFC 9651 §3.3.3; what it cannot carry becomes `?`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            ' '..='~' => quoted.push(letter),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// Whole seconds, rounded up: never too early.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("tenant"), "\"tenant\"");
        assert_eq!(quoted("a\"b\\cü"), "\"a\\\"b\\\\c?\"");
    }

    #[test]
    fn seconds_round_up() {
        assert_eq!([0, 1, 1_000, 1_001].map(|millis| seconds(Duration::from_millis(millis))), [0, 1, 1, 2]);
    }
}
