//! Section `[xds]`: the management server that the rules come from.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::origin::Origins;
use super::problem::Problem;
use super::secret::Secret;
use super::text::{is_token, optional_path};
use super::{RulesSource, Settings};

/// `[xds]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Xds {
    /// `host:port`, `localhost:18000`. `CONFIG_GRPC_XDS_SERVER_URL`
    pub server: String,
    /// Name by which the server knows us, `default`. `CONFIG_GRPC_XDS_NODE_ID`
    pub node_id: String,
    /// `name=value,name=value`, empty. `CONFIG_GRPC_XDS_NODE_METADATA`
    pub node_metadata: String,
    /// Headers of the call, `name:value,name:value`, empty. `CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS`
    pub headers: Secret,
    /// Largest response in bytes, `67108864` (64 MiB), from 1 to 1 GiB. `XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES`
    pub max_message_bytes: u64,
    /// A PING after so long, `5m10s`; `0s`: none. Servers in Go hang up on more than one in five minutes unless they
    /// are told otherwise.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// Wait before the second attempt to connect, `1s`, more than 0; it doubles. `XDS_CLIENT_BACKOFF_INITIAL_INTERVAL`
    #[serde(with = "duration")]
    pub backoff_initial: Duration,
    /// Longest wait, `60s`, at least `backoff_initial`. `XDS_CLIENT_BACKOFF_MAX_INTERVAL`
    #[serde(with = "duration")]
    pub backoff_max: Duration,
    /// Share of a wait that is random, `0.5`, from 0 to 1. `XDS_CLIENT_BACKOFF_RANDOM_FACTOR`; 0 with
    /// `XDS_CLIENT_BACKOFF_JITTER=false`
    pub backoff_jitter: f64,
    /// TLS to the server, `false`. `CONFIG_GRPC_XDS_SERVER_USE_TLS`
    pub tls: bool,
    /// PEM file of the server's authorities, empty: the system's. `CONFIG_GRPC_XDS_SERVER_TLS_CACERT`
    #[serde(with = "optional_path")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file of our certificate, empty. `CONFIG_GRPC_XDS_CLIENT_TLS_CERT`
    #[serde(with = "optional_path")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key, empty. `CONFIG_GRPC_XDS_CLIENT_TLS_KEY`
    #[serde(with = "optional_path")]
    pub tls_key: Option<PathBuf>,
    /// Name in the server's certificate, empty: the host of `server`. `CONFIG_GRPC_XDS_SERVER_TLS_SAN`
    pub tls_server_name: String,
}

impl Default for Xds {
    fn default() -> Xds {
        Xds {
            server: "localhost:18000".to_owned(),
            node_id: "default".to_owned(),
            node_metadata: String::new(),
            headers: Secret::default(),
            max_message_bytes: 64 << 20,
            keepalive_interval: Duration::from_secs(310),
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            backoff_jitter: 0.5,
            tls: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls_server_name: String::new(),
        }
    }
}

impl Xds {
    /// The metadata of the node, in order; `None` if an item has no name or no `=`.
    #[must_use]
    pub fn node_metadata(&self) -> Option<Vec<(&str, &str)>> {
        pairs(&self.node_metadata, '=')
    }

    /// The headers of the call, in order; `None` if an item has no name or no `:`.
    #[must_use]
    pub fn headers(&self) -> Option<Vec<(&str, &str)>> {
        pairs(self.headers.reveal(), ':')
    }
}

fn pairs(text: &str, between: char) -> Option<Vec<(&str, &str)>> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| pair(item, between)).collect()
}

fn pair(item: &str, between: char) -> Option<(&str, &str)> {
    let (name, value) = item.split_once(between)?;
    let (name, value) = (name.trim(), value.trim());
    (!name.is_empty()).then_some((name, value))
}

/// What the section contradicts.
pub(super) fn problems(xds: &Xds, origins: &Origins) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse_unless = |holds: bool, key: &str, why: &str| {
        if !holds {
            let origin = origins.of(&format!("xds.{key}")).clone();
            problems.push(Problem::Refused { origin, why: format!("xds.{key} {why}") });
        }
    };
    let server = xds.server.rsplit_once(':');
    let is_address = server.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    refuse_unless(is_address, "server", "must be host:port");
    refuse_unless(xds.node_metadata().is_some(), "node_metadata", "must be name=value,name=value");
    let are_headers = xds.headers().is_some_and(|headers| headers.iter().all(is_header));
    refuse_unless(
        are_headers,
        "headers",
        "must be name:value,name:value with names and values of HTTP headers",
    );
    refuse_unless(!xds.backoff_initial.is_zero(), "backoff_initial", "must be longer than 0s");
    let grows = xds.backoff_max >= xds.backoff_initial;
    refuse_unless(grows, "backoff_max", "must be at least xds.backoff_initial");
    let paired = xds.tls_cert.is_some() == xds.tls_key.is_some();
    let alone = if xds.tls_cert.is_some() { "tls_cert" } else { "tls_key" };
    refuse_unless(paired, alone, "needs the other one of xds.tls_cert and xds.tls_key");
    problems
}

fn is_header((name, value): &(&str, &str)) -> bool {
    // binary headers are base64, which nobody writes into a setting
    is_token(name)
        && !name.to_ascii_lowercase().ends_with("-bin")
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// What has no effect.
pub(super) fn warnings(settings: &Settings, origins: &Origins) -> Option<String> {
    let Settings { rules, xds, .. } = settings;
    let without = |key: &str, why: &str| Some(format!("{key} ({}) has no effect: {why}", origins.of(key)));
    if rules.source == RulesSource::Xds && rules.dir.is_some() {
        return without("rules.dir", "rules.source is \"xds\"");
    }
    if rules.source == RulesSource::Xds && !xds.tls {
        let files = [("ca", &xds.tls_ca), ("cert", &xds.tls_cert), ("key", &xds.tls_key)];
        let (set, _) = files.into_iter().find(|(_, file)| file.is_some())?;
        return without(&format!("xds.tls_{set}"), "xds.tls is false");
    }
    None
}
