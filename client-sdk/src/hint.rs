//! What a target says about when to come again.
//!
//! One reader for all of it, so that retries, breakers, throttlers and balancers act on the same advice.

use std::time::Duration;

use http::HeaderMap;
use tollgate_core::load::hint as core;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::clock::{duration, wall_clock};

/// Milliseconds until the next attempt, in gRPC trailers (gRFC A6).
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The longest advice that is followed: a target cannot send its callers away for longer.
pub const MAX_HINT: Duration = Duration::from_secs(300);

/// What a target says about when to come again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hint {
    /// Not before this time has passed, at most 300 s.
    pub after: Option<Duration>,
    /// Not at all.
    pub no_retry: bool,
}

impl Hint {
    /// From a status: `grpc-retry-pushback-ms`, `RetryInfo`, `Retry-After`, `RateLimit`; the first that is
    /// there counts.
    #[must_use]
    pub fn of_status(status: &Status) -> Hint {
        let headers = status.metadata();
        let headers: &HeaderMap = headers.as_ref();
        pushback(headers)
            .or_else(|| retry_info(status).map(Hint::wait))
            .or_else(|| in_headers(headers))
            .unwrap_or_default()
    }

    /// From the headers of an HTTP response, or from the headers or trailers of a gRPC response. Of details
    /// in `grpc-status-details-bin` the `RetryInfo` counts.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Hint {
        pushback(headers)
            .or_else(|| details(headers).and_then(|status| retry_info(&status)).map(Hint::wait))
            .or_else(|| in_headers(headers))
            .unwrap_or_default()
    }

    /// Come again after `after`, at most 300 s.
    #[must_use]
    pub fn wait(after: Duration) -> Hint {
        Hint { after: Some(after.min(MAX_HINT)), no_retry: false }
    }

    /// Do not come again.
    pub const NO_RETRY: Hint = Hint { after: None, no_retry: true };

    /// Whether the target said anything.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Hint::default()
    }
}

impl From<core::Hint> for Hint {
    fn from(hint: core::Hint) -> Hint {
        Hint { after: hint.after.map(duration), no_retry: hint.no_retry }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// A value that is no text is as unreadable as one that is no number.
fn pushback(headers: &HeaderMap) -> Option<Hint> {
    let value = headers.get(PUSHBACK)?;
    Some(core::Hint::pushback(value.to_str().unwrap_or_default()).into())
}

#[cfg(feature = "tonic")]
fn retry_info(status: &Status) -> Option<Duration> {
    use tonic_types::StatusExt;
    status.get_details_retry_info()?.retry_delay
}

#[cfg(not(feature = "tonic"))]
fn retry_info(_: &Status) -> Option<Duration> {
    None
}

/// A status with the details of `headers`, if they can be read. (`Status::from_header_map` panics if not.)
fn details(headers: &HeaderMap) -> Option<Status> {
    const DETAILS: &str = "grpc-status-details-bin";
    let value = headers.get(DETAILS).filter(|_| headers.contains_key("grpc-status"))?;
    let mut only = HeaderMap::with_capacity(1);
    only.insert(DETAILS, value.clone());
    let bytes = MetadataMap::from_headers(only).get_bin(DETAILS)?.to_bytes().ok()?;
    // its code and message are not read here
    Some(Status::with_details(Code::Unknown, "", bytes))
}

fn in_headers(headers: &HeaderMap) -> Option<Hint> {
    text(headers, "retry-after")
        .and_then(|text| core::Hint::retry_after(text, wall_clock()))
        .or_else(|| text(headers, "ratelimit").and_then(core::Hint::rate_limit))
        .map(Hint::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_first_of_the_four_counts() {
        let all = [(PUSHBACK, "7"), ("retry-after", "2"), ("ratelimit", "\"d\";r=0;t=9")];
        assert_eq!(Hint::of_headers(&headers(&all)).after, Some(Duration::from_millis(7)));
        assert_eq!(Hint::of_headers(&headers(&all[1..])).after, Some(Duration::from_secs(2)));
        assert_eq!(Hint::of_headers(&headers(&all[2..])).after, Some(Duration::from_secs(9)));
        assert!(Hint::of_headers(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_pushback_that_is_negative_or_unreadable_forbids_retries() {
        for value in ["-1", "soon", "", "99999999999"] {
            assert_eq!(Hint::of_headers(&headers(&[(PUSHBACK, value)])), Hint::NO_RETRY, "{value}");
        }
    }

    #[test]
    fn a_date_counts_from_now() {
        let past = headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(Hint::of_headers(&past).after, Some(Duration::ZERO));
        let far = headers(&[("retry-after", "Sat, 06 Nov 2094 08:49:37 GMT")]);
        assert_eq!(Hint::of_headers(&far).after, Some(MAX_HINT));
    }

    #[test]
    fn advice_is_capped() {
        let long = headers(&[("retry-after", "86400")]);
        assert_eq!(Hint::of_headers(&long).after, Some(MAX_HINT));
    }

    #[test]
    fn a_policy_with_something_left_says_nothing() {
        assert!(Hint::of_headers(&headers(&[("ratelimit", "\"d\";r=5;t=9")])).is_none());
        let two = headers(&[("ratelimit", "\"burst\";r=3;t=60, \"daily\";r=0;t=30")]);
        assert_eq!(Hint::of_headers(&two).after, Some(Duration::from_secs(30)));
    }
}
