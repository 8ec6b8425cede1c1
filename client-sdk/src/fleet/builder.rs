//! How a client is set up.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::MAX_CIRCUITS;
use super::client::FleetClient;
use crate::config::{ConfigError, seed};

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
        FleetClientBuilder { to, transport, reporter, zone: String::new(), most: MAX_CIRCUITS }
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
            To::Address(address) => endpoint(address)?.connect_lazy(),
        };
        Ok(FleetClient::start(self, channel, &runtime))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let range = |field, range, value: usize| Err(ConfigError::range(field, range, &value));
        match (self.reporter.len(), self.zone.len(), self.most) {
            (1..=LONGEST, 0..=LONGEST, 1..=MAX_CIRCUITS) => Ok(()),
            (1..=LONGEST, 0..=LONGEST, most) => range("fleet client: max_circuits", "in 1..=10_000", most),
            (1..=LONGEST, zone, _) => range("fleet client: zone", "at most 64 bytes", zone),
            (reporter, ..) => range("fleet client: reporter", "1 to 64 bytes", reporter),
        }
    }
}

fn endpoint(address: &str) -> Result<Endpoint, ConfigError> {
    let wrong = |_| ConfigError::range("fleet client: address", "like http://tollgate:8081", &address);
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(wrong)?;
    if endpoint.uri().scheme().is_none() {
        return Err(ConfigError::range("fleet client: address", "like http://tollgate:8081", &address));
    }
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
        for address in ["", "tollgate", "http://a b"] {
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
