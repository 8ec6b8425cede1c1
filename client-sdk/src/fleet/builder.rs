//! How a client is set up.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use super::MAX_CIRCUITS;
use super::client::FleetClient;
use crate::config::{ConfigError, seed};
use crate::secure::{Security, Token};

/// A connection on which nothing is heard for this long is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// And is given up if it does not say so within this time.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest names, in bytes.
const LONGEST: usize = 64;

/// How a client talks to the server.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FleetTransport {
    /// One stream in both directions.
    #[default]
    Stream,
    /// A call for each report, for proxies that cannot stream.
    Unary,
}

/// Where the server is.
#[derive(Debug)]
enum To {
    Address(String),
    Channel(Channel),
}

/// Sets up a [`FleetClient`].
#[derive(Debug)]
#[must_use = "a builder does nothing until connect_lazy()"]
pub struct FleetClientBuilder {
    to: To,
    pub(super) transport: FleetTransport,
    pub(super) reporter: Vec<u8>,
    pub(super) zone: String,
    pub(super) most: usize,
    pub(super) security: Security,
    token: Option<String>,
}

impl FleetClientBuilder {
    pub(super) fn to(address: String) -> FleetClientBuilder {
        FleetClientBuilder::new(To::Address(address))
    }

    pub(super) fn on(channel: Channel) -> FleetClientBuilder {
        FleetClientBuilder::new(To::Channel(channel))
    }

    fn new(to: To) -> FleetClientBuilder {
        let reporter = [seed(), seed()].iter().flat_map(|half| half.to_be_bytes()).collect();
        let transport = FleetTransport::Stream;
        FleetClientBuilder {
            to,
            transport,
            reporter,
            zone: String::new(),
            most: MAX_CIRCUITS,
            security: Security::default(),
            token: None,
        }
    }

    /// Stream or single calls. Default: stream.
    pub fn transport(mut self, transport: FleetTransport) -> Self {
        self.transport = transport;
        self
    }

    /// Where this process runs, at most 64 bytes: probes go to different zones first. Default: nowhere.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// The name of this process, 1 to 64 bytes, for telling processes apart in the server's lists. No two that
    /// live at the same time may share one. Default: 16 random bytes.
    pub fn reporter(mut self, id: impl Into<Vec<u8>>) -> Self {
        self.reporter = id.into();
        self
    }

    /// Circuits that breakers may join, `1..=10_000`. Default 10 000. A breaker that would be one more cannot
    /// be built.
    pub fn max_circuits(mut self, circuits: usize) -> Self {
        self.most = circuits;
        self
    }

    /// Encrypts the connection. Default: an address with `https://` is encrypted and trusts the system's roots. A
    /// channel that exists already is as it is.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::tls::Tls) -> Self {
        self.security.tls = Some(tls);
        self
    }

    /// Sends this token with every call, as `authorization: Bearer TOKEN` (RFC 6750): one word of visible ASCII.
    /// Without TLS everybody on the way can read it. Default: none.
    pub fn bearer_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The client. It connects in the background, when the first breaker joins it or before.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that makes no sense; there must be a tokio runtime.
    pub fn connect_lazy(mut self) -> Result<FleetClient, ConfigError> {
        self.check()?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|why| ConfigError::range("fleet client: runtime", "a running tokio runtime", &why))?;
        let channel = match &mut self.to {
            To::Channel(channel) => channel.clone(),
            To::Address(address) => lazily(address, &mut self.security)?,
        };
        Ok(FleetClient::start(self, channel, &runtime))
    }

    fn check(&mut self) -> Result<(), ConfigError> {
        if let Some(token) = &self.token {
            let wrong =
                || ConfigError::range("fleet client: bearer_token", "one word of visible ASCII", &"that");
            self.security.token = Token::bearer(token).ok_or_else(wrong)?;
        }
        let range = |field, range, value: usize| Err(ConfigError::range(field, range, &value));
        match (self.reporter.len(), self.zone.len(), self.most) {
            (1..=LONGEST, 0..=LONGEST, 1..=MAX_CIRCUITS) => Ok(()),
            (1..=LONGEST, 0..=LONGEST, most) => range("fleet client: max_circuits", "in 1..=10_000", most),
            (1..=LONGEST, zone, _) => range("fleet client: zone", "at most 64 bytes", zone),
            (reporter, ..) => range("fleet client: reporter", "1 to 64 bytes", reporter),
        }
    }
}

