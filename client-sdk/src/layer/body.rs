//! A response body that knows when the call is over.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::classify::{GrpcClassifier, HttpClassifier, Outcome, Verdict};
use crate::error::{BoxError, Error};
use crate::guard::{CallGuard, Ends};

/// How the end of a body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// The trailers hold a gRPC status.
    Grpc(GrpcClassifier),
    /// The head has said it all, and it counts even if nobody reads the body.
    Head(Verdict),
}

pin_project! {
    /// A response body that gives back what its call holds when it ends, fails or is dropped, and fails itself
    /// when the call's time is over.
    #[derive(Debug)]
    pub struct GuardedBody<B> {
        #[pin]
        inner: B,
        call: Option<InFlight>,
    }
}

#[derive(Debug)]
struct InFlight {
    guard: CallGuard,
    ending: Ending,
    least: Duration,
    /// Its reader has had to wait for it.
    waited: bool,
    /// Made when somebody has to wait: most answers are there with their head.
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl InFlight {
    fn settle(mut self, verdict: Verdict) {
        self.guard.settle(verdict, self.least);
    }

    fn trailers(self, trailers: &HeaderMap) {
        let verdict = match self.ending {
            Ending::Grpc(classifier) => classifier.trailers(trailers),
            Ending::Head(verdict) => verdict,
        };
        self.settle(verdict);
    }

    fn end(self) {
        let verdict = match self.ending {
            // the protocol asks for a status: the target broke off
            Ending::Grpc(_) => Verdict::FAILURE,
            Ending::Head(verdict) => verdict,
        };
        self.settle(verdict);
    }

    fn fail(self, error: &BoxError) {
        let verdict = match self.ending {
            Ending::Grpc(classifier) => classifier.broken(&**error),
            Ending::Head(_) => HttpClassifier::broken(&**error),
        };
        self.settle(verdict);
    }

    /// A good head is all that is known of a body that takes its time: it is enough for a probe.
    fn flows(&mut self) {
        let good = match self.ending {
            Ending::Grpc(_) => true,
            Ending::Head(verdict) => verdict.outcome == Outcome::Success,
        };
        if good && !std::mem::replace(&mut self.waited, true) {
            self.guard.flows();
        }
    }

    /// Whether the call's time is over, for somebody who has to wait.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Ends> {
        let Some(ends) = self.guard.ends else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(ends.deadline.remaining())));
        timer.as_mut().poll(cx).map(|()| ends)
    }
}

impl Drop for InFlight {
    /// A body that nobody reads to its end: the head counts if it said it all, else nothing is known, but that
    /// a probe has been answered.
    fn drop(&mut self) {
        self.flows();
        if let Ending::Head(verdict) = self.ending {
            self.guard.settle(verdict, self.least);
        }
    }
}

impl<B> GuardedBody<B> {
    /// A body of a call that holds nothing any more.
    pub(crate) const fn free(inner: B) -> GuardedBody<B> {
        GuardedBody { inner, call: None }
    }

    pub(crate) fn held(inner: B, guard: CallGuard, ending: Ending, least: Duration) -> GuardedBody<B> {
        if guard.is_empty() && guard.ends.is_none() {
            return GuardedBody::free(inner);
        }
        let call = InFlight { guard, ending, least, waited: false, timer: None };
        GuardedBody { inner, call: Some(call) }
    }
}

impl<B: Default> Default for GuardedBody<B> {
    fn default() -> GuardedBody<B> {
        GuardedBody::free(B::default())
    }
}

/// The end of a call whose time is over before its body is.
fn late(call: InFlight, ends: Ends) -> BoxError {
    call.settle(Verdict::TIMEOUT);
    Error::<Infallible>::deadline_exceeded(ends.total).into()
}

impl<B: Body> Body for GuardedBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        let frame = match this.inner.poll_frame(cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.map_err(Into::into)),
            Poll::Pending => {
                let Some(call) = this.call else { return Poll::Pending };
                call.flows();
                let Poll::Ready(ends) = call.poll_end(cx) else { return Poll::Pending };
                return Poll::Ready(this.call.take().map(|call| Err(late(call, ends))));
            }
        };
        let over = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        if let Some(call) = over.then(|| this.call.take()).flatten() {
            match &frame {
                Some(Ok(frame)) => match frame.trailers_ref() {
                    Some(trailers) => call.trailers(trailers),
                    None => *this.call = Some(call),
                },
                Some(Err(error)) => call.fail(error),
                None => call.end(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
