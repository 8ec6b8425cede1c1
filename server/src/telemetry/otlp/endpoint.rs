//! Where the collector is, and how it is spoken to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::ClientConfig;

use crate::telemetry::metrics::Signal;

/// The name of the service unless another one is chosen.
pub(super) const SERVICE: &str = "tollgate";

/// How messages travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf in HTTP/1.1.
    Http,
}

/// The address of a collector.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Without a slash at the end.
    pub(super) path: String,
}

/// A collector, and everything needed to speak to it.
#[derive(Clone)]
pub struct Target {
    /// Where it is.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Headers of every message; they may hold a login.
    pub headers: HeaderMap,
    /// The longest that one message may take.
    pub timeout: Duration,
    /// For `https`.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Says nothing of the headers.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Reads `http://host[:port][/path]`, or the same with `https`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Endpoint, String> {
        let wrong = |why: &str| format!("{text:?} {why}");
        let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("does not begin with http:// or https://")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some()
        {
            return Err("has a user or a query; a login belongs into the headers".to_owned());
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Endpoint { host: host.to_owned(), port, tls, path })
    }

    /// Whether the way there is encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls
    }

    /// `host:port`, for the socket: an IPv6 address keeps its brackets.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host for a certificate.
    pub(super) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn path(&self, protocol: Protocol, signal: Signal) -> String {
        const SERVICES: &str = "/opentelemetry.proto.collector";
        let end = match (protocol, signal) {
            (Protocol::Grpc, Signal::Metrics) => {
                return format!("{SERVICES}.metrics.v1.MetricsService/Export");
            }
            (Protocol::Grpc, Signal::Traces) => return format!("{SERVICES}.trace.v1.TraceService/Export"),
            (Protocol::Http, Signal::Metrics) => "/v1/metrics",
            (Protocol::Http, Signal::Traces) => "/v1/traces",
        };
        format!("{}{end}", self.path)
    }
}

/// Reads `name=value,name=value` with percent signs as in URLs: headers and attributes of the resource.
///
/// # Errors
/// The part that makes no sense, by its place: it may hold a secret.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').enumerate().filter(|(_, part)| !part.trim().is_empty());
    let pair = |(place, part): (usize, &str)| {
        let wrong = || format!("part {} is not name=value", place + 1);
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let name = name.trim();
        let value = plain(value.trim()).ok_or_else(wrong)?;
        if name.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), value)) }
    };
    parts.map(pair).collect()
}

/// Reads headers.
///
/// # Errors
/// The header that is none, by its place.
pub fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (place, (name, value)) in pairs(text)?.into_iter().enumerate() {
        let wrong = || format!("header {} has a name or a value that no header may have", place + 1);
        let name: HeaderName = name.to_lowercase().parse().map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Undoes percent signs.
fn plain(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url() {
        let endpoint = Endpoint::read("http://collector:4317").unwrap();
        assert_eq!((endpoint.address(), endpoint.tls), ("collector:4317".to_owned(), false));
        let endpoint = Endpoint::read("https://[::1]/otlp/").unwrap();
        assert_eq!((endpoint.address(), endpoint.name()), ("[::1]:443".to_owned(), "::1"));
        assert_eq!(endpoint.path(Protocol::Http, Signal::Traces), "/otlp/v1/traces");
        let service = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        assert_eq!(endpoint.path(Protocol::Grpc, Signal::Metrics), service);
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for wrong in ["", "collector:4317", "ftp://x", "http://", "http://u:p@host", "http://h/?token=x"] {
            let why = Endpoint::read(wrong).unwrap_err();
            assert!(!why.contains("u:p") && !why.contains("token"), "{why}");
        }
    }

    #[test]
    fn pairs_are_separated_by_commas() {
        let read = pairs("a=1, b = x%20y%2C ,").unwrap();
        assert_eq!(read, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x y,".to_owned())]);
        for (wrong, why) in [("a", "part 1"), ("a=1,=2", "part 2"), ("a=%zz", "part 1")] {
            assert!(pairs(wrong).unwrap_err().starts_with(why), "{wrong}");
        }
    }

    #[test]
    fn headers_are_sensitive() {
        let read = headers("Authorization=Bearer%20x").unwrap();
        assert_eq!(read["authorization"], "Bearer x");
        assert!(read["authorization"].is_sensitive());
        assert!(headers("a b=1").is_err());
    }
}
