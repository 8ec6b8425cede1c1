//! Why there is no decision.

use std::sync::Arc;
use std::time::Duration;

/// Why the limiter gave no decision; what [`FailureMode`](super::FailureMode) answers for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimiterError {
    /// The request makes no sense; it will not do so later either.
    #[error("the request is invalid: {0}")]
    Invalid(Arc<str>),
    /// The limiter does not know this call, or does not serve this caller.
    #[error("the limiter does not serve this: {0}")]
    Unsupported(Arc<str>),
    /// The limiter has no rules yet.
    #[error("the limiter is not ready: {0}")]
    NotReady(Arc<str>),
    /// The limiter is overloaded and shed this request; nothing was charged.
    #[error("the limiter is overloaded")]
    Shed {
        /// When to come again.
        retry_after: Option<Duration>,
    },
    /// Too many questions of this client wait for an answer; this one was not sent.
    #[error("{limit} questions wait for an answer")]
    Overloaded {
        /// How many may.
        limit: usize,
    },
    /// No answer came in time.
    #[error("no answer within the deadline")]
    DeadlineExceeded,
    /// The limiter has failed of late and is not asked until this has passed.
    #[error("the limiter is not asked after many failures")]
    Suspended {
        /// When it is asked again; `None` if that depends on the one question that is being tried.
        retry_after: Option<Duration>,
    },
    /// The limiter cannot be reached, or could not answer.
    #[error("the limiter is unavailable: {message}")]
    Unavailable {
        /// For people.
        message: Arc<str>,
        /// When to come again, if the limiter said so.
        retry_after: Option<Duration>,
    },
}

impl LimiterError {
    pub(super) fn unavailable(message: impl Into<Arc<str>>) -> LimiterError {
        LimiterError::Unavailable { message: message.into(), retry_after: None }
    }

    /// When it makes sense to ask again, if that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            LimiterError::Shed { retry_after }
            | LimiterError::Suspended { retry_after }
            | LimiterError::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Why a client cannot be built: names the field and its range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// Which setting.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> ConfigError {
        ConfigError { field, problem: problem.into() }
    }
}
