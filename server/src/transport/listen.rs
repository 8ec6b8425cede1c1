//! Listening sockets, and handing what they accept to the workers.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::workers::Workers;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// gRPC over HTTP/2, clear text.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// TCP
    Tcp(TcpListener),
    /// Unix domain
    Unix(UnixListener),
}

/// Where a socket listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bound {
    /// TCP address
    Tcp(SocketAddr),
    /// Path
    Unix(PathBuf),
}

/// An accepted connection, not bound to any runtime yet.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Listener {
    /// Listens on `host:port`; `[::]` takes IPv4 too. Needs a runtime.
    ///
    /// # Errors
    /// The name does not resolve, the port is in use or not allowed.
    pub async fn tcp(address: &str) -> io::Result<Listener> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host(address).await? {
            match listen(address) {
                Ok(listener) => return Ok(Listener::Tcp(listener)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Listens on a Unix socket; a socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Somebody listens there, or the path cannot be written.
    pub async fn unix(path: &Path) -> io::Result<Listener> {
        match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
                if !socket || UnixStream::connect(path).await.is_ok() {
                    return Err(error);
                }
                std::fs::remove_file(path)?;
                UnixListener::bind(path).map(Listener::Unix)
            }
            bound => bound.map(Listener::Unix),
        }
    }

    /// Where this listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn bound(&self) -> io::Result<Bound> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Bound::Tcp),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Bound::Unix(address.as_pathname().map(Path::to_path_buf).unwrap_or_default()))
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                stream.into_std().map(Accepted::Tcp)
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().map(Accepted::Unix)
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::Tcp(address) => address.fmt(f),
            Bound::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Accepts until `stop`, giving each connection to the worker that has the fewest. A failing accept never
/// ends the server.
pub async fn accept(listener: Listener, protocol: Protocol, workers: &Workers, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok(stream) => workers.give(stream, protocol),
            Err(error) if is_callers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, ?protocol, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the connection failed by itself before it was accepted.
fn is_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected)
}

impl Accepted {
    /// Binds the connection to the runtime that this is called on.
    pub(super) fn into_tokio(self) -> io::Result<Stream> {
        match self {
            Accepted::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Accepted::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

/// A connection on a runtime.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grpc.sock");
        drop(Listener::unix(&path).await.unwrap());
        let listening = Listener::unix(&path).await.unwrap();
        assert!(Listener::unix(&path).await.is_err(), "somebody listens there");
        drop(listening);
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "text").unwrap();
        assert!(Listener::unix(&precious).await.is_err());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "text");
    }
}
