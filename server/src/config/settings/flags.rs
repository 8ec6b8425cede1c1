//! The strongest layer: what the command line says about settings.

use std::path::{Path, PathBuf};

use super::origin::Origin;
use super::problem::Problem;

/// Settings from the command line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    settings_file: Option<PathBuf>,
    values: Vec<FlagValue>,
    problems: Vec<Problem>,
}

/// One setting, and the flag that states it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct FlagValue {
    pub(super) flag: String,
    pub(super) key: String,
    pub(super) text: String,
}

impl Flags {
    /// No flags.
    #[must_use]
    pub fn new() -> Flags {
        Flags::default()
    }

    /// `--settings FILE`
    #[must_use]
    pub fn with_settings_file(self, file: impl Into<PathBuf>) -> Flags {
        Flags { settings_file: Some(file.into()), ..self }
    }

    /// A flag of its own for `key`, such as `--grpc-port`; a later one wins.
    #[must_use]
    pub fn with_value(mut self, flag: &str, key: &str, text: impl Into<String>) -> Flags {
        self.values.push(FlagValue { flag: flag.to_owned(), key: key.to_owned(), text: text.into() });
        self
    }

    /// `--set section.key=value`
    #[must_use]
    pub fn with_assignment(mut self, assignment: &str) -> Flags {
        match assignment.split_once('=') {
            Some((key, text)) => return self.with_value("--set", key.trim(), text),
            None => self.problems.push(Problem::Refused {
                origin: Origin::Flag("--set".to_owned()),
                why: format!("{assignment:?} is not section.key=value"),
            }),
        }
        self
    }

    pub(super) fn settings_file(&self) -> Option<&Path> {
        self.settings_file.as_deref()
    }

    pub(super) fn values(&self) -> &[FlagValue] {
        &self.values
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }
}
