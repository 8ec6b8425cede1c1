//! Makes calls with any `:authority` reach h2.
//!
//! Envoy sends the name of the cluster as `:authority`, and few names are legal there:
//! `outbound|8081||ratelimit.default.svc.cluster.local` is Istio's default. h2 resets such a stream with
//! PROTOCOL_ERROR, before any of our code sees it, and has no setting for it (hyperium/h2#525).
//!
//! [`AuthorityFilter`] stands between the connection (after TLS) and h2, and reads along. It follows the
//! frames (`frames`), keeps the HPACK table of the peer (`table`, `hpack`, `huffman`), and replaces an
//! `:authority` that h2 would refuse (`mend`, `blocks`). Whatever is legal goes through byte for byte and
//! is not copied. What cannot be followed goes through as it is, from there to the end of the connection:
//! it is for h2 to answer.

mod blocks;
mod frames;
mod hpack;
mod huffman;
mod mend;
mod table;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::frames::{FULL, Frames};

/// An emptied buffer keeps this much memory.
const KEPT: usize = 16_384;

/// A connection whose client may send any `:authority`. Reads are filtered; writes pass.
pub struct AuthorityFilter<IO> {
    io: IO,
    frames: Frames,
    /// Read, but the frame (or the header block) is not complete. Bounded by [`Limits::block_size`] and by
    /// what is read at a time.
    held: Vec<u8>,
    /// `held` may be complete, and was left because `ready` was full.
    is_behind: bool,
    /// To be read next, from `delivered` on.
    ready: Vec<u8>,
    delivered: usize,
}

/// What the server advertises, and how much is held back for one header block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// `SETTINGS_HEADER_TABLE_SIZE` of the server.
    pub table_size: usize,
    /// `SETTINGS_MAX_FRAME_SIZE` of the server.
    pub frame_size: usize,
    /// The longest header block that is followed, with the heads of its frames.
    pub block_size: usize,
}

/// How often the filter did something, over all connections that share it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Header blocks in which an `:authority` was replaced.
    pub mended: AtomicU64,
    /// Header blocks written anew, on connections that had an empty `:authority` in the HPACK table.
    pub reencoded: AtomicU64,
    /// Connections that could not be followed to their end: HTTP/1.1, malformed, or over a limit.
    pub stopped: AtomicU64,
}

impl Default for Limits {
    /// The defaults of HTTP/2, which hyper keeps, and 64 KiB.
    fn default() -> Self {
        Self { table_size: 4096, frame_size: 16_384, block_size: 65_536 }
    }
}

impl Counts {
    fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl<IO> AuthorityFilter<IO> {
    /// Filters what will be read from `io`, a connection from which nothing has been read.
    pub fn new(io: IO, limits: Limits, counts: Arc<Counts>) -> Self {
        let frames = Frames::new(limits, counts);
        Self { io, frames, held: Vec::new(), is_behind: false, ready: Vec::new(), delivered: 0 }
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Hands out what is ready. False: nothing is.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.ready[self.delivered..];
        if rest.is_empty() {
            return false;
        }
        let length = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..length]);
        self.delivered += length;
        if self.delivered == self.ready.len() {
            clear(&mut self.ready);
            self.delivered = 0;
        }
        true
    }

    /// The end of the stream, inside a frame: h2 shall see how far it came.
    fn end(&mut self) {
        self.frames.stop();
        self.ready.append(&mut self.held);
    }

    /// Follows what was read into `buf` from `start` on, which begins with what was held back.
    fn follow_in_place(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        clear(&mut self.held);
        let bytes = &buf.filled()[start..];
        let scanned = self.frames.scan(bytes, &mut self.ready);
        self.held.extend_from_slice(&bytes[scanned.used..]);
        self.is_behind = self.ready.len() >= FULL;
        buf.set_filled(start + scanned.same);
    }

    /// The same if `buf` has no room for what was held back, or nothing new was read.
    fn follow_apart(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        self.held.extend_from_slice(&buf.filled()[start..]);
        buf.set_filled(start);
        let used = self.frames.copy(&self.held, &mut self.ready);
        self.held.drain(..used);
        self.is_behind = self.ready.len() >= FULL;
    }
}

impl<IO: AsyncRead + Unpin> AuthorityFilter<IO> {
    /// Puts what may pass into `buf` or makes it ready, and reads for that at most once. True: the stream
    /// has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let start = buf.filled().len();
        if self.is_behind {
            self.follow_apart(buf, start);
            return Poll::Ready(Ok(false));
        }
        let in_place = self.held.len() < buf.remaining();
        if in_place {
            buf.put_slice(&self.held);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if !matches!(read, Poll::Ready(Ok(()))) {
            buf.set_filled(start);
        }
        ready!(read)?;
        if buf.filled().len() == before {
            buf.set_filled(start);
            self.end();
            return Poll::Ready(Ok(true));
        }
        if in_place {
            self.follow_in_place(buf, start);
        } else {
            self.follow_apart(buf, start);
        }
        Poll::Ready(Ok(false))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for AuthorityFilter<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        if buf.remaining() == 0 || this.deliver(buf) {
            return Poll::Ready(Ok(()));
        }
        if this.frames.is_beyond() && this.held.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        loop {
            let has_ended = ready!(this.poll_fill(cx, buf))?;
            // nothing may be in `buf` yet: to the caller, that would be the end of the stream
            if this.deliver(buf) || buf.filled().len() > start || has_ended {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for AuthorityFilter<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Empties a buffer, and gives back what one long block made it take.
fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT);
}
