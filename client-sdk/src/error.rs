//! One error for everything that this crate puts around a call.

mod rejection;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use rejection::{Advice, status};
pub use rejection::{Prepared, Rejection, RejectionKind, is_circuit_open, rejection, retry_after};

use crate::state::State;

/// An error of any type, as tower and tonic pass it around.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a guarded call gave no result: it was rejected here, ran out of time, or failed itself.
///
/// `source()` of a rejection leads to a [`tonic::Status`] with `RetryInfo` (and `QuotaFailure` for a rate
/// limit) in its details and `grpc-retry-pushback-ms` in its metadata. tonic looks for a status along the
/// sources of whatever a layer returns, so a generated client returns exactly that status. [`rejection`]
/// tells it from one that the server sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// The circuit breaker does not let the call pass. As a status: `UNAVAILABLE`.
    #[non_exhaustive]
    CircuitOpen {
        /// The breaker's name.
        name: Arc<str>,
        /// What it is doing.
        state: State,
        /// When it will let a call pass, if that is known.
        retry_after: Option<Duration>,
        /// The status, made when somebody asks for it.
        prepared: Prepared,
    },
    /// Over a rate limit. As a status: `RESOURCE_EXHAUSTED`.
    #[non_exhaustive]
    RateLimited {
        /// Which rule refused.
        rule: Arc<str>,
        /// When it will admit the call, if it ever does.
        retry_after: Option<Duration>,
        /// The status, made when somebody asks for it.
        prepared: Prepared,
    },
    /// Over a concurrency limit. As a status: `RESOURCE_EXHAUSTED`.
    #[non_exhaustive]
    LimitExceeded {
        /// Calls that may be in flight at once.
        limit: u32,
        /// The status, made when somebody asks for it.
        prepared: Prepared,
    },
    /// Not sent, since the target refuses much of what it gets. As a status: `UNAVAILABLE`.
    #[non_exhaustive]
    Throttled {
        /// The share of calls that is not sent at present, `0..=1`.
        probability: f32,
        /// The status, made when somebody asks for it.
        prepared: Prepared,
    },
    /// Not done in time. As a status: `DEADLINE_EXCEEDED`.
    #[non_exhaustive]
    DeadlineExceeded {
        /// Whether the whole call ran out of time, or only its last attempt.
        total: bool,
        /// The status, made when somebody asks for it.
        prepared: Prepared,
    },
    /// The limiter could not answer, and its failure mode is closed. As a status: `UNAVAILABLE`.
    #[non_exhaustive]
    Unavailable {
        /// Why it could not.
        source: BoxError,
        /// The status, made when somebody asks for it.
        prepared: Prepared,
    },
    /// The call itself failed.
    Inner(E),
}

impl<E> Error<E> {
    /// A breaker's rejection.
    #[must_use]
    pub fn circuit_open(name: Arc<str>, state: State, retry_after: Option<Duration>) -> Error<E> {
        Error::CircuitOpen { name, state, retry_after, prepared: Prepared::default() }
    }

    /// A rate limit's refusal; `retry_after` is `None` if the call can never be admitted.
    #[must_use]
    pub fn rate_limited(rule: Arc<str>, retry_after: Option<Duration>) -> Error<E> {
        Error::RateLimited { rule, retry_after, prepared: Prepared::default() }
    }

    /// A concurrency limit's refusal.
    #[must_use]
    pub fn limit_exceeded(limit: u32) -> Error<E> {
        Error::LimitExceeded { limit, prepared: Prepared::default() }
    }

    /// The throttler's rejection; `probability` is in `0..=1`.
    #[must_use]
    pub fn throttled(probability: f32) -> Error<E> {
        Error::Throttled { probability, prepared: Prepared::default() }
    }

    /// Out of time.
    #[must_use]
    pub fn deadline_exceeded(total: bool) -> Error<E> {
        Error::DeadlineExceeded { total, prepared: Prepared::default() }
    }

    /// The limiter could not be asked.
    #[must_use]
    pub fn unavailable(source: BoxError) -> Error<E> {
        Error::Unavailable { source, prepared: Prepared::default() }
    }

