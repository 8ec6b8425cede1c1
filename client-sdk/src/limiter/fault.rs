//! Why one endpoint gave no decision, and what that means for the question.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use tollgate_proto::tollgate::v1::ItemError;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::error::LimiterError;
use super::wire;
use crate::hint::Hint;

/// Why one endpoint gave no decision.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The endpoint has not seen the question: another one may be asked.
    NotSent(Arc<str>),
    /// The connection was lost: the question may have been charged.
    Lost(Arc<str>),
    /// Too many questions are in flight.
    Overloaded {
        /// How many may.
        limit: usize,
    },
    /// The endpoint says that there is no decision.
    Answered(LimiterError),
    /// The endpoint did not answer in time: the question may have been charged.
    Late,
}

impl Fault {
    pub(super) fn not_sent(why: &str) -> Fault {
        Fault::NotSent(why.into())
    }

    pub(super) fn malformed() -> Fault {
        Fault::Answered(LimiterError::unavailable("an answer without content"))
    }

    /// One item of a stream.
    pub(super) fn of_item(error: &ItemError) -> Fault {
        let retry_after = wire::optional(error.retry_after.as_ref());
        Fault::Answered(answered(Code::from_i32(error.code), &error.message, retry_after))
    }

    /// A call of its own.
    pub(super) fn of_status(status: &Status) -> Fault {
        if comes_from::<ConnectError>(status) {
            return Fault::not_sent(status.message());
        }
        if comes_from::<TimeoutExpired>(status) {
            return Fault::Late;
        }
        // tonic makes a status of a broken connection; it has a source, one that the server sent has none
        if status.source().is_some() {
            return Fault::Lost(status.message().into());
        }
        Fault::Answered(answered(status.code(), status.message(), Hint::of_status(status).after))
    }

    /// What it says about the limiter's health; `None` if nothing. All that were in flight are lost with one
    /// connection: whether the limiter is gone is seen by those who ask next.
    pub(super) fn is_failure(&self) -> Option<bool> {
        match self {
            Fault::NotSent(_) | Fault::Late => Some(true),
            Fault::Lost(_) | Fault::Overloaded { .. } => None,
            Fault::Answered(LimiterError::Unavailable { .. } | LimiterError::DeadlineExceeded) => Some(true),
            Fault::Answered(_) => None,
        }
    }
}

impl From<Fault> for LimiterError {
    fn from(fault: Fault) -> LimiterError {
        match fault {
            Fault::NotSent(message) | Fault::Lost(message) => LimiterError::unavailable(message),
            Fault::Overloaded { limit } => LimiterError::Overloaded { limit },
            Fault::Answered(error) => error,
            Fault::Late => LimiterError::DeadlineExceeded,
        }
    }
}

fn answered(code: Code, message: &str, retry_after: Option<Duration>) -> LimiterError {
    match code {
        Code::InvalidArgument => LimiterError::Invalid(message.into()),
        Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
            LimiterError::Unsupported(message.into())
        }
        Code::FailedPrecondition => LimiterError::NotReady(message.into()),
        Code::ResourceExhausted => LimiterError::Shed { retry_after },
        Code::DeadlineExceeded => LimiterError::DeadlineExceeded,
        _ => LimiterError::Unavailable { message: message.into(), retry_after },
    }
}

/// Whether an error of that type made the status. If it is one of connecting, the call has not been sent.
fn comes_from<E: StdError + 'static>(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<E>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_contract_says() {
        let fault = |code| Fault::of_status(&Status::new(code, "why"));
        let is = |code, health| assert_eq!(fault(code).is_failure(), health, "{code:?}");
        is(Code::InvalidArgument, None);
        is(Code::FailedPrecondition, None);
        is(Code::ResourceExhausted, None);
        is(Code::Unimplemented, None);
        is(Code::DeadlineExceeded, Some(true));
        is(Code::Unavailable, Some(true));
        is(Code::Internal, Some(true));
    }

    #[test]
    fn what_became_of_the_question_is_told_from_the_source() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        assert!(matches!(Fault::of_status(&status), Fault::NotSent(_)), "{status:?}");
        let late = Status::from_error(Box::new(TimeoutExpired(())));
        assert!(matches!(Fault::of_status(&late), Fault::Late), "{late:?}");
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        assert!(matches!(Fault::of_status(&broken), Fault::Lost(_)), "{broken:?}");
    }

    #[test]
    fn an_items_advice_is_kept() {
        let retry_after = Some(wire::to_wire(Duration::from_millis(7)));
        let error = ItemError { code: 8, message: "busy".into(), retry_after };
        let error = LimiterError::from(Fault::of_item(&error));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(7)));
    }
}
