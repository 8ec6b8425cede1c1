//! When a gRPC call is over, and with what status.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::telemetry::calls::RpcCall;

/// gRPC's number for success.
const OK: usize = 0;
/// gRPC's number for a status that makes no sense.
const UNKNOWN: usize = 2;

/// Does `work` for a call: if the call is followed, whoever works finds its trace.
pub(super) async fn within<F: Future>(call: Option<&RpcCall>, work: F) -> F::Output {
    match call.and_then(RpcCall::live) {
        None => work.await,
        Some(live) => live.within(work).await,
    }
}

/// A call with one answer is over with its headers: only one that failed has a status there.
pub(super) fn unary(call: Option<RpcCall>, response: Response<Body>) -> Response<Body> {
    if let Some(mut call) = call {
        call.ends(status(response.headers()).unwrap_or(OK));
    }
    response
}

/// A call with many answers is over with its trailers.
pub(super) fn stream(call: Option<RpcCall>, response: Response<Body>) -> Response<Body> {
    if status(response.headers()).is_some() {
        return unary(call, response);
    }
    match call {
        None => response,
        Some(call) => response.map(|body| Body::new(Watched { body, call })),
    }
}

fn status(headers: &HeaderMap) -> Option<usize> {
    let status = headers.get("grpc-status")?;
    Some(status.to_str().ok().and_then(|status| status.parse().ok()).unwrap_or(UNKNOWN))
}

/// The answers of a call; the call is over when they are, or when nobody wants them any more.
struct Watched {
    body: Body,
    call: RpcCall,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.ends(status(trailers).unwrap_or(OK));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
