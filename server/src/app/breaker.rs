//! The circuits that a fleet shares, as the settings ask for them.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::UdpSocket;
use tollgate_proto::tollgate::v1::circuit_breakers_server::CircuitBreakersServer;
use tollgate_proto::tollgate::v1::peers_server::PeersServer;
use tonic::service::Routes;

use crate::admin::Writes;
use crate::breaker::{BreakerOptions, BreakerService, Breakers, Member, PeerService, Policy};
use crate::clock::Clock;
use crate::config::settings::{RedisAddresses, RedisPlace, Settings};
use crate::store::redis::RedisStore;
use crate::transport::{Bound, Listener};

/// The name of a server that shares its circuits with nobody.
const ALONE: &str = "alone";

/// Builds what the settings say; `grpc` is the port that other servers call.
///
/// # Errors
/// The thresholds, the token, or the address for the other servers make no sense.
pub(super) async fn build(
    settings: &Settings,
    store: Option<Arc<RedisStore>>,
    grpc: &Listener,
    clock: &dyn Clock,
) -> anyhow::Result<Arc<Breakers>> {
    let rules = settings.breaker.compile().map_err(|flaw| anyhow::anyhow!("{}{}", flaw.key, flaw.why))?;
    let token = if store.is_some() { settings.peers.token.reveal() } else { "" };
    let address = if token.is_empty() { String::new() } else { advertised(settings, grpc).await? };
    let name = store.as_ref().map_or_else(|| ALONE.to_owned(), |store| store.name());
    if store.is_some() && token.is_empty() {
        tracing::info!("peers.token is not set: this server judges circuits by its own streams alone");
    }
    let options = BreakerOptions {
        policy: Policy::new(rules)?,
        max_circuits: settings.breaker.max_circuits as usize,
        max_keys_per_client: settings.breaker.max_keys_per_client as usize,
        writes: Writes::with(settings.admin.token.reveal()),
        token: token.to_owned(),
        tls: if token.is_empty() { None } else { super::security::peers(settings)? },
        me: Member { name, incarnation: clock.now().as_micros(), address },
        store,
    };
    Breakers::new(options, clock)
}

/// Adds the services to the others of the gRPC port.
pub(super) fn add(others: Routes, breakers: &Arc<Breakers>, max_message_bytes: usize) -> Routes {
    let service = CircuitBreakersServer::new(BreakerService::new(breakers.clone()));
    let peers = PeersServer::new(PeerService::new(breakers.clone()));
    others
        .add_service(service.max_decoding_message_size(max_message_bytes))
        .add_service(peers.max_decoding_message_size(max_message_bytes))
}

/// Where the other servers reach this one: what is set, else the address on which it listens, or if that is every
/// address the one from which it reaches Redis.
async fn advertised(settings: &Settings, grpc: &Listener) -> anyhow::Result<String> {
    if !settings.peers.advertise.is_empty() {
        return Ok(settings.peers.advertise.clone());
    }
    let Bound::Tcp(bound) = grpc.bound()? else {
        anyhow::bail!("peers.advertise has to be set: the gRPC port is a Unix socket (grpc.uds)");
    };
    if !bound.ip().is_unspecified() {
        return Ok(bound.to_string());
    }
    let addresses = settings.store.redis.addresses().map_err(anyhow::Error::msg)?;
    let first = match &addresses {
        RedisAddresses::Single(address) => Some(address),
        RedisAddresses::Sentinel { sentinels, .. } => sentinels.first(),
        RedisAddresses::Cluster(seeds) => seeds.first(),
    };
    let Some(RedisPlace::Tcp { host, port }) = first.map(|address| &address.place) else {
        anyhow::bail!("peers.advertise has to be set: Redis is not reached over a network");
    };
    let from = towards(host, *port).await;
    let from = from.with_context(|| {
        format!("peers.advertise has to be set: the address from which {host} is reached is not known")
    })?;
    Ok(std::net::SocketAddr::new(from, bound.port()).to_string())
}

/// The address of ours from which packets to `host` leave. None is sent.
async fn towards(host: &str, port: u16) -> std::io::Result<std::net::IpAddr> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for to in tokio::net::lookup_host((host, port)).await? {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(to).await {
            Ok(()) => return Ok(socket.local_addr()?.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
