//! Section `[auth]`: how `GET /auth/{domain}` makes descriptors out of the request that a gateway asks about.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::is_token;

/// `[auth]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Status of a refusal, `429`, from 400 to 599; a request may ask for another one.
    pub deny_status: u16,
    /// The mapping of a domain that `domains` does not name:
    /// `remote_address`; `path`; both together.
    pub default: AuthMapping,
    /// The mapping of each domain, by its exact name; empty.
    pub domains: BTreeMap<String, AuthMapping>,
}

impl Auth {
    /// The mapping that `domain` uses.
    #[must_use]
    pub fn mapping(&self, domain: &str) -> &AuthMapping {
        self.domains.get(domain).unwrap_or(&self.default)
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { deny_status: 429, default: AuthMapping::default(), domains: BTreeMap::new() }
    }
}

/// The descriptors that a request becomes. A descriptor of which one source is missing is dropped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthMapping {
    /// Each descriptor is a list of entries, asked about independently of the others.
    pub descriptors: Vec<Vec<AuthEntry>>,
}

impl Default for AuthMapping {
    fn default() -> AuthMapping {
        let address = || AuthEntry { key: "remote_address".to_owned(), from: Source::ClientIp };
        let path = || AuthEntry { key: "path".to_owned(), from: Source::Path };
        AuthMapping { descriptors: vec![vec![address()], vec![path()], vec![address(), path()]] }
    }
}

/// One entry of a descriptor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuthEntry {
    /// The key that the rules name.
    pub key: String,
    /// Where its value comes from.
    pub from: Source,
}

/// A part of the request that the gateway asks about; the text form is in each comment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// `header:NAME`, first value; the name in lower case.
    Header(String),
    /// `query:NAME` of the `/auth` request itself, else of the original one.
    Query(String),
    /// `method`: `X-Forwarded-Method`, else `X-Original-Method`.
    Method,
    /// `path`: `X-Forwarded-Uri`, else `X-Original-URI`, else `X-Original-URL`; without host and query.
    Path,
    /// `host`: `X-Forwarded-Host`, else `X-Original-Host`, else `Host`.
    Host,
    /// `client_ip`: `X-Real-IP`, else the first address of `X-Forwarded-For`.
    ClientIp,
    /// `const:TEXT`
    Const(String),
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Source, String> {
        let source = match text.split_once(':') {
            Some(("header", name)) if is_token(name) => Source::Header(name.to_ascii_lowercase()),
            Some(("query", name)) if !name.is_empty() => Source::Query(name.to_owned()),
            Some(("const", value)) => Source::Const(value.to_owned()),
            None if text == "method" => Source::Method,
            None if text == "path" => Source::Path,
            None if text == "host" => Source::Host,
            None if text == "client_ip" => Source::ClientIp,
            _ => return Err(format!("unknown source {text:?}")),
        };
        Ok(source)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Header(name) => write!(f, "header:{name}"),
            Source::Query(name) => write!(f, "query:{name}"),
            Source::Method => write!(f, "method"),
            Source::Path => write!(f, "path"),
            Source::Host => write!(f, "host"),
            Source::ClientIp => write!(f, "client_ip"),
            Source::Const(text) => write!(f, "const:{text}"),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}
