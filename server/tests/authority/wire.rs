//! Ways to push bytes through the filter: alone, and into a real h2 server.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tollgate_server::transport::authority::{AuthorityFilter, Counts, Limits};

use crate::chance::Chance;
use crate::traffic::{Body, Request};

/// Room for all that a test sends.
const ROOM: usize = 1 << 26;

/// What h2 made of a connection.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: Vec<(u32, Request)>,
    /// streams that were reset, with the code
    pub(crate) resets: Vec<(u32, u32)>,
    /// the code of a GOAWAY that is an error
    pub(crate) goaway: Option<u32>,
}

/// Hands out fixed bytes in the pieces chance makes, and now and then nothing yet.
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    /// How often there is nothing yet before the end: h2 drops what it has not handed out by then.
    lingering: usize,
    largest: usize,
    chance: Chance,
    pace: Pace,
}

#[derive(Clone, Copy)]
enum Pace {
    ByChance,
    Walk { may_step: bool },
}

impl Pieces {
    pub(crate) fn new(bytes: Vec<u8>, chance: &mut Chance) -> Self {
        let largest = *chance.pick(&[1, 10, 60, 300, 700, 1500, 4000, 4000]);
        let chance = Chance::new(chance.number());
        Self { bytes, at: 0, lingering: 100, largest, chance, pace: Pace::ByChance }
    }

    /// A piece and a pause in turn: h2 hands out a request before it sees many more.
    pub(crate) fn slowly(bytes: Vec<u8>, largest: usize) -> Self {
        let pace = Pace::Walk { may_step: false };
        Self { bytes, at: 0, lingering: 100, largest, chance: Chance::new(0), pace }
    }

    fn pauses(&mut self) -> bool {
        match self.pace {
            Pace::ByChance => self.chance.one_in(4),
            Pace::Walk { may_step } => {
                self.pace = Pace::Walk { may_step: !may_step };
                !may_step
            }
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let is_done = self.at == self.bytes.len();
        if self.pauses() || (is_done && self.lingering > 0) {
            self.lingering = self.lingering.saturating_sub(usize::from(is_done));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let largest = self.largest;
        let left = self.bytes.len() - self.at;
        let length = (1 + self.chance.below(largest)).min(left).min(buf.remaining());
        buf.put_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

/// Reads from one, writes to the other.
pub(crate) struct Joined<R, W>(pub(crate) R, pub(crate) W);

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Joined<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Joined<R, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.1).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_shutdown(cx)
    }
}

/// Passes reads on, and keeps a copy.
pub(crate) struct Recorder<R> {
    pub(crate) io: R,
    pub(crate) seen: Rc<RefCell<Vec<u8>>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Recorder<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.seen.borrow_mut().extend_from_slice(&buf.filled()[start..]);
        read
    }
}

pub(crate) fn filter<IO>(io: IO) -> AuthorityFilter<IO> {
    AuthorityFilter::new(io, Limits::default(), Arc::new(Counts::default()))
}

/// What comes out of the filter, read with buffers of all sizes.
pub(crate) async fn filtered(bytes: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut filter = filter(Pieces::new(bytes.to_vec(), chance));
    let mut out = Vec::new();
    let largest = *chance.pick(&[1, 20, 300, 9000]);
    loop {
        let mut room = vec![0; 1 + chance.below(largest)];
        match filter.read(&mut room).await.unwrap() {
            0 => return out,
            length => out.extend_from_slice(&room[..length]),
        }
    }
}

/// Serves what `io` brings with h2, to its end.
pub(crate) async fn served<R: AsyncRead + Unpin>(io: R) -> Outcome {
    let (answers, writer) = duplex(ROOM);
    let mut outcome = Outcome::default();
    let mut answered = Vec::new();
    if let Ok(mut connection) = h2::server::handshake(Joined(io, writer)).await {
        while let Some(Ok((request, respond))) = connection.accept().await {
            outcome.requests.push((respond.stream_id().as_u32(), arrived(&request)));
            answered.push(tokio::spawn(answer(request.into_body(), respond)));
            // `accept` reads on even if it has a request at hand
            tokio::task::yield_now().await;
        }
        let _ = std::future::poll_fn(|cx| connection.poll_closed(cx)).await;
    }
    for ((_, request), answered) in outcome.requests.iter_mut().zip(answered) {
        request.body = answered.await.unwrap();
    }
    read_answers(answers, &mut outcome).await;
    outcome
}

/// Answers once the whole request is there. `None`: it never was.
async fn answer(mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Option<Body> {
    let mut data = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        data.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.ok()?;
    respond.send_response(http::Response::new(()), true).ok()?;
    Some(Body { data, trailers })
}

pub(crate) fn arrived<B>(request: &http::Request<B>) -> Request {
    let uri = request.uri();
    Request {
        method: request.method().to_string(),
        path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: uri.authority().map(|authority| authority.as_str().as_bytes().to_vec()),
        headers: request.headers().clone(),
        body: None,
    }
}

async fn read_answers(mut answers: DuplexStream, outcome: &mut Outcome) {
    let mut bytes = Vec::new();
    let _ = answers.shutdown().await;
    answers.read_to_end(&mut bytes).await.unwrap();
    let mut rest = &bytes[..];
    while let Some(&[high, middle, low, kind, _, a, b, c, d]) = rest.first_chunk::<9>() {
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let payload = &rest[9..9 + length];
        let word = |at: usize| u32::from_be_bytes(*payload[at..].first_chunk().unwrap());
        match kind {
            3 => outcome.resets.push((u32::from_be_bytes([a, b, c, d]), word(0))),
            7 if word(4) != 0 => outcome.goaway = Some(word(4)),
            _ => {}
        }
        rest = &rest[9 + length..];
    }
}
