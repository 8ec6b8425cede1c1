//! reqwest: as HTTP, and its own errors.

use std::error::Error as StdError;

use super::{Classify, HttpClassifier, Verdict, find};
use crate::error::Rejection;

/// Reads what `reqwest::Client` returns. `reqwest::Client` is a tower service over `reqwest::Request`, so
/// every layer of this crate takes it as it is; only the classifier differs.
///
/// The body of a `reqwest::Response` cannot be wrapped: slots and probes are given back at the head.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReqwestClassifier;

impl Classify<reqwest::Response, reqwest::Error> for ReqwestClassifier {
    fn classify(&self, result: Result<&reqwest::Response, &reqwest::Error>) -> Verdict {
        match result {
            Ok(response) => HttpClassifier.head(response.status(), response.headers()),
            Err(error) => failed(error),
        }
    }
}

/// Around another layer of this crate.
impl<E: StdError + 'static> Classify<reqwest::Response, crate::Error<E>> for ReqwestClassifier {
    fn classify(&self, result: Result<&reqwest::Response, &crate::Error<E>>) -> Verdict {
        match result {
            Ok(response) => HttpClassifier.head(response.status(), response.headers()),
            Err(error) => match (find::<reqwest::Error>(error), find::<Rejection>(error)) {
                (Some(error), _) => failed(error),
                (None, Some(rejection)) => super::grpc::own(rejection),
                (None, None) => Verdict::FAILURE,
            },
        }
    }
}

fn failed(error: &reqwest::Error) -> Verdict {
    if error.is_timeout() {
        Verdict::TIMEOUT
    } else if error.is_connect() {
        Verdict::UNAVAILABLE
    } else if error.is_builder() {
        // the request was never one: the target has nothing to do with it
        Verdict::IGNORED
    } else {
        Verdict::FAILURE
    }
}
