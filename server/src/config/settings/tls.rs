//! Sections `[grpc.tls]`, `[http.tls]`, `[admin.tls]` and `[peers.tls]`: TLS on our ports, and to the other servers.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::origin::Origins;
use super::problem::Problem;
use super::text::optional_path;
use super::{Settings, StoreKind};
use crate::access::NamePattern;

/// TLS on a port.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate and those between it and its authority; empty: no TLS. `GRPC_SERVER_TLS_CERT`
    #[serde(with = "optional_path")]
    pub cert: Option<PathBuf>,
    /// PEM file of its key. `GRPC_SERVER_TLS_KEY`
    #[serde(with = "optional_path")]
    pub key: Option<PathBuf>,
    /// PEM file of the authorities of callers. `GRPC_CLIENT_TLS_CACERT`
    #[serde(with = "optional_path")]
    pub client_ca: Option<PathBuf>,
    /// Whether callers have to show a certificate: `off`, `optional`, `required`; `off`.
    pub client_auth: ClientAuth,
    /// Names of which a certificate of a caller needs one; empty: every name. `GRPC_CLIENT_TLS_SAN`
    pub allowed_names: Vec<String>,
    /// The oldest version that is spoken, `1.2`; or `1.3`.
    pub min_version: TlsVersion,
    /// Time for a handshake, `10s`; longer than 0.
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            cert: None,
            key: None,
            client_ca: None,
            client_auth: ClientAuth::Off,
            allowed_names: Vec::new(),
            min_version: TlsVersion::V12,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

impl Tls {
    /// Whether the port speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.cert.is_some()
    }
}

/// Whether callers have to show a certificate.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    Off,
    /// Who has none may come too.
    Optional,
    /// Nobody comes without.
    Required,
}

/// The oldest version of TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    V13,
}

/// `[peers.tls]`: TLS to the gRPC ports of the other servers, which is spoken if ours speaks it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeersTls {
    /// PEM file of the authorities that sign the servers' certificates; `grpc.tls.client_ca` unless set.
    #[serde(with = "optional_path")]
    pub ca: Option<PathBuf>,
    /// The name that the other servers' certificates have; empty: the host of their address.
    pub server_name: String,
}

/// What the sections contradict.
pub(super) fn problems(settings: &Settings, origins: &Origins) -> Vec<Problem> {
    let sections = [
        ("grpc.tls", &settings.grpc.tls),
        ("http.tls", &settings.http.tls),
        ("admin.tls", &settings.admin.tls),
    ];
    let mut problems: Vec<_> =
        sections.iter().flat_map(|(section, tls)| contradictions(section, tls, origins)).collect();
    let shares = settings.store.kind == StoreKind::Redis && !settings.peers.token.is_empty();
    let tls = &settings.peers.tls;
    if shares && settings.grpc.tls.is_on() && tls.ca.is_none() && settings.grpc.tls.client_ca.is_none() {
        let why = "peers.tls.ca must be set: with grpc.tls and peers.token servers call each other over TLS";
        problems.push(Problem::Refused { origin: origins.of("grpc.tls.cert").clone(), why: why.to_owned() });
    }
    problems
}

fn contradictions(section: &str, tls: &Tls, origins: &Origins) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, why: String| {
        let origin = origins.of(&format!("{section}.{key}")).clone();
        problems.push(Problem::Refused { origin, why });
    };
    match (&tls.cert, &tls.key) {
        (Some(_), None) => refuse("cert", format!("{section}.key must be set: {section}.cert is")),
        (None, Some(_)) => refuse("key", format!("{section}.cert must be set: {section}.key is")),
        _ => {}
    }
    let asks = tls.client_auth != ClientAuth::Off;
    if asks && !tls.is_on() {
        refuse("client_auth", format!("{section}.client_auth needs {section}.cert and {section}.key"));
    }
    if asks && tls.client_ca.is_none() {
        refuse("client_auth", format!("{section}.client_auth needs {section}.client_ca"));
    }
    if !asks && tls.client_ca.is_some() {
        let why = format!("{section}.client_ca needs {section}.client_auth = \"optional\" or \"required\"");
        refuse("client_ca", why);
    }
    if !asks && !tls.allowed_names.is_empty() {
        let why =
            format!("{section}.allowed_names needs {section}.client_auth = \"optional\" or \"required\"");
        refuse("allowed_names", why);
    }
    for name in &tls.allowed_names {
        if let Err(form) = NamePattern::parse(name) {
            refuse("allowed_names", format!("{section}.allowed_names: {name:?} is not {form}"));
        }
    }
    if tls.handshake_timeout.is_zero() {
        refuse("handshake_timeout", format!("{section}.handshake_timeout must be longer than 0s"));
    }
    problems
}
