//! What a circuit guards, and which circuits a configuration means.

use std::fmt;

/// Longest part of a key, in bytes.
const LONGEST_PART: usize = 512;

/// What a circuit guards. Two keys are equal if all parts are.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CircuitKey {
    /// Who shares the circuit: a tenant, a team, an environment.
    pub namespace: Box<str>,
    /// The service that is called.
    pub target: Box<str>,
    /// One shard or endpoint of it.
    pub shard: Option<Box<str>>,
    /// One method or group of methods.
    pub operation: Option<Box<str>>,
}

impl CircuitKey {
    /// The key of a whole service.
    #[must_use]
    pub fn of(namespace: &str, target: &str) -> CircuitKey {
        CircuitKey { namespace: namespace.into(), target: target.into(), shard: None, operation: None }
    }

    /// Whether each part is short enough to be kept.
    pub(super) fn fits(&self) -> bool {
        let parts = [Some(&self.namespace), Some(&self.target), self.shard.as_ref(), self.operation.as_ref()];
        parts.into_iter().flatten().all(|part| part.len() <= LONGEST_PART)
    }
}

/// The parts of a key (namespace, target, shard, operation; the latter two may be empty) as people read them:
/// `namespace/target[/shard[/operation]]`.
#[derive(Clone, Copy, Debug)]
pub struct KeyPath<'k>(pub [&'k str; 4]);

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [namespace, target, shard, operation] = self.0;
        write!(f, "{namespace}/{target}")?;
        if !shard.is_empty() || !operation.is_empty() {
            write!(f, "/{shard}")?;
        }
        if operation.is_empty() { Ok(()) } else { write!(f, "/{operation}") }
    }
}

/// Which values of one part of a key are meant.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum PartPattern {
    /// All, and none.
    #[default]
    Any,
    /// This one.
    Exact(Box<str>),
    /// Those that begin so.
    Prefix(Box<str>),
}

impl PartPattern {
    fn matches(&self, part: Option<&str>) -> bool {
        match (self, part) {
            (PartPattern::Any, _) => true,
            (PartPattern::Exact(exact), Some(part)) => part == &**exact,
            (PartPattern::Prefix(prefix), Some(part)) => part.starts_with(&**prefix),
            (PartPattern::Exact(_) | PartPattern::Prefix(_), None) => false,
        }
    }
}

/// Which keys are meant.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct KeyPattern {
    /// Of the namespace.
    pub namespace: PartPattern,
    /// Of the target.
    pub target: PartPattern,
    /// Of the shard.
    pub shard: PartPattern,
    /// Of the operation.
    pub operation: PartPattern,
}

impl KeyPattern {
    /// Whether `key` is meant.
    #[must_use]
    pub fn matches(&self, key: &CircuitKey) -> bool {
        self.namespace.matches(Some(&key.namespace))
            && self.target.matches(Some(&key.target))
            && self.shard.matches(key.shard.as_deref())
            && self.operation.matches(key.operation.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_a_key_as_a_path() {
        for (parts, path) in [
            (["n", "t", "", ""], "n/t"),
            (["n", "t", "s", ""], "n/t/s"),
            (["n", "t", "", "o"], "n/t//o"),
            (["n", "t", "s", "o"], "n/t/s/o"),
        ] {
            assert_eq!(KeyPath(parts).to_string(), path);
        }
    }

    #[test]
    fn a_pattern_looks_at_every_part() {
        let mut key = CircuitKey::of("shop", "cart");
        let shard = |part| KeyPattern { shard: part, ..KeyPattern::default() };
        assert!(KeyPattern::default().matches(&key));
        assert!(!shard(PartPattern::Exact("1".into())).matches(&key));
        key.shard = Some("12".into());
        assert!(!shard(PartPattern::Exact("1".into())).matches(&key));
        assert!(shard(PartPattern::Prefix("1".into())).matches(&key));
        let other = KeyPattern { operation: PartPattern::Prefix("".into()), ..KeyPattern::default() };
        assert!(
            !other.matches(&key),
            "a key without an operation begins with nothing, not with an empty one"
        );
    }
}
