//! Where each value came from.

use std::collections::BTreeMap;
use std::fmt;

/// The layer that set a value, weakest first.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// A settings file, by its path.
    File(String),
    /// An environment variable, by its name.
    Env(String),
    /// A command-line flag, by its name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::File(name) => write!(f, "file {name}"),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The origin of every setting that differs from its default by being set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Who set `key`, written as in `grpc.port`.
    #[must_use]
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }

    /// Whether any layer set `key`.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether any layer set something in `section`.
    #[must_use]
    pub fn any_below(&self, section: &str) -> bool {
        self.below(section).next().is_some()
    }

    /// The settings of `section` that were set, with who set them.
    pub fn below<'a>(&'a self, section: &'a str) -> impl Iterator<Item = (&'a str, &'a Origin)> {
        let is_below = move |key: &str| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        self.0.iter().filter(move |(key, _)| is_below(key)).map(|(key, origin)| (key.as_str(), origin))
    }

    pub(super) fn set(&mut self, key: &str, origin: Origin) {
        self.0.insert(key.to_owned(), origin);
    }
}
