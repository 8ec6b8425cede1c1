//! What a result says about the target that gave it.
//!
//! One reading feeds every policy: the breaker takes the [`Outcome`], the throttler asks whether the target
//! turned the call away, retries ask whether another attempt makes sense and when.

mod grpc;
mod http;
#[cfg(feature = "reqwest")]
mod reqwest;

use std::error::Error as StdError;
use std::time::Duration;

pub use grpc::GrpcClassifier;
pub use http::HttpClassifier;
#[cfg(feature = "reqwest")]
pub use reqwest::ReqwestClassifier;

use crate::hint::Hint;

/// What a call says about the health of its target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A timely answer, even if it is "no such thing".
    Success,
    /// The target could not do its work.
    Failure,
    /// The target is alive and asks for less; it may say for how long.
    Throttled {
        /// When to come again.
        retry_after: Option<Duration>,
    },
    /// Nothing about the target: the caller gave up.
    Ignored,
}

/// What a result means for each policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// For the breaker.
    pub outcome: Outcome,
    /// For the throttler: the target turned the call away, rather than worked on it.
    pub rejected: bool,
    /// For retries: another attempt may help, and this one did nothing.
    pub retryable: bool,
    /// The call ran out of time: costs twice the retry budget, shrinks the concurrency limit.
    pub timed_out: bool,
    /// When to come again.
    pub hint: Hint,
}

impl Verdict {
    /// A timely answer.
    pub const SUCCESS: Verdict = Verdict::of(Outcome::Success);
    /// A failure that another attempt would not mend.
    pub const FAILURE: Verdict = Verdict::of(Outcome::Failure);
    /// Says nothing about the target.
    pub const IGNORED: Verdict = Verdict::of(Outcome::Ignored);
    /// A failure for lack of time.
    pub const TIMEOUT: Verdict = Verdict { timed_out: true, ..Verdict::FAILURE };
    /// Turned away before any work; another attempt may help.
    pub const UNAVAILABLE: Verdict = Verdict { rejected: true, retryable: true, ..Verdict::FAILURE };

    const fn of(outcome: Outcome) -> Verdict {
        let hint = Hint { after: None, no_retry: false };
        Verdict { outcome, rejected: false, retryable: false, timed_out: false, hint }
    }

    /// Asked for less: retryable only if the target says when.
    #[must_use]
    pub fn throttled(hint: Hint) -> Verdict {
        let outcome = Outcome::Throttled { retry_after: hint.after };
        Verdict { rejected: true, retryable: hint.after.is_some(), hint, ..Verdict::of(outcome) }
    }

    /// The same, with another answer to whether an attempt may help.
    #[must_use]
    pub fn retryable(self, retryable: bool) -> Verdict {
        Verdict { retryable, ..self }
    }

    /// The same, with the target's advice.
    #[must_use]
    pub fn hinted(self, hint: Hint) -> Verdict {
        Verdict { hint, ..self }
    }

    /// The same, unless the caller left so little time that running out of it says nothing about the target.
    #[must_use]
    pub(crate) fn within(self, budget: Option<Duration>, least: Duration) -> Verdict {
        let unfair = self.timed_out && budget.is_some_and(|budget| budget < least);
        if unfair { Verdict { outcome: Outcome::Ignored, ..self } } else { self }
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Verdict {
        match outcome {
            Outcome::Throttled { retry_after } => {
                Verdict::throttled(retry_after.map(Hint::wait).unwrap_or_default())
            }
            outcome => Verdict::of(outcome),
        }
    }
}

/// Reads results.
pub trait Classify<Res: ?Sized, E: ?Sized> {
    /// What `result` says about its target.
    fn classify(&self, result: Result<&Res, &E>) -> Verdict;

    /// The least time that a caller has to leave: a time-out of a shorter call is nobody's failure.
    fn min_attributable(&self) -> Duration {
        Duration::ZERO
    }
}

/// A classifier made of a function: see [`classify_fn`].
#[derive(Clone, Copy, Debug)]
pub struct FnClassifier<F>(F);

/// Classifies by `judge`, which returns an [`Outcome`] or a [`Verdict`].
///
/// ```
/// use tollgate_client::classify::{Classify, Outcome, classify_fn};
/// let classifier = classify_fn(|result: Result<&u16, &String>| match result {
///     Ok(500..) | Err(_) => Outcome::Failure,
///     Ok(_) => Outcome::Success,
/// });
/// assert_eq!(classifier.classify(Ok(&503)).outcome, Outcome::Failure);
/// ```
pub fn classify_fn<Res, E, V: Into<Verdict>, F>(judge: F) -> FnClassifier<F>
where
    F: Fn(Result<&Res, &E>) -> V,
{
    FnClassifier(judge)
}

impl<Res, E, V: Into<Verdict>, F> Classify<Res, E> for FnClassifier<F>
where
    F: Fn(Result<&Res, &E>) -> V,
{
    fn classify(&self, result: Result<&Res, &E>) -> Verdict {
        (self.0)(result).into()
    }
}

/// Every error is a failure, everything else a success.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyError;

impl<Res, E> Classify<Res, E> for AnyError {
    fn classify(&self, result: Result<&Res, &E>) -> Verdict {
        if result.is_ok() { Verdict::SUCCESS } else { Verdict::FAILURE.retryable(true) }
    }
}

/// The first error of type `T` along the sources of `error`.
pub(crate) fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
