//! A port for people and scrapers: HTTP/1.1, few connections, on the runtime that this is called on.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::connection::{ConnectionLimits, Introduced, serve_http};
use super::listen::{Listener, Stream};
use super::tls::{self, TlsServer};
use crate::access::Access;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 1_024;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How such a port serves.
#[derive(Clone)]
pub struct Web {
    /// The routes.
    pub routes: Router,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<TlsServer>>,
    /// Who may change things.
    pub access: Arc<Access>,
    /// Limits of each connection.
    pub limits: ConnectionLimits,
}

/// Serves until `stop`. A connection beyond the thousand and twenty-fourth waits.
pub async fn serve_web(listener: Listener, web: Web, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted.and_then(|stream| stream.into_tokio()) {
            Ok(stream) => drop(tokio::spawn(one(stream, web.clone(), stop.clone(), place))),
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn one(stream: Stream, web: Web, stop: CancellationToken, _place: OwnedSemaphorePermit) {
    match stream {
        Stream::Tcp(stream) => secure(stream, web, stop).await,
        Stream::Unix(stream) => secure(stream, web, stop).await,
    }
}

async fn secure(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    web: Web,
    stop: CancellationToken,
) {
    let Web { routes, tls, access, limits } = web;
    let ended = match tls {
        None => serve_http(stream, Introduced::new(routes, access.meet(None)), &limits, stop).await,
        Some(tls) => {
            let shaken = tls.accept(stream).await;
            let Ok(stream) = shaken.inspect_err(|error| tracing::debug!(%error, "no TLS connection")) else {
                return;
            };
            let introduction = access.meet(tls::peer(&stream).as_ref());
            serve_http(stream, Introduced::new(routes, introduction), &limits, stop).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}
