//! Who may change anything through the admin port.

use std::hint::black_box;
use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

use crate::transport::Bound;

/// Who may change anything through the admin port.
#[derive(Clone)]
pub enum Writes {
    /// Everybody who reaches the port, since only this machine does; but no web page of another site.
    Open,
    /// Whoever sends this bearer token.
    Token(String),
    /// Nobody.
    Closed,
}

impl Writes {
    /// Open on an address that only this machine reaches, else closed.
    #[must_use]
    pub fn on(bound: &Bound) -> Writes {
        match bound {
            Bound::Tcp(address) if !is_local(address.ip()) => Writes::Closed,
            _ => Writes::Open,
        }
    }

    /// Whether a request with `headers` may change something; if not, why.
    ///
    /// # Errors
    /// A text for whoever asked.
    pub(super) fn permit(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        match self {
            Writes::Open if is_foreign(headers) => Err("this came from a web page of another site"),
            Writes::Open => Ok(()),
            Writes::Token(token) if sends(headers, token) => Ok(()),
            Writes::Token(_) => Err("this needs the header 'authorization: Bearer' with the admin token"),
            Writes::Closed => {
                Err("the admin port is open to other machines: changes are only possible if it \
                                   listens on a loopback address or has a token")
            }
        }
    }
}

impl std::fmt::Debug for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Writes::Open => "Open",
            Writes::Token(_) => "Token(***)",
            Writes::Closed => "Closed",
        })
    }
}

fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether a browser sends this for a page that is not this machine's, whatever name that page goes by.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let uri = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host != "localhost" && !address.is_ok_and(is_local)
}

fn sends(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, sent)) = sent.split_at_checked(b"Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && same(sent, token.as_bytes())
}

/// Takes equally long wherever the texts differ, so that time tells nothing of a secret but its length.
fn same(sent: &[u8], secret: &[u8]) -> bool {
    let differences = sent.iter().zip(secret).fold(0, |found, (one, two)| black_box(found | (one ^ two)));
    !secret.is_empty() && sent.len() == secret.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn bound(address: &str) -> Bound {
        Bound::Tcp(address.parse().unwrap())
    }

    #[test]
    fn only_an_address_of_this_machine_is_open() {
        for local in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(matches!(Writes::on(&bound(local)), Writes::Open), "{local}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(matches!(Writes::on(&bound(open)), Writes::Closed), "{open}");
        }
        assert!(matches!(Writes::on(&Bound::Unix("/run/x".into())), Writes::Open));
    }

    #[test]
    fn a_token_has_to_be_sent_whole() {
        let writes = Writes::Token("secret".into());
        let permits = |value| writes.permit(&headers(header::AUTHORIZATION, value)).is_ok();
        assert!(permits("Bearer secret") && permits("bearer secret"));
        for wrong in
            ["Bearer secre", "Bearer secret2", "Bearer Secret", "secret", "Basic secret", "", "Bearer "]
        {
            assert!(!permits(wrong), "{wrong}");
        }
        assert!(writes.permit(&HeaderMap::new()).is_err());
    }

    #[test]
    fn an_empty_token_permits_nobody() {
        let writes = Writes::Token(String::new());
        assert!(writes.permit(&headers(header::AUTHORIZATION, "Bearer ")).is_err());
    }

    #[test]
    fn a_web_page_of_another_site_may_not_write_to_an_open_port() {
        let permits = |origin| Writes::Open.permit(&headers(header::ORIGIN, origin)).is_ok();
        for own in ["http://127.0.0.1:6070", "http://localhost:6070", "http://[::1]:6070"] {
            assert!(permits(own), "{own}");
        }
        for foreign in ["http://evil.example", "null", "http://10.0.0.1", "http://localhost.evil.example"] {
            assert!(!permits(foreign), "{foreign}");
        }
        assert!(Writes::Open.permit(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Writes::Token("secret".into())), "Token(***)");
    }
}
