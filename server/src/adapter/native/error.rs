//! Why a question of the native API has no answer: one code, and what it is called in gRPC and in HTTP.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::access;
use crate::engine::{Trouble, Undecided};

/// When to come again after the store could not be used: it is probed about as often.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// When to come again after too much waited for the store.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(100);
/// Where clients look for the pause (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Why a question has no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotDecided {
    /// A field makes no sense.
    Field {
        /// Its path from the request on.
        field: Cow<'static, str>,
        /// What it has to be.
        why: Cow<'static, str>,
    },
    /// No set of rules has been loaded yet.
    NoRules,
    /// The worker has too much to do, and the check is among the least critical. Nothing was charged.
    Shed,
    /// The store could not be asked.
    Store(Undecided),
    /// The caller has no identity to which the domain is bound.
    Forbidden {
        /// The domain.
        domain: String,
    },
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// The request makes no sense.
    Invalid,
    /// The server has no rules.
    NoRules,
    /// Too much waits.
    Overloaded,
    /// The store cannot be used.
    Unavailable,
    /// The store did not answer in time.
    Timeout,
    /// The caller may not ask about the domain.
    Forbidden,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 6] =
        [Code::Invalid, Code::NoRules, Code::Overloaded, Code::Unavailable, Code::Timeout, Code::Forbidden];

    /// What gRPC calls it.
    #[must_use]
    pub const fn grpc(self) -> tonic::Code {
        match self {
            Code::Invalid => tonic::Code::InvalidArgument,
            Code::NoRules => tonic::Code::FailedPrecondition,
            Code::Overloaded => tonic::Code::ResourceExhausted,
            Code::Unavailable => tonic::Code::Unavailable,
            Code::Timeout => tonic::Code::DeadlineExceeded,
            Code::Forbidden => tonic::Code::PermissionDenied,
        }
    }

    /// What HTTP calls it. 429 is for refusals alone.
    #[must_use]
    pub const fn http(self) -> u16 {
        match self {
            Code::Invalid => 400,
            Code::Forbidden => 403,
            Code::NoRules | Code::Overloaded | Code::Unavailable => 503,
            Code::Timeout => 504,
        }
    }

    /// gRPC's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Code::Invalid => "INVALID_ARGUMENT",
            Code::NoRules => "FAILED_PRECONDITION",
            Code::Overloaded => "RESOURCE_EXHAUSTED",
            Code::Unavailable => "UNAVAILABLE",
            Code::Timeout => "DEADLINE_EXCEEDED",
            Code::Forbidden => "PERMISSION_DENIED",
        }
    }

    /// When to come again; `None` if coming again is of no use, or might charge twice.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Code::Invalid | Code::NoRules | Code::Timeout | Code::Forbidden => None,
            Code::Overloaded => Some(OVERLOAD_PAUSE),
            Code::Unavailable => Some(STORE_PAUSE),
        }
    }
}

impl NotDecided {
    /// A field that makes no sense.
    pub(super) fn field(
        field: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> NotDecided {
        NotDecided::Field { field: field.into(), why: why.into() }
    }

    /// Nothing, if whoever sent a request with `extensions` may ask about `domain`.
    ///
    /// # Errors
    /// [`NotDecided::Forbidden`]
    pub fn unless_permitted(extensions: &http::Extensions, domain: &str) -> Result<(), NotDecided> {
        if access::permits(extensions, domain) {
            return Ok(());
        }
        Err(NotDecided::Forbidden { domain: domain.to_owned() })
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            NotDecided::Field { .. } => Code::Invalid,
            NotDecided::NoRules => Code::NoRules,
            NotDecided::Shed => Code::Overloaded,
            NotDecided::Forbidden { .. } => Code::Forbidden,
            NotDecided::Store(undecided) => match undecided.trouble() {
                Trouble::Timeout => Code::Timeout,
                Trouble::Overloaded => Code::Overloaded,
                Trouble::Unavailable => Code::Unavailable,
            },
        }
    }
}

impl fmt::Display for NotDecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotDecided::Field { field, why } => write!(f, "{field}: {why}"),
            NotDecided::NoRules => f.write_str("no rate limit configuration loaded"),
            NotDecided::Shed => f.write_str("overloaded: this check was shed"),
            NotDecided::Store(undecided) => undecided.fmt(f),
            NotDecided::Forbidden { domain } => {
                write!(f, "domain {domain:?} is not bound to an identity of this caller")
            }
        }
    }
}

impl std::error::Error for NotDecided {}

impl From<Undecided> for NotDecided {
    fn from(undecided: Undecided) -> NotDecided {
        NotDecided::Store(undecided)
    }
}

impl From<NotDecided> for Status {
    fn from(error: NotDecided) -> Status {
        let code = error.code();
        let mut details = ErrorDetails::new();
        if let NotDecided::Field { field, why } = &error {
            details.add_bad_request_violation(field.as_ref(), why.as_ref());
        }
        if code == Code::Overloaded {
            let subject = if error == NotDecided::Shed { "server" } else { "store" };
            details.add_quota_failure_violation(subject, error.to_string());
        }
        let mut metadata = MetadataMap::new();
        if let Some(pause) = code.retry_after() {
            details.set_retry_info(Some(pause));
            let millis = i32::try_from(pause.as_millis()).unwrap_or(i32::MAX);
            metadata.insert(PUSHBACK, MetadataValue::from(millis));
        }
        Status::with_error_details_and_metadata(code.grpc(), error.to_string(), details, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_place_in_grpc_and_in_http() {
        for code in Code::ALL {
            assert_ne!(code.grpc(), tonic::Code::Ok);
            assert_ne!(code.grpc(), tonic::Code::Unknown);
            assert!((400..600).contains(&code.http()) && code.http() != 429, "{code:?}");
        }
    }

    #[test]
    fn a_shed_check_is_told_when_to_come_again() {
        let status = Status::from(NotDecided::Shed);
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(OVERLOAD_PAUSE));
        assert_eq!(status.metadata().get(PUSHBACK).unwrap(), "100");
    }

    #[test]
    fn a_bad_field_is_told_by_name() {
        let status = Status::from(NotDecided::field("domain", "must not be empty"));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.message(), "domain: must not be empty");
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, "domain");
        assert!(status.metadata().get(PUSHBACK).is_none(), "coming again is of no use");
    }
}