/// A channel to `address` that connects when it is used, encrypted if the address or the settings say so.
fn lazily(address: &str, security: &mut Security) -> Result<Channel, ConfigError> {
    let uri = address.parse::<http::Uri>().ok();
    let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
    let (Some(uri), Some(scheme @ ("http" | "https"))) = (&uri, scheme) else {
        return Err(wrong(address));
    };
    let authority = uri.authority().ok_or_else(|| wrong(address))?;
    encrypt(scheme, security, address)?;
    let port = authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let target = format!("{}:{port}", authority.host());
    let security = security.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (security, target) = (security.clone(), target.clone());
        async move { security.connect(&target, &target).await.map(TokioIo::new) }
    });
    // the connector encrypts; what tonic is told is only what requests are called
    Ok(endpoint(&format!("http://{authority}"), address)?
        .origin(uri.clone())
        .connect_with_connector_lazy(connector))
}

fn wrong(address: &str) -> ConfigError {
    let range = "like http://tollgate:8081 or https://tollgate:8081";
    ConfigError::range("fleet client: address", range, &address)
}

/// What the address says about encryption must agree with the rest.
#[cfg(feature = "tls")]
fn encrypt(scheme: &str, security: &mut Security, address: &str) -> Result<(), ConfigError> {
    match (scheme, &security.tls) {
        ("http", Some(_)) => Err(ConfigError::range("fleet client: address", "https:// with tls", &address)),
        ("https", None) => {
            security.tls = Some(crate::tls::Tls::builder().build()?);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(not(feature = "tls"))]
fn encrypt(scheme: &str, _: &mut Security, address: &str) -> Result<(), ConfigError> {
    if scheme == "https" {
        let range = "http://: https:// needs the crate's feature tls";
        return Err(ConfigError::range("fleet client: address", range, &address));
    }
    Ok(())
}

fn endpoint(plain: &str, address: &str) -> Result<Endpoint, ConfigError> {
    let endpoint = Endpoint::from_shared(plain.to_owned()).map_err(|_| wrong(address))?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(ALIVE_WITHIN)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_makes_no_sense_is_named() {
        let client = || FleetClient::builder("http://127.0.0.1:1");
        let why = |builder: FleetClientBuilder| builder.connect_lazy().unwrap_err().to_string();
        let zone = "z".repeat(65);
        assert_eq!(why(client().zone(zone)), "fleet client: zone must be at most 64 bytes, not 65");
        assert_eq!(why(client().reporter("")), "fleet client: reporter must be 1 to 64 bytes, not 0");
        assert_eq!(
            why(client().max_circuits(10_001)),
            "fleet client: max_circuits must be in 1..=10_000, not 10001"
        );
        let token = why(client().bearer_token("two words"));
        assert!(token.starts_with("fleet client: bearer_token must be one word"), "{token}");
        for address in ["", "tollgate", "http://a b", "ftp://a"] {
            let why = why(FleetClient::builder(address));
            assert!(why.contains("address must be like http://tollgate:8081"), "{why}");
        }
    }

    #[test]
    fn without_a_runtime_there_is_no_client() {
        let why = FleetClient::builder("http://127.0.0.1:1").connect_lazy().unwrap_err().to_string();
        assert!(why.starts_with("fleet client: runtime must be a running tokio runtime"), "{why}");
    }

    #[test]
    fn every_client_has_a_name_of_its_own() {
        let name = || FleetClient::builder("http://127.0.0.1:1").reporter;
        assert_eq!(name().len(), 16);
        assert_ne!(name(), name());
    }
}
