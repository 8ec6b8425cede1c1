//! What layers need of a request: its headers, and another copy for another attempt.

use std::any::Any;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::deadline::{Deadline, outbound};
use crate::error::BoxError;
use crate::shed::{Criticality, criticality};

/// A request with headers.
pub trait Headers {
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
    /// Its headers, to be changed.
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// What its caller has marked it with; `None` if such requests carry no marks.
    fn extensions(&self) -> Option<&http::Extensions> {
        None
    }
}

impl<B> Headers for http::Request<B> {
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn extensions(&self) -> Option<&http::Extensions> {
        Some(self.extensions())
    }
}

#[cfg(feature = "reqwest")]
impl Headers for reqwest::Request {
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

/// What is left of a request's time, as far as it or the task says: so that the expiry of a very short one is
/// not held against the target. Only the requests of tonic say it themselves.
pub(crate) fn time_left<Req: 'static>(request: &Req) -> Option<Duration> {
    let request: &dyn Any = request;
    let own = request.downcast_ref::<http::Request<tonic::body::Body>>();
    let own = own.and_then(|request| outbound(request.headers()));
    let deadline = own.into_iter().chain(Deadline::current()).reduce(Deadline::min);
    deadline.map(|deadline| deadline.remaining())
}

/// The criticality that a request names, if it is one of tonic, axum or reqwest.
pub(crate) fn class_of<Req: 'static>(request: &Req) -> Criticality {
    let request: &dyn Any = request;
    let headers = request.downcast_ref::<http::Request<tonic::body::Body>>().map(http::Request::headers);
    #[cfg(feature = "axum")]
    let headers = headers
        .or_else(|| request.downcast_ref::<http::Request<axum::body::Body>>().map(http::Request::headers));
    #[cfg(feature = "reqwest")]
    let headers = headers.or_else(|| request.downcast_ref().map(reqwest::Request::headers));
    headers.map(criticality).unwrap_or_default()
}

/// A request that can be sent again.
pub trait Repeat: Headers + Sized {
    /// What is kept of it.
    type Kept: Send;

    /// The request for the first attempt, and what is kept of it, with up to `limit` bytes of its body;
    /// `None` if it can be sent only once.
    fn keep(self, limit: usize) -> (Self, Option<Self::Kept>);

    /// Another copy; `None` if it cannot be sent again after all.
    fn copy(kept: &mut Self::Kept) -> Option<Self>;
}

/// The requests of a tonic channel. The body is recorded while it is sent the first time, up to a limit: a
/// client's stream that is longer than that is sent once.
impl Repeat for http::Request<tonic::body::Body> {
    type Kept = Tape;

    fn keep(self, limit: usize) -> (Self, Option<Tape>) {
        let (parts, body) = self.into_parts();
        let record = Record { source: body, frames: VecDeque::new(), room: limit, lost: false, reader: 0 };
        let tape = Tape { parts, record: Arc::new(Mutex::new(record)), copies: 0 };
        (tape.copy(), Some(tape))
    }

    fn copy(kept: &mut Tape) -> Option<Self> {
        let number = kept.copies + 1;
        let mut record = kept.lock();
        if record.lost {
            return None;
        }
        record.reader = number;
        drop(record);
        kept.copies = number;
        Some(kept.copy())
    }
}

#[cfg(feature = "reqwest")]
impl Repeat for reqwest::Request {
    type Kept = reqwest::Request;

    /// A body that is a stream can be sent once; any other is in memory already.
    fn keep(self, _: usize) -> (Self, Option<reqwest::Request>) {
        let copy = self.try_clone();
        (self, copy)
    }

    fn copy(kept: &mut reqwest::Request) -> Option<Self> {
        kept.try_clone()
    }
}

/// A request as it is recorded.
#[derive(Debug)]
pub struct Tape {
    parts: http::request::Parts,
    record: Arc<Mutex<Record>>,
    copies: u32,
}

#[derive(Debug)]
struct Record {
    source: tonic::body::Body,
    frames: VecDeque<Recorded>,
    /// Bytes that may still be recorded.
    room: usize,
    /// More was sent than there was room for, or no copy will be asked for.
    lost: bool,
    /// Only the newest copy may read on: an older one may still be polled by its connection.
    reader: u32,
}

