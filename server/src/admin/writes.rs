//! Who may change anything through the admin port.

use std::hint::black_box;

use axum::http::{HeaderMap, header};

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
    let sent = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, sent)) = sent.split_at_checked(b"Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && same(sent, token.as_bytes())
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
