//! Texts that no log, page or error shows.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A password or token; shown as `***`.
#[derive(Clone, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
pub struct Secret(String);

impl Secret {
    /// The text itself: for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { "***" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The address of a server, which may hold a password; shown without its user part and its query.
#[derive(Clone, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The whole text: for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretUrl {
    fn from(text: String) -> SecretUrl {
        SecretUrl(text)
    }
}

impl fmt::Display for SecretUrl {
    /// Hides everything up to the *last* `@`: a password may hold `@` and `,`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = split_scheme(&self.0);
        let (user, host) = match rest.rsplit_once('@') {
            Some((_, host)) => ("***@", host),
            None => ("", rest),
        };
        let (host, query) = match host.split_once('?') {
            Some((host, _)) => (host, "?***"),
            None => (host, ""),
        };
        write!(f, "{scheme}{user}{host}{query}")
    }
}

/// `redis://` and the rest, or nothing and all of it.
fn split_scheme(url: &str) -> (&str, &str) {
    match url.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            url.split_at(scheme.len() + 3)
        }
        _ => ("", url),
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let shown = |text: &str| SecretUrl::from(text.to_owned()).to_string();
        assert_eq!(shown("redis://user:p@ss,word@host:6379/0"), "redis://***@host:6379/0");
        assert_eq!(shown("redis:6379"), "redis:6379");
        assert_eq!(shown("rediss://host?password=x"), "rediss://host?***");
        assert_eq!(shown("redis://a:x@one,redis://b:y@two"), "redis://***@two");
        assert_eq!(shown("user:a://b@host"), "***@host");
    }
}
