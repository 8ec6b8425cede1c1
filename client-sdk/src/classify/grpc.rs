//! gRPC: the status says it, in the headers of a response without messages, else in the trailers.

use std::error::Error as StdError;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::{Classify, Verdict, find};
use crate::error::{Rejection, RejectionKind};
use crate::hint::Hint;

/// Shortest deadline whose expiry is the target's failure, unless set otherwise.
const MIN_ATTRIBUTABLE: Duration = Duration::from_millis(10);

/// Reads gRPC results, of a channel (`http::Response`) or of a generated client (`tonic::Response`).
///
/// | status | breaker | throttler | retry |
/// |---|---|---|---|
/// | `UNAVAILABLE` | failure | rejected | yes |
/// | `UNKNOWN`, `INTERNAL`, `DATA_LOSS`, `DEADLINE_EXCEEDED` | failure | accepted | no |
/// | `RESOURCE_EXHAUSTED` | throttled | rejected | if it says when |
/// | `CANCELLED` | ignored, but a failure if tonic's own time-out is behind it | accepted | no |
/// | `ABORTED` | success | accepted | yes |
/// | any other | success | accepted | no |
///
/// tonic reports its own time-out (`Endpoint::timeout`) as `CANCELLED`; one that ignores `CANCELLED`
/// overlooks every time-out. A time-out of a caller that left less than
/// [`min_attributable_deadline`](Self::min_attributable_deadline) is ignored.
#[derive(Clone, Copy, Debug)]
pub struct GrpcClassifier {
    least: Duration,
}

impl Default for GrpcClassifier {
    fn default() -> GrpcClassifier {
        GrpcClassifier { least: MIN_ATTRIBUTABLE }
    }
}

impl GrpcClassifier {
    /// The least time that a caller has to leave for a time-out to count as a failure; 10 ms unless set.
    #[must_use]
    pub const fn min_attributable_deadline(self, least: Duration) -> GrpcClassifier {
        GrpcClassifier { least }
    }

    /// What a status says.
    #[must_use]
    pub fn status(&self, status: &Status) -> Verdict {
        if let Some(rejection) = crate::error::rejection(status) {
            return own(rejection);
        }
        match status.code() {
            Code::Cancelled if find::<TimeoutExpired>(status).is_some() => Verdict::TIMEOUT,
            code => code_verdict(code, || Hint::of_status(status)),
        }
    }

    /// What the headers of a response say: `None` if its status is still to come, in the trailers.
    pub(crate) fn head(&self, http: StatusCode, headers: &HeaderMap) -> Option<Verdict> {
        match grpc_code(headers) {
            Some(code) => Some(code_verdict(code, || Hint::of_headers(headers))),
            None if http == StatusCode::OK => None,
            None => Some(code_verdict(code_of_http(http), || Hint::of_headers(headers))),
        }
    }

    /// What an error in place of the rest of a body says.
    pub(crate) fn broken(&self, failed: &(dyn StdError + 'static)) -> Verdict {
        // a body that broke off has begun to work
        error(*self, failed).retryable(false)
    }

    /// What the trailers say. Trailers without a status break the protocol.
    pub(crate) fn trailers(&self, trailers: &HeaderMap) -> Verdict {
        let code = grpc_code(trailers).unwrap_or(Code::Internal);
        code_verdict(code, || Hint::of_headers(trailers))
    }
}

/// A rejection inside of this process says nothing about the target, which has not seen the call. Only a
/// deadline does: that of an attempt that was sent.
pub(super) fn own(rejection: &Rejection) -> Verdict {
    match rejection.kind {
        RejectionKind::DeadlineExceeded => Verdict::TIMEOUT,
        RejectionKind::CircuitOpen => {
            let hint = rejection.retry_after.map(Hint::wait).unwrap_or_default();
            Verdict::IGNORED.hinted(hint).retryable(hint.after.is_some())
        }
        _ => Verdict::IGNORED,
    }
}

/// Advice is read only where it is followed.
fn code_verdict(code: Code, hint: impl FnOnce() -> Hint) -> Verdict {
    let verdict = match code {
        Code::Cancelled => return Verdict::IGNORED,
        Code::Unknown | Code::Internal | Code::DataLoss => Verdict::FAILURE,
        Code::DeadlineExceeded => Verdict::TIMEOUT,
        Code::Unavailable => Verdict::UNAVAILABLE,
        Code::ResourceExhausted => return Verdict::throttled(hint()),
        Code::Aborted => Verdict::SUCCESS.retryable(true),
        _ => return Verdict::SUCCESS,
    };
    verdict.hinted(hint())
}

fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// The gRPC specification's table for answers of something that does not speak gRPC
/// (`http-grpc-status-mapping.md`).
const fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// An error in place of a response: the call may have been refused here, timed out, or not arrived.
fn error(classifier: GrpcClassifier, error: &(dyn StdError + 'static)) -> Verdict {
    if let Some(rejection) = find::<Rejection>(error) {
        return own(rejection);
    }
    if find::<TimeoutExpired>(error).is_some() {
        return Verdict::TIMEOUT;
    }
    if find::<ConnectError>(error).is_some() {
        return Verdict::UNAVAILABLE;
    }
    if let Some(status) = find::<Status>(error) {
        return classifier.status(status);
    }
    let reason = find::<h2::Error>(error).and_then(h2::Error::reason);
    code_verdict(reason.map_or(Code::Unknown, code_of_reset), Hint::default)
}

/// The gRPC specification's table for resets of a stream (`PROTOCOL-HTTP2.md`), as far as it matters here.
/// A refused stream was never worked on, so that it is safe to send again.
const fn code_of_reset(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

impl<B, E: StdError + 'static> Classify<http::Response<B>, E> for GrpcClassifier {
    /// Without the trailers: a response whose status is still to come is a success so far. The layers wait
    /// for the trailers.
    fn classify(&self, result: Result<&http::Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => self.head(response.status(), response.headers()).unwrap_or(Verdict::SUCCESS),
            Err(failed) => error(*self, failed),
        }
    }

    fn min_attributable(&self) -> Duration {
        self.least
    }
}

impl<T> Classify<tonic::Response<T>, Status> for GrpcClassifier {
    fn classify(&self, result: Result<&tonic::Response<T>, &Status>) -> Verdict {
        result.err().map_or(Verdict::SUCCESS, |status| self.status(status))
    }

    fn min_attributable(&self) -> Duration {
        self.least
    }
}
