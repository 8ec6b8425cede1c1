//! What is wrong with the settings, all of it at once.

use std::fmt;

use super::origin::Origin;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A file that cannot be read or parsed.
    #[error("settings file {file}: {why}")]
    File {
        /// Its path.
        file: String,
        /// What happened.
        why: String,
    },
    /// A setting that does not exist.
    #[error("{origin}: unknown setting {key}{}", hint(.nearest.as_deref()))]
    Unknown {
        /// Who set it.
        origin: Origin,
        /// Its name as given.
        key: String,
        /// The known name that resembles it.
        nearest: Option<String>,
    },
    /// A value that the setting cannot have.
    #[error("{origin}: {key} = {text} is not {allowed}")]
    Value {
        /// Who set it.
        origin: Origin,
        /// The setting.
        key: String,
        /// The value as given; `***` for a secret.
        text: String,
        /// What it may be.
        allowed: String,
    },
    /// Settings that are possible one by one, but not together or not here.
    #[error("{origin}: {why}")]
    Refused {
        /// Who set it.
        origin: Origin,
        /// What is not possible, and the way out.
        why: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// Everything that is wrong with the settings; the caller exits with status 2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettingsError {
    problems: Vec<Problem>,
}

impl SettingsError {
    /// The problems, weakest layer first.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// `value`, unless there are problems.
    pub(super) fn unless<T>(problems: Vec<Problem>, value: T) -> Result<T, SettingsError> {
        if problems.is_empty() { Ok(value) } else { Err(SettingsError { problems }) }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings cannot be used")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for SettingsError {}

/// The known name that a mistyped one is nearest to, if any is near.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let bound = 2 + name.len() / 8;
    let closest = known.map(|candidate| (distance(name, candidate), candidate)).min()?;
    (closest.0 <= bound).then(|| closest.1.to_owned())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn only_a_near_name_is_offered() {
        let known = || ["grpc.port", "http.port"].into_iter();
        assert_eq!(nearest("gprc.port", known()).as_deref(), Some("grpc.port"));
        assert_eq!(nearest("something.else", known()), None);
    }
}
