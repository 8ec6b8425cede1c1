//! Who may change anything through the admin port.

use std::hint::black_box;
use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderValue, header};
use rustls::crypto::ring::default_provider;

/// Who may change anything through the admin port.
#[derive(Clone)]
pub enum Writes {
    /// Whoever sends this bearer token.
    Token(String),
    /// Nobody.
    Closed,
}

/// Why a request may not change anything: a text for whoever asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Denied {
    /// Nobody may.
    NoToken(&'static str),
    /// The request has not the right token.
    WrongToken(&'static str),
}

impl Denied {
    /// The text.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Denied::NoToken(text) | Denied::WrongToken(text) => text,
        }
    }
}

impl Writes {
    /// Open to whoever knows `token`; without one to nobody.
    #[must_use]
    pub fn with(token: &str) -> Writes {
        if token.is_empty() { Writes::Closed } else { Writes::Token(token.to_owned()) }
    }

    /// Whether a request with `headers` may change something; if not, why.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn permit(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match self {
            _ if is_vouched(headers) => Ok(()),
            Writes::Token(token) if sends(headers, token) => Ok(()),
            Writes::Token(_) => {
                let text = "this needs the header 'authorization: Bearer' with the admin token";
                Err(Denied::WrongToken(text))
            }
            Writes::Closed => Err(Denied::NoToken("changes need a token, and none is set (admin.token)")),
        }
    }
}

impl std::fmt::Debug for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Writes::Token(_) => "Token(***)",
            Writes::Closed => "Closed",
        })
    }
}

fn sends(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION).and_then(bearer);
    sent.is_some_and(|sent| same(sent, token.as_bytes()))
}

/// The token in an `authorization` header of the scheme `Bearer`.
pub(crate) fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, sent) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(sent)
}

/// What this process alone knows, new with every start: it stands in the header of requests whose sender a
/// certificate has shown to be a writer. `None`: the system gives no randomness, so nobody is vouched for.
fn pass() -> Option<&'static str> {
    static PASS: OnceLock<Option<String>> = OnceLock::new();
    let make = || {
        let mut random = [0; 32];
        default_provider().secure_random.fill(&mut random).ok()?;
        Some(random.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    PASS.get_or_init(make).as_deref()
}

/// Lets a request change things, whatever token it had: a certificate has shown that its sender may.
pub(crate) fn vouch(headers: &mut HeaderMap) {
    if let Some(pass) = pass()
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {pass}"))
    {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
}

fn is_vouched(headers: &HeaderMap) -> bool {
    pass().is_some_and(|pass| sends(headers, pass))
}

/// Takes equally long wherever the texts differ, so that time tells nothing of a secret but its length.
pub(crate) fn same(sent: &[u8], secret: &[u8]) -> bool {
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

    #[test]
    fn without_a_token_nobody_may_write() {
        assert!(Writes::with("").permit(&headers(header::AUTHORIZATION, "Bearer ")).is_err());
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
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Writes::Token("secret".into())), "Token(***)");
    }
}
