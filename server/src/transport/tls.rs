//! TLS on a port: handshakes on the worker of the connection, certificates that change while it serves.
//!
//! [`TlsServer::follow`] reads the files every second and takes over what has changed, if it is sound as a whole. It
//! compares what is read and not when it was written: a symlink that points elsewhere, as Kubernetes makes it, is a
//! change like any other. A pair that does not belong together (yet) changes nothing.

mod material;
mod preface;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::material::Material;
pub(super) use self::preface::read_preface;
use crate::access::{NamePattern, Peer};

/// How often the files are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Whether a caller has to show a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    /// None is asked for.
    Off,
    /// Who has none may come too; one that is shown has to be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

/// How a port does TLS.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The settings' section, to tell ports apart in the log.
    pub section: &'static str,
    /// PEM file: the certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// PEM file: its key.
    pub key: PathBuf,
    /// PEM file: the authorities of callers.
    pub client_ca: Option<PathBuf>,
    /// Whether callers have to show a certificate.
    pub client_auth: ClientAuth,
    /// Names of which a caller's certificate needs one; none: every name.
    pub allowed_names: Arc<[NamePattern]>,
    /// Whether TLS 1.2 is spoken too.
    pub with_tls12: bool,
    /// What is spoken inside, best first. Whoever says nothing is served as well.
    pub alpn: &'static [&'static [u8]],
    /// A handshake has to be over within this.
    pub handshake_timeout: Duration,
}

/// Why a port cannot do TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{section}: cannot read {}: {error}", .path.display())]
    File {
        /// The settings' section.
        section: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file does not hold what it should, or certificate and key do not belong together.
    #[error("{section}: {why}")]
    Content {
        /// The settings' section.
        section: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// What has happened on one port.
#[derive(Debug, Default)]
pub struct TlsCounts {
    /// Handshakes that ended in a connection.
    pub done: AtomicU64,
    /// Handshakes that failed, for want of a good certificate or otherwise.
    pub failed: AtomicU64,
    /// Handshakes that took too long.
    pub timed_out: AtomicU64,
    /// Changed files that were taken over.
    pub reloaded: AtomicU64,
    /// Changed files that could not be taken over.
    pub refused: AtomicU64,
}

/// TLS on one port.
#[derive(Debug)]
pub struct TlsServer {
    options: TlsOptions,
    config: ArcSwap<ServerConfig>,
    /// What the files held when they were read last.
    read: Mutex<Material>,
    /// What has happened.
    pub counts: TlsCounts,
}

impl TlsServer {
    /// TLS as `options` say.
    ///
    /// # Errors
    /// A file cannot be read, or makes no sense.
    pub fn new(options: TlsOptions) -> Result<TlsServer, TlsError> {
        let material = Material::read(&options)?;
        let config = ArcSwap::from(material.config(&options)?);
        Ok(TlsServer { options, config, read: Mutex::new(material), counts: TlsCounts::default() })
    }

    /// The section of the settings that this port has.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.options.section
    }

    /// Takes over changes of the files, for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_failure = String::new();
        loop {
            ticks.tick().await;
            let server = self.clone();
            let looked = tokio::task::spawn_blocking(move || server.look()).await;
            let failure = match looked {
                Ok(Ok(_)) => String::new(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            if !failure.is_empty() && failure != last_failure {
                self.counts.refused.fetch_add(1, Relaxed);
                tracing::error!("{failure}; the certificates before stay in use");
            }
            last_failure = failure;
        }
    }

    /// Reads the files once, and takes over what has changed. False: nothing has.
    ///
    /// # Errors
    /// As [`TlsServer::new`]; then what was in use stays in use.
    pub fn look(&self) -> Result<bool, TlsError> {
        let found = Material::read(&self.options)?;
        let mut read = self.read.blocking_lock();
        if *read == found {
            return Ok(false);
        }
        // sessions of before cannot be resumed: the new configuration has a cache of its own
        self.config.store(found.config(&self.options)?);
        *read = found;
        self.counts.reloaded.fetch_add(1, Relaxed);
        tracing::info!(section = self.options.section, "certificates were read anew");
        Ok(true)
    }

    /// Does the handshake on `stream`.
    ///
    /// # Errors
    /// It fails, or takes too long.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(&self, stream: IO) -> io::Result<TlsStream<IO>> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let counts = &self.counts;
        let Ok(shaken) = timeout(self.options.handshake_timeout, acceptor.accept(stream)).await else {
            counts.timed_out.fetch_add(1, Relaxed);
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"));
        };
        let count = if shaken.is_ok() { &counts.done } else { &counts.failed };
        count.fetch_add(1, Relaxed);
        shaken
    }
}

/// The names in the certificate that the caller has shown; `None` if it has shown none.
pub(super) fn peer<IO>(stream: &TlsStream<IO>) -> Option<Peer> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    Some(Peer { names: verify::names(certificate) })
}
