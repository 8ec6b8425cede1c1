//! The sockets of a server.

use std::io;

use super::options::worker_count;
use crate::config::settings::Settings;
use crate::transport::{Bound, Listener};

/// The sockets of a server, bound before anything else starts.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC
    pub grpc: Listener,
    /// HTTP
    pub http: Listener,
    /// Admin
    pub admin: Listener,
    /// A second place for the metrics page, if it is wanted.
    pub metrics: Option<Listener>,
}

impl Listeners {
    /// Binds every socket that the settings ask for.
    ///
    /// # Errors
    /// One cannot be bound; the message says which and why.
    pub async fn bind(settings: &Settings) -> anyhow::Result<Listeners> {
        let grpc = match &settings.grpc.uds {
            Some(path) => named(Listener::unix(path).await, "gRPC", &path.display().to_string())?,
            None => tcp("gRPC", &settings.grpc.host.with_port(settings.grpc.port)).await?,
        };
        let http = tcp("HTTP", &settings.http.host.with_port(settings.http.port)).await?;
        let admin = tcp("admin", &settings.admin.host.with_port(settings.admin.port)).await?;
        let metrics = match settings.metrics.prometheus_addr.listen() {
            None => None,
            Some((host, port)) => Some(tcp("metrics", &host.with_port(port)).await?),
        };
        Ok(Listeners { grpc, http, admin, metrics })
    }
}

async fn tcp(what: &str, address: &str) -> anyhow::Result<Listener> {
    named(Listener::tcp(address).await, what, address)
}

fn named(bound: io::Result<Listener>, what: &str, address: &str) -> anyhow::Result<Listener> {
    bound.map_err(|error| anyhow::anyhow!("cannot listen on {address} for {what}: {error}"))
}

/// Says where the server listens, and how to try it.
pub(super) fn announce(settings: &Settings, listeners: &Listeners) -> io::Result<()> {
    let (grpc, http, admin) = (listeners.grpc.bound()?, listeners.http.bound()?, listeners.admin.bound()?);
    let workers = worker_count(settings);
    tracing::info!(%grpc, %http, %admin, workers, "listening");
    if let Bound::Tcp(http) = http {
        let port = http.port();
        let body = r#"{"domain":"example","descriptors":[{"entries":[{"key":"user","value":"ann"}]}]}"#;
        tracing::info!("try: curl -s localhost:{port}/json -d '{body}'");
    }
    Ok(())
}
