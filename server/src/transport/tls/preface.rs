//! The first bytes of an HTTP/2 connection, which have to come soon: h2 itself would wait for them for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// The client connection preface (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection of which some bytes have been read; they come first when it is read again.
pub(in crate::transport) struct Begun<IO> {
    io: IO,
    first: [u8; PREFACE.len()],
    next: usize,
    end: usize,
}

/// Reads the preface, or as much as shows that it is none: then h2 answers as it would have.
///
/// # Errors
/// It does not come within `limit` (`None`: whenever), or the connection is lost.
pub(in crate::transport) async fn read_preface<IO: AsyncRead + Unpin>(
    io: IO,
    limit: Option<Duration>,
) -> io::Result<Begun<IO>> {
    let mut begun = Begun { io, first: [0; PREFACE.len()], next: 0, end: 0 };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the HTTP/2 preface did not come in time");
    match limit {
        None => begun.fill().await?,
        Some(limit) => timeout(limit, begun.fill()).await.map_err(|_| late())??,
    }
    Ok(begun)
}

impl<IO: AsyncRead + Unpin> Begun<IO> {
    async fn fill(&mut self) -> io::Result<()> {
        while self.end < PREFACE.len() && PREFACE.starts_with(&self.first[..self.end]) {
            match self.io.read(&mut self.first[self.end..]).await? {
                0 => break,
                read => self.end += read,
            }
        }
        Ok(())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Begun<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.next == this.end {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let rest = &this.first[this.next..this.end];
        let length = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..length]);
        this.next += length;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Begun<IO> {
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
