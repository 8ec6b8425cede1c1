//! Small checked texts: addresses and header names. A wrong one cannot be built.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A host to listen on: an IP address, a DNS name, or nothing for all addresses of both families (as in Go).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

impl Host {
    /// `0.0.0.0`
    #[must_use]
    pub fn ipv4_any() -> Host {
        Host(Ipv4Addr::UNSPECIFIED.to_string())
    }

    /// `127.0.0.1`
    #[must_use]
    pub fn ipv4_loopback() -> Host {
        Host(Ipv4Addr::LOCALHOST.to_string())
    }

    /// The host without brackets: `0.0.0.0`, `::`, `localhost`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `host:port` as `tokio::net::lookup_host` takes it: `[::]:8081`.
    #[must_use]
    pub fn with_port(&self, port: u16) -> String {
        if self.0.contains(':') { format!("[{}]:{port}", self.0) } else { format!("{}:{port}", self.0) }
    }

    /// Whether this is every address of a family.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.parse().is_ok_and(|address: IpAddr| address.is_unspecified())
    }

    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0 == "localhost" || self.0.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Whether connections of IPv4 are expected too: the socket must not be limited to IPv6.
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        self.0.parse() == Ok(Ipv6Addr::UNSPECIFIED)
    }
}

impl TryFrom<String> for Host {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Host, Self::Error> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
        if bare.is_empty() {
            return Ok(Host(Ipv6Addr::UNSPECIFIED.to_string()));
        }
        // a scope such as `fe80::1%eth0` is legal too
        let address = bare.split('%').next().unwrap_or_default();
        if address.parse::<IpAddr>().is_ok() || is_dns_name(bare) {
            return Ok(Host(bare.to_owned()));
        }
        Err("neither an IP address nor a host name")
    }
}

fn is_dns_name(text: &str) -> bool {
    let looks_numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(legal)
    };
    text.len() <= 253 && !looks_numeric && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.0
    }
}

/// `host:port` to listen on, or nothing; `:9090` means all addresses, as in Go.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Option<(Host, u16)>);

impl Address {
    /// The host and the port, unless the address is empty.
    #[must_use]
    pub fn listen(&self) -> Option<(&Host, u16)> {
        self.0.as_ref().map(|(host, port)| (host, *port))
    }
}

impl TryFrom<String> for Address {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Address, Self::Error> {
        if text.is_empty() {
            return Ok(Address(None));
        }
        let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err("an IPv6 address needs brackets");
        }
        let port = port.parse().map_err(|_| "the port is not a number from 0 to 65535")?;
        Ok(Address(Some((Host::try_from(host.to_owned())?, port))))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.0.map(|(host, port)| host.with_port(port)).unwrap_or_default()
    }
}

/// The name of an HTTP header, in the spelling that was given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(String);

impl HeaderName {
    pub(super) fn known(name: &'static str) -> HeaderName {
        debug_assert!(is_token(name));
        HeaderName(name.to_owned())
    }

    /// The name as it goes out.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HeaderName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<HeaderName, Self::Error> {
        if is_token(&text) { Ok(HeaderName(text)) } else { Err("not a header name") }
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> String {
        name.0
    }
}

/// Whether `text` is a `token` of RFC 9110 §5.6.2, which header names are.
pub(super) fn is_token(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}

/// A path of which the empty text means that there is none.
pub(super) mod optional_path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_deref().unwrap_or(Path::new("")).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        Ok((!path.as_os_str().is_empty()).then_some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<String, &'static str> {
        Host::try_from(text.to_owned()).map(|host| host.with_port(1))
    }

    #[test]
    fn a_host_is_an_address_a_name_or_everything() {
        assert_eq!(host("0.0.0.0").as_deref(), Ok("0.0.0.0:1"));
        assert_eq!(host("::").as_deref(), Ok("[::]:1"));
        assert_eq!(host("[::1]").as_deref(), Ok("[::1]:1"));
        assert_eq!(host("").as_deref(), Ok("[::]:1"));
        assert_eq!(host("localhost").as_deref(), Ok("localhost:1"));
        assert!(
            host("1.2.3").is_err() && host("a b").is_err() && host("a..b").is_err() && host("::g").is_err()
        );
    }
}