    /// When it makes sense to call again, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::CircuitOpen { retry_after, .. } | Error::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the call was refused here: the target has not seen it.
    #[must_use]
    pub const fn is_rejection(&self) -> bool {
        !matches!(self, Error::Inner(_) | Error::DeadlineExceeded { .. })
    }

    /// The call's own error.
    #[must_use]
    pub fn into_inner(self) -> Option<E> {
        if let Error::Inner(error) = self { Some(error) } else { None }
    }

    /// The call's own error as another type; everything else stays.
    pub fn map_inner<F>(self, map: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Error::CircuitOpen { name, state, retry_after, prepared } => {
                Error::CircuitOpen { name, state, retry_after, prepared }
            }
            Error::RateLimited { rule, retry_after, prepared } => {
                Error::RateLimited { rule, retry_after, prepared }
            }
            Error::LimitExceeded { limit, prepared } => Error::LimitExceeded { limit, prepared },
            Error::Throttled { probability, prepared } => Error::Throttled { probability, prepared },
            Error::DeadlineExceeded { total, prepared } => Error::DeadlineExceeded { total, prepared },
            Error::Unavailable { source, prepared } => Error::Unavailable { source, prepared },
            Error::Inner(error) => Error::Inner(map(error)),
        }
    }

    /// What kind of error this is; `None` for the call's own.
    #[must_use]
    pub const fn kind(&self) -> Option<RejectionKind> {
        match self {
            Error::CircuitOpen { .. } => Some(RejectionKind::CircuitOpen),
            Error::RateLimited { .. } => Some(RejectionKind::RateLimited),
            Error::LimitExceeded { .. } => Some(RejectionKind::LimitExceeded),
            Error::Throttled { .. } => Some(RejectionKind::Throttled),
            Error::DeadlineExceeded { .. } => Some(RejectionKind::DeadlineExceeded),
            Error::Unavailable { .. } => Some(RejectionKind::Unavailable),
            Error::Inner(_) => None,
        }
    }

    const fn prepared(&self) -> Option<&Prepared> {
        match self {
            Error::CircuitOpen { prepared, .. }
            | Error::RateLimited { prepared, .. }
            | Error::LimitExceeded { prepared, .. }
            | Error::Throttled { prepared, .. }
            | Error::DeadlineExceeded { prepared, .. }
            | Error::Unavailable { prepared, .. } => Some(prepared),
            Error::Inner(_) => None,
        }
    }

    /// What refused: a breaker's or a rule's name.
    const fn subject(&self) -> Option<&Arc<str>> {
        match self {
            Error::CircuitOpen { name, .. } => Some(name),
            Error::RateLimited { rule, .. } => Some(rule),
            _ => None,
        }
    }
}

/// Without the call's own error, which its `source()` shows.
impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::CircuitOpen { name, state, .. } => write!(f, "circuit breaker {name} is {state}"),
            Error::RateLimited { rule, .. } => write!(f, "over the rate limit {rule}"),
            Error::LimitExceeded { limit, .. } => write!(f, "more than {limit} calls in flight"),
            Error::Throttled { probability, .. } => {
                write!(f, "throttled: {:.0} % of the calls are not sent", probability * 100.0)
            }
            Error::DeadlineExceeded { total: true, .. } => f.write_str("the call's time is over"),
            Error::DeadlineExceeded { total: false, .. } => f.write_str("the attempt's time is over"),
            Error::Unavailable { source, .. } => write!(f, "the rate limiter cannot be asked: {source}"),
            Error::Inner(_) => f.write_str("the call failed"),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match (self, self.prepared()) {
            (Error::Inner(error), _) => Some(error),
            (_, Some(prepared)) => Some(prepared.get_or_init(|| Rejection::of(self))),
            (_, None) => None,
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<Error<E>> for tonic::Status {
    fn from(error: Error<E>) -> tonic::Status {
        tonic::Status::from_error(Box::new(error))
    }
}
