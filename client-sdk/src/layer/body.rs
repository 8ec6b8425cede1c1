//! A response body that knows when the call is over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::classify::{GrpcClassifier, Verdict};
use crate::guard::CallGuard;

/// How the end of a body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// The trailers hold a gRPC status.
    Grpc(GrpcClassifier),
    /// The head has said it all, and it counts even if nobody reads the body.
    Head(Verdict),
}

pin_project! {
    /// A response body that gives back what its call holds when it ends, fails or is dropped.
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
}

impl Drop for InFlight {
    /// A body that nobody reads to its end: the head counts if it said it all, else nothing is known.
    fn drop(&mut self) {
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
        if guard.is_empty() {
            return GuardedBody::free(inner);
        }
        GuardedBody { inner, call: Some(InFlight { guard, ending, least }) }
    }
}

impl<B: Default> Default for GuardedBody<B> {
    fn default() -> GuardedBody<B> {
        GuardedBody::free(B::default())
    }
}

impl<B: Body> Body for GuardedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(call) = this.call.take()
                {
                    call.trailers(trailers);
                }
            }
            Some(Err(_)) => {
                if let Some(call) = this.call.take() {
                    call.settle(Verdict::FAILURE);
                }
            }
            None => {
                if let Some(call) = this.call.take() {
                    call.end();
                }
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
