//! Section `[access]`: domains that are bound to identities.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::origin::Origins;
use super::problem::Problem;
use super::secret::Secret;
use super::tls::ClientAuth;
use crate::access::{DomainPattern, NamePattern};

/// `[access]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Identities and their domains; empty: every caller may ask about every domain. Once there is one, a caller
    /// without an identity may ask about none.
    pub identities: Vec<Identity>,
}

/// One identity: a name of a certificate, or a bearer token.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// A DNS name or URI in the caller's certificate; `*.example` and `spiffe://host/path/*` stand for what is below.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// What the caller sends as `authorization: Bearer`.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub token: Secret,
    /// The domains: exact, or with a `*` at the end.
    pub domains: Vec<String>,
}

/// What is wrong with the identities, and with who may write.
pub(super) fn problems(settings: &Settings, origins: &Origins) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, why: String| {
        problems.push(Problem::Refused { origin: origins.of(key).clone(), why: format!("{key}{why}") });
    };
    for (place, identity) in settings.access.identities.iter().enumerate() {
        if let Some(why) = flaw(identity) {
            refuse("access.identities", format!("[{place}]{why}"));
        }
    }
    let no_names =
        [&settings.grpc.tls, &settings.http.tls].iter().all(|tls| tls.client_auth == ClientAuth::Off);
    if no_names && settings.access.identities.iter().any(|identity| !identity.identity.is_empty()) {
        let why =
            " names certificates, but neither grpc.tls.client_auth nor http.tls.client_auth asks for one";
        refuse("access.identities", why.to_owned());
    }
    for writer in &settings.admin.writers {
        if let Err(form) = NamePattern::parse(writer) {
            refuse("admin.writers", format!(": {writer:?} is not {form}"));
        }
    }
    let never_asked =
        settings.admin.tls.client_auth == ClientAuth::Off && settings.grpc.tls.client_auth == ClientAuth::Off;
    if never_asked && !settings.admin.writers.is_empty() {
        let why = " needs admin.tls.client_auth or grpc.tls.client_auth = \"optional\" or \"required\"";
        refuse("admin.writers", why.to_owned());
    }
    problems
}

fn flaw(identity: &Identity) -> Option<String> {
    match (identity.identity.as_str(), identity.token.is_empty()) {
        ("", true) => return Some(" needs identity or token".to_owned()),
        (name, false) if !name.is_empty() => {
            return Some(" has identity and token; make two of it".to_owned());
        }
        ("", false) => {}
        (name, _) => {
            if let Err(form) = NamePattern::parse(name) {
                return Some(format!(".identity: {name:?} is not {form}"));
            }
        }
    }
    if identity.domains.is_empty() {
        return Some(".domains must not be empty".to_owned());
    }
    let broken =
        identity.domains.iter().find_map(|domain| Some((domain, DomainPattern::parse(domain).err()?)));
    broken.map(|(domain, form)| format!(".domains: {domain:?} is not {form}"))
}