#[derive(Clone, Debug)]
enum Recorded {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Tape {
    fn copy(&self) -> http::Request<tonic::body::Body> {
        let body = Replay { record: self.record.clone(), number: self.copies, next: 0 };
        http::Request::from_parts(self.parts.clone(), tonic::body::Body::new(body))
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tape {
    /// Nobody will ask for another copy: a stream that goes on is not recorded any more.
    fn drop(&mut self) {
        self.lock().lost = true;
    }
}

struct Replay {
    record: Arc<Mutex<Record>>,
    number: u32,
    next: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the request was sent again")]
struct Superseded;

impl Record {
    /// Takes down what was just sent.
    fn take_down(&mut self, frame: &Frame<Bytes>) {
        if self.lost {
            return;
        }
        let recorded = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Recorded::Data(data.clone()),
            (None, Some(trailers)) => Recorded::Trailers(trailers.clone()),
            (None, None) => return,
        };
        let size = if let Recorded::Data(data) = &recorded { data.len() } else { 0 };
        match self.room.checked_sub(size) {
            Some(room) => {
                self.room = room;
                self.frames.push_back(recorded);
            }
            None => {
                self.lost = true;
                self.frames.clear();
            }
        }
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut record = this.record.lock().unwrap_or_else(PoisonError::into_inner);
        if record.reader != this.number {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(recorded) = record.frames.get(this.next) {
            this.next += 1;
            let frame = match recorded.clone() {
                Recorded::Data(data) => Frame::data(data),
                Recorded::Trailers(trailers) => Frame::trailers(trailers),
            };
            return Poll::Ready(Some(Ok(frame)));
        }
        if record.lost {
            record.frames = VecDeque::new();
        }
        let polled = Pin::new(&mut record.source).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            record.take_down(frame);
            this.next += 1;
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        self.next >= record.frames.len() && record.source.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn request(body: &'static [u8]) -> http::Request<tonic::body::Body> {
        http::Request::new(tonic::body::Body::new(Full::new(Bytes::from_static(body))))
    }

    async fn read(request: http::Request<tonic::body::Body>) -> Bytes {
        request.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_is_sent_again_even_if_the_first_attempt_left_it_half_read() {
        let (first, kept) = request(b"payload").keep(100);
        let mut kept = kept.unwrap();
        drop(first);
        for _ in 0..3 {
            assert_eq!(read(Repeat::copy(&mut kept).unwrap()).await, "payload");
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_sent_once() {
        let (first, kept) = request(b"payload").keep(3);
        assert_eq!(read(first).await, "payload");
        assert!(<http::Request<tonic::body::Body>>::copy(&mut kept.unwrap()).is_none());
    }

    #[tokio::test]
    async fn a_stream_that_outlives_its_attempts_is_not_kept() {
        let message = Arc::new(*b"message");
        let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from_owner(Owned(message.clone()))));
        let stream = futures_util::stream::iter((0..5).map(|_| frame()).collect::<Vec<_>>());
        let body = tonic::body::Body::new(http_body_util::StreamBody::new(stream));
        let (first, kept) = http::Request::new(body).keep(1_000);
        let mut body = first.into_body();
        drop(body.frame().await.unwrap().unwrap());
        drop(body.frame().await.unwrap().unwrap());
        assert_eq!(Arc::strong_count(&message), 1 + 5, "two are recorded, three are to come");
        drop(kept);
        drop(body.frame().await.unwrap().unwrap());
        assert_eq!(Arc::strong_count(&message), 1 + 2, "two are to come");
        assert_eq!(body.collect().await.unwrap().to_bytes(), "messagemessage");
    }

    struct Owned(Arc<[u8; 7]>);

    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }

    #[tokio::test]
    async fn an_older_copy_cannot_read_on() {
        let (old, kept) = request(b"payload").keep(100);
        let new = Repeat::copy(&mut kept.unwrap()).unwrap();
        assert!(old.into_body().collect().await.is_err());
        assert_eq!(read(new).await, "payload");
    }
}
