//! HTTP: the status code says it.

use std::error::Error as StdError;

use http::{HeaderMap, StatusCode};
use tonic::{Code, ConnectError, TimeoutExpired};

use super::{Classify, Verdict, find};
use crate::error::Rejection;
use crate::hint::Hint;

/// Reads HTTP results.
///
/// | status | breaker | throttler | retry |
/// |---|---|---|---|
/// | 503 | failure | rejected | yes |
/// | 429 | throttled | rejected | if it says when |
/// | 408 | ignored | accepted | no |
/// | 501, 505 | success: a timely answer | accepted | no |
/// | other 5xx | failure | accepted | no |
/// | any other | success | accepted | no |
///
/// An error in place of a response is a failure; a rejection by another policy of this crate is ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpClassifier;

impl HttpClassifier {
    /// What a status code and the headers with it say.
    #[must_use]
    pub fn head(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        let hint = Hint::of_headers(headers);
        match status.as_u16() {
            408 => Verdict::IGNORED,
            429 => Verdict::throttled(hint),
            503 => Verdict::UNAVAILABLE.hinted(hint),
            501 | 505 => Verdict::SUCCESS,
            500.. => Verdict::FAILURE.hinted(hint),
            _ => Verdict::SUCCESS,
        }
    }
}

impl HttpClassifier {
    /// What an error in place of the rest of a body says: a stream that was cancelled says nothing.
    pub(crate) fn broken(error: &(dyn StdError + 'static)) -> Verdict {
        let reason = find::<h2::Error>(error).and_then(h2::Error::reason);
        let cancelled = reason == Some(h2::Reason::CANCEL);
        let status = find::<tonic::Status>(error).is_some_and(|status| status.code() == Code::Cancelled);
        if cancelled || status { Verdict::IGNORED } else { failed(error).retryable(false) }
    }
}

impl<B, E: StdError + 'static> Classify<http::Response<B>, E> for HttpClassifier {
    fn classify(&self, result: Result<&http::Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => self.head(response.status(), response.headers()),
            Err(error) => failed(error),
        }
    }
}

fn failed(error: &(dyn StdError + 'static)) -> Verdict {
    if let Some(rejection) = find::<Rejection>(error) {
        return super::grpc::own(rejection);
    }
    if find::<TimeoutExpired>(error).is_some() {
        return Verdict::TIMEOUT;
    }
    if find::<ConnectError>(error).is_some() { Verdict::UNAVAILABLE } else { Verdict::FAILURE }
}
