//! The process environment as a value, so that nothing below reads the real one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Environment variables, and the folder in which `tollgate.toml` is looked for.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    directory: Option<PathBuf>,
}

impl Environment {
    /// The real environment and the working directory. Text that is not UTF-8 is kept readable, not exact.
    #[must_use]
    pub fn from_process() -> Environment {
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Environment { variables, directory: Some(PathBuf::new()) }
    }

    /// The same variables, with `directory` searched for `tollgate.toml` and `tollgate.yaml`.
    #[must_use]
    pub fn in_directory(self, directory: impl Into<PathBuf>) -> Environment {
        Environment { directory: Some(directory.into()), ..self }
    }

    /// The text of a variable; empty text is a value too.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Where a settings file is looked for; `None` looks nowhere.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Environment").field("variables", &names).field("directory", &self.directory).finish()
    }
}

/// Given variables and no folder: what tests start from.
impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Environment {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Environment { variables, directory: None }
    }
}
