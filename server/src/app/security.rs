//! Who may connect and what callers may do, as the settings say.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::options::connection_limits;
use super::spawn;
use crate::access::{Access, DomainPattern, Grant, NamePattern, Who};
use crate::breaker::PeerTls;
use crate::config::settings::{self, Identity, Settings, TlsVersion};
use crate::telemetry::metrics::{Metrics, PortFigures};
use crate::transport::tls::{ClientAuth, TlsOptions, TlsServer};
use crate::transport::{Guard, Listener, Refusals, Web, serve_web};

/// What is spoken inside TLS.
const GRPC: &[&[u8]] = &[b"h2"];
const HTTP: &[&[u8]] = &[b"http/1.1"];

/// What guards the ports.
#[derive(Clone)]
pub(super) struct Security {
    /// The gRPC and the HTTP port.
    pub(super) guard: Guard,
    admin: Option<Arc<TlsServer>>,
}

impl Security {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A file cannot be used, or a pattern makes no sense.
    pub(super) fn of(settings: &Settings) -> anyhow::Result<Security> {
        let access = Arc::new(access(settings).map_err(anyhow::Error::msg)?);
        let grpc = server("grpc.tls", &settings.grpc.tls, GRPC)?;
        let http = server("http.tls", &settings.http.tls, HTTP)?;
        let admin = server("admin.tls", &settings.admin.tls, HTTP)?;
        if !settings.admin.tls.is_on() && !settings.admin.host.is_loopback() {
            tracing::warn!(
                host = settings.admin.host.as_str(),
                "the admin port is open to the network without TLS: whoever reaches it reads rules, keys and metrics"
            );
        }
        Ok(Security { guard: Guard { grpc, http, access }, admin })
    }

    /// Takes over changed certificates until `background` is cancelled, and shows what happens on the ports.
    pub(super) fn watch(&self, background: &CancellationToken, metrics: &Metrics, refusals: Refusals) {
        let servers = [&self.guard.grpc, &self.guard.http, &self.admin].map(Clone::clone);
        for server in servers.iter().flatten() {
            spawn(background, server.clone().follow());
        }
        metrics.watch_ports(move || {
            let [grpc, http, admin] = &servers;
            [("grpc", refusals.grpc(), grpc), ("http", refusals.http(), http), ("admin", 0, admin)]
                .map(|(port, refused, server)| figures(port, refused, server.as_deref()))
        });
    }

    /// Serves the admin port until `background` is cancelled.
    pub(super) fn serve_admin(
        &self,
        settings: &Settings,
        background: &CancellationToken,
        listener: Listener,
        routes: Router,
    ) {
        let tls = self.admin.clone();
        self.serve(settings, background, listener, (routes, tls));
    }

    /// Serves the second port for metrics, which is clear text.
    pub(super) fn serve_metrics(
        &self,
        settings: &Settings,
        background: &CancellationToken,
        listener: Listener,
        routes: Router,
    ) {
        self.serve(settings, background, listener, (routes, None));
    }

    fn serve(
        &self,
        settings: &Settings,
        background: &CancellationToken,
        listener: Listener,
        (routes, tls): (Router, Option<Arc<TlsServer>>),
    ) {
        // callers of this port are operators: domains are not bound here
        let access = Arc::new(self.guard.access.writers_only());
        let web = Web { routes, tls, access, limits: connection_limits(settings) };
        spawn(background, serve_web(listener, web, background.clone()));
    }
}

fn figures(port: &'static str, refused: u64, server: Option<&TlsServer>) -> PortFigures {
    let Some(TlsServer { counts, .. }) = server else {
        return PortFigures { port, refused, ..PortFigures::default() };
    };
    PortFigures {
        port,
        refused,
        speaks_tls: true,
        done: counts.done.load(Relaxed),
        failed: counts.failed.load(Relaxed),
        timed_out: counts.timed_out.load(Relaxed),
        reloaded: counts.reloaded.load(Relaxed),
        not_reloaded: counts.refused.load(Relaxed),
    }
}

/// How the other servers are called: over TLS if they are called so themselves.
///
/// # Errors
/// A file cannot be used.
pub(super) fn peers(settings: &Settings) -> anyhow::Result<Option<PeerTls>> {
    let tls = &settings.grpc.tls;
    let ca = settings.peers.tls.ca.as_ref().or(tls.client_ca.as_ref());
    let (Some(cert), Some(key), Some(ca)) = (&tls.cert, &tls.key, ca) else { return Ok(None) };
    let name = settings.peers.tls.server_name.clone();
    PeerTls::new([cert, key, ca].map(PathBuf::clone), name).map(Some)
}

fn server(
    section: &'static str,
    tls: &settings::Tls,
    alpn: &'static [&'static [u8]],
) -> anyhow::Result<Option<Arc<TlsServer>>> {
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else { return Ok(None) };
    let options = TlsOptions {
        section,
        cert: cert.clone(),
        key: key.clone(),
        client_ca: tls.client_ca.clone(),
        client_auth: match tls.client_auth {
            settings::ClientAuth::Off => ClientAuth::Off,
            settings::ClientAuth::Optional => ClientAuth::Optional,
            settings::ClientAuth::Required => ClientAuth::Required,
        },
        allowed_names: names(&tls.allowed_names).map_err(anyhow::Error::msg)?.into(),
        with_tls12: tls.min_version == TlsVersion::V12,
        alpn,
        handshake_timeout: tls.handshake_timeout,
    };
    Ok(Some(Arc::new(TlsServer::new(options)?)))
}

fn access(settings: &Settings) -> Result<Access, &'static str> {
    let grants = settings.access.identities.iter().map(grant).collect::<Result<_, _>>()?;
    Ok(Access::new(grants, names(&settings.admin.writers)?))
}

fn grant(identity: &Identity) -> Result<Grant, &'static str> {
    let who = match identity.token.reveal() {
        "" => Who::Name(NamePattern::parse(&identity.identity)?),
        token => Who::Token(token.into()),
    };
    let domains =
        identity.domains.iter().map(|domain| DomainPattern::parse(domain)).collect::<Result<_, _>>()?;
    Ok(Grant { who, domains })
}

fn names(texts: &[String]) -> Result<Vec<NamePattern>, &'static str> {
    texts.iter().map(|text| NamePattern::parse(text)).collect()
}
