//! Rejections as gRPC statuses, and how to know them again.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::Error;
use crate::hint::{Hint, PUSHBACK};

/// What refused a call, or ended it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RejectionKind {
    /// A circuit breaker.
    CircuitOpen,
    /// A rate limit.
    RateLimited,
    /// A concurrency limit.
    LimitExceeded,
    /// The adaptive throttler.
    Throttled,
    /// A deadline.
    DeadlineExceeded,
    /// The limiter could not be asked.
    Unavailable,
}

/// A rejection by this crate, without the type of the call's own error.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rejection {
    /// What refused.
    pub kind: RejectionKind,
    /// The name of the breaker or of the rule, if that is what refused.
    pub name: Option<Arc<str>>,
    /// When it makes sense to call again, if that is known.
    pub retry_after: Option<Duration>,
    status: Status,
}

/// The place for a [`Rejection`], which is made when somebody asks for it: a rejection that nobody turns
/// into a status costs no allocation.
#[derive(Debug, Default)]
pub struct Prepared(OnceLock<Box<Rejection>>);

impl Prepared {
    pub(super) fn get_or_init(&self, make: impl FnOnce() -> Rejection) -> &Rejection {
        self.0.get_or_init(|| Box::new(make()))
    }
}

impl Rejection {
    pub(super) fn of<E>(error: &Error<E>) -> Rejection {
        let kind = error.kind().unwrap_or(RejectionKind::Unavailable);
        let (name, retry_after) = (error.subject().cloned(), error.retry_after());
        let quota = name.as_deref().filter(|_| kind == RejectionKind::RateLimited);
        let never = kind == RejectionKind::RateLimited && retry_after.is_none();
        let status = status(kind.code(), error.to_string(), quota, &Advice { retry_after, never });
        Rejection { kind, name, retry_after, status }
    }

    /// As generated clients return it.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }
}

impl RejectionKind {
    /// The gRPC code that it becomes.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            RejectionKind::CircuitOpen | RejectionKind::Throttled | RejectionKind::Unavailable => {
                Code::Unavailable
            }
            RejectionKind::RateLimited | RejectionKind::LimitExceeded => Code::ResourceExhausted,
            RejectionKind::DeadlineExceeded => Code::DeadlineExceeded,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status.message())
    }
}

impl StdError for Rejection {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.status)
    }
}

/// What a status advises its reader.
pub(crate) struct Advice {
    /// Come again after this time.
    pub(crate) retry_after: Option<Duration>,
    /// Do not come again at all.
    pub(crate) never: bool,
}

/// A status that says when to come again, in every form that gRPC knows: `RetryInfo` in the details
/// (`google.rpc`), and `grpc-retry-pushback-ms` in the metadata (gRFC A6; -1 for "do not retry").
pub(crate) fn status(code: Code, message: String, quota: Option<&str>, advice: &Advice) -> Status {
    let mut metadata = MetadataMap::new();
    if let Some(millis) = advice.pushback() {
        metadata.insert(PUSHBACK, millis.into());
    }
    detailed(code, message, quota, (advice.retry_after, metadata))
}

impl Advice {
    /// Milliseconds as gRFC A6 wants them, rounded up: never too early.
    fn pushback(&self) -> Option<i32> {
        let millis = |after: Duration| i32::try_from(after.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX);
        if self.never { Some(-1) } else { self.retry_after.map(millis) }
    }
}

#[cfg(feature = "tonic")]
fn detailed(
    code: Code,
    message: String,
    quota: Option<&str>,
    (retry_after, metadata): (Option<Duration>, MetadataMap),
) -> Status {
    use tonic_types::{ErrorDetails, StatusExt};
    let mut details = ErrorDetails::new();
    if let Some(after) = retry_after {
        details.set_retry_info(Some(after));
    }
    if let Some(rule) = quota {
        details.add_quota_failure_violation(rule, message.clone());
    }
    Status::with_error_details_and_metadata(code, message, details, metadata)
}

/// Without the feature `tonic` a status has its metadata only.
#[cfg(not(feature = "tonic"))]
fn detailed(
    code: Code,
    message: String,
    _quota: Option<&str>,
    (_retry_after, metadata): (Option<Duration>, MetadataMap),
) -> Status {
    Status::with_metadata(code, message, metadata)
}

/// The rejection behind a status, if this process refused the call; `None` if the status came from the
/// server, whatever it looks like.
///
/// Statuses of this crate's layers say so. A status made by `Status::from(error)` does as well.
#[must_use]
pub fn rejection(status: &Status) -> Option<&Rejection> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(rejection) = error.downcast_ref::<Rejection>() {
            return Some(rejection);
        }
        source = error.source();
    }
    None
}

/// Whether a circuit breaker of this process refused the call.
#[must_use]
pub fn is_circuit_open(status: &Status) -> bool {
    rejection(status).is_some_and(|rejection| rejection.kind == RejectionKind::CircuitOpen)
}

/// When it makes sense to call again: as the rejection says, else as the server does, at most 300 s.
#[must_use]
pub fn retry_after(status: &Status) -> Option<Duration> {
    match rejection(status) {
        Some(rejection) => rejection.retry_after,
        None => Hint::of_status(status).after,
    }
}
