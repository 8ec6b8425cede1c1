//! Sections `[grpc]`, `[http]`, `[admin]`: what listens where, and how much one caller may ask for.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::secret::Secret;
use super::text::{Host, optional_path};
use super::tls::Tls;

/// Connections of a port at a time.
const MAX_CONNECTIONS: u32 = 100_000;

/// `[grpc]`: the port that Envoy and services call.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// Address to listen on, `0.0.0.0`; `::` takes IPv4 too. `GRPC_HOST`
    pub host: Host,
    /// Port, `8081`; 0 lets the system choose. `GRPC_PORT`
    pub port: u16,
    /// Path of a Unix socket; when set there is no TCP port. Empty. `GRPC_UDS`
    #[serde(with = "optional_path")]
    pub uds: Option<PathBuf>,
    /// Age at which a connection is asked to go (GOAWAY), `24h` as the reference; a balancer in front makes
    /// `5m` the better choice. 0: never. `GRPC_MAX_CONNECTION_AGE`
    #[serde(with = "duration")]
    pub max_connection_age: Duration,
    /// How far the age of each connection is spread around that, in percent, `10`, at most 50.
    pub max_connection_age_jitter_percent: u8,
    /// Time that an aged connection has to finish its calls, `1h`. 0: no bound. `GRPC_MAX_CONNECTION_AGE_GRACE`
    #[serde(with = "duration")]
    pub max_connection_age_grace: Duration,
    /// Silence after which the server sends a PING, `30s`. 0: never.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// Time to answer that PING before the connection is closed, `10s`.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// Calls that one connection may have open, `1024` or more: Envoy's own bound is 1024.
    pub max_concurrent_streams: u32,
    /// Largest request message in bytes, `4194304` (4 MiB).
    pub max_message_bytes: u32,
    /// Largest header list of a request in bytes, `16384`.
    pub max_header_bytes: u32,
    /// HTTP/2 window of one call in bytes, `1048576` (1 MiB).
    pub initial_stream_window_bytes: u32,
    /// HTTP/2 window of one connection in bytes, `4194304` (4 MiB).
    pub initial_connection_window_bytes: u32,
    /// Threads that serve calls, `0` = one per core.
    pub workers: u16,
    /// Connections at a time, `100000`; one more is closed at once. 0: no bound.
    pub max_connections: u32,
    /// TLS on this port.
    pub tls: Tls,
}

impl Default for Grpc {
    fn default() -> Grpc {
        Grpc {
            host: Host::ipv4_any(),
            port: 8081,
            uds: None,
            max_connection_age: Duration::from_secs(24 * 3600),
            max_connection_age_jitter_percent: 10,
            max_connection_age_grace: Duration::from_secs(3600),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_concurrent_streams: 1024,
            max_message_bytes: 4 << 20,
            max_header_bytes: 16 << 10,
            initial_stream_window_bytes: 1 << 20,
            initial_connection_window_bytes: 4 << 20,
            workers: 0,
            max_connections: MAX_CONNECTIONS,
            tls: Tls::default(),
        }
    }
}

/// `[http]`: `/json`, `/healthcheck`, `/livez`, `/readyz`, `/auth/{domain}`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address to listen on, `0.0.0.0`; `::` takes IPv4 too. `HOST`
    pub host: Host,
    /// Port, `8080`; 0 lets the system choose. `PORT`
    pub port: u16,
    /// Largest request body in bytes, `4194304` (4 MiB).
    pub max_body_bytes: u32,
    /// Time for one request from its first byte to the answer, `10s`; also for the first bytes of a connection to
    /// the gRPC or the admin port. 0: no bound.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Connections at a time, `100000`; one more is closed at once. 0: no bound.
    pub max_connections: u32,
    /// TLS on this port.
    pub tls: Tls,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            host: Host::ipv4_any(),
            port: 8080,
            max_body_bytes: 4 << 20,
            timeout: Duration::from_secs(10),
            max_connections: MAX_CONNECTIONS,
            tls: Tls::default(),
        }
    }
}

/// `[admin]`: `/metrics`, `/rlconfig`, `/stats`, `/log`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address to listen on, `127.0.0.1` (the reference: all addresses). `DEBUG_HOST`
    pub host: Host,
    /// Port, `6070`; 0 lets the system choose. `DEBUG_PORT`
    pub port: u16,
    /// Bearer token of whoever may change something; without one nobody may.
    pub token: Secret,
    /// Names of certificates whose holders may change something too, on this port and through the gRPC port's
    /// services for operators; empty.
    pub writers: Vec<String>,
    /// TLS on this port.
    pub tls: Tls,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            host: Host::ipv4_loopback(),
            port: 6070,
            token: Secret::default(),
            writers: Vec::new(),
            tls: Tls::default(),
        }
    }
}
