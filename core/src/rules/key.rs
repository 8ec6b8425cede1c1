//! Counter keys that cannot collide: every part carries its length, long keys are hashed.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};

use smallvec::SmallVec;

use crate::time::Span;

/// Keys longer than this many bytes are stored as their hash.
const MAX_PLAIN: usize = 256;

/// First byte of a hashed key; no plain key begins with it.
const HASHED: u8 = b'h';
/// First byte of the key of a configured rule.
const RULE: u8 = b'r';
/// First byte of the key of a limit that came with the request.
const OVERRIDE: u8 = b'o';
/// First byte of the key that counts what another one's counter grants in leases.
const POOL: u8 = b'p';
/// First byte of the key that remembers that a lease was given back.
const RETURNED: u8 = b'l';

/// The name of one counter. Two requests share a counter exactly if their keys are equal.
#[derive(Clone, Eq, PartialEq)]
pub struct Key {
    bytes: SmallVec<[u8; 80]>,
}

impl Key {
    /// The key as bytes, at most 256 with [`Layout::Tollgate`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The counter of what is granted in leases of this counter.
    #[must_use]
    pub fn of_pool(&self) -> Key {
        let mut bytes = SmallVec::with_capacity(self.bytes.len() + 1);
        bytes.push(POOL);
        bytes.extend_from_slice(&self.bytes);
        Key::bounded(bytes)
    }

    /// The counter that remembers whether the lease with this name was given back.
    #[must_use]
    pub fn of_return(name: &[u8; 16]) -> Key {
        let mut bytes = SmallVec::new();
        bytes.push(RETURNED);
        bytes.extend_from_slice(name);
        Key { bytes }
    }

    /// A key of `bytes`, or of their hash if they are many.
    fn bounded(bytes: SmallVec<[u8; 80]>) -> Key {
        if bytes.len() <= MAX_PLAIN {
            return Key { bytes };
        }
        let mut hashed = SmallVec::new();
        hashed.push(HASHED);
        hashed.extend_from_slice(blake3::hash(&bytes).as_bytes());
        Key { bytes: hashed }
    }

    /// A hash of the key by `hasher`.
    #[must_use]
    pub fn hash_with(&self, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(self.as_bytes())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.bytes.escape_ascii())
    }
}

/// Longest partition that is used as it is.
const MAX_PARTITION: usize = 64;

/// A partition that a caller may have made long: longer ones are stood for by their hash.
pub(super) fn bounded(partition: &str) -> Box<str> {
    if partition.len() <= MAX_PARTITION {
        return partition.into();
    }
    blake3::hash(partition.as_bytes()).to_hex().as_str().into()
}

/// How counters are named.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Layout {
    /// Injectively: no two counters have one name.
    #[default]
    Tollgate,
    /// As envoyproxy/ratelimit names them in Redis, without the start of the window at the end:
    /// `domain_key_value_…_`, neither escaped nor bounded, so that (`a`, `b_c`) and (`a_b`, `c`) share one.
    Reference,
}

/// Collects the parts of a [`Key`] in one buffer, while a match is still going on.
#[derive(Clone, Debug, Default)]
pub struct KeyBuilder {
    bytes: SmallVec<[u8; 80]>,
    layout: Layout,
}

impl KeyBuilder {
    /// Begins the key of a configured rule in `domain`.
    #[must_use]
    pub fn rule(layout: Layout, domain: &str) -> KeyBuilder {
        let mut builder = KeyBuilder { layout, ..KeyBuilder::default() };
        if layout == Layout::Tollgate {
            builder.bytes.push(RULE);
        }
        builder.part(domain);
        builder
    }

    /// Begins the key of a limit that came with the request; windows of another length count apart.
    #[must_use]
    pub fn with_override(domain: &str, window: Span) -> KeyBuilder {
        let mut builder = KeyBuilder::default();
        builder.bytes.push(OVERRIDE);
        builder.number(window.as_micros());
        builder.part(domain);
        builder
    }

    /// Adds one level. `shared` marks a value that stands for every value that matches a pattern, so that
    /// a request whose value is literally the pattern's text has the same counter only if it shares it.
    pub fn level(&mut self, key: &str, value: &str, shared: Shared) {
        self.part(key);
        match (self.layout, shared) {
            (Layout::Reference, _) => {}
            (Layout::Tollgate, Shared::No) => self.bytes.push(b'='),
            (Layout::Tollgate, Shared::Yes) => self.bytes.push(b'*'),
        }
        self.part(value);
    }

    /// The finished key.
    #[must_use]
    pub fn finish(self) -> Key {
        match self.layout {
            Layout::Reference => Key { bytes: self.bytes },
            Layout::Tollgate => Key::bounded(self.bytes),
        }
    }

    fn part(&mut self, text: &str) {
        if self.layout == Layout::Reference {
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.push(b'_');
            return;
        }
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// A number in base 128, least significant first: self-delimiting, one byte below 128.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push((number & 0x7f) as u8);
    }
}

/// Whether all values that match a pattern share one counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shared {
    /// The value is the request's own.
    No,
    /// The value is the pattern's text.
    Yes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(domain: &str, levels: &[(&str, &str)]) -> Key {
        let mut builder = KeyBuilder::rule(Layout::Tollgate, domain);
        for (key, value) in levels {
            builder.level(key, value, Shared::No);
        }
        builder.finish()
    }

    #[test]
    fn parts_that_concatenate_alike_have_different_keys() {
        assert_ne!(key("d", &[("a", "b_c")]), key("d", &[("a_b", "c")]));
        assert_ne!(key("d", &[("a", ""), ("b", "")]), key("d", &[("a", "b")]));
        assert_ne!(key("da", &[]), key("d", &[("a", "")]));
    }

    #[test]
    fn a_pattern_is_not_the_value_that_looks_like_it() {
        let mut shared = KeyBuilder::rule(Layout::Tollgate, "d");
        shared.level("files", "a/*", Shared::Yes);
        assert_ne!(shared.finish(), key("d", &[("files", "a/*")]));
    }

    #[test]
    fn the_reference_names_counters_by_plain_text() {
        let mut builder = KeyBuilder::rule(Layout::Reference, "domain");
        builder.level("key2", "value2", Shared::No);
        builder.level("files", "files/*", Shared::Yes);
        assert_eq!(builder.finish().as_bytes(), b"domain_key2_value2_files_files/*_");
        let mut long = KeyBuilder::rule(Layout::Reference, "d");
        long.level("a", &"x".repeat(1_000), Shared::No);
        assert_eq!(long.finish().as_bytes().len(), 1_005);
    }

    #[test]
    fn long_keys_are_bounded_and_differ() {
        let long = "x".repeat(5_000_000);
        let one = key("d", &[("a", &long)]);
        let two = key("d", &[("a", &long), ("b", "")]);
        assert_eq!(one.as_bytes().len(), 33);
        assert_ne!(one, two);
    }

    #[test]
    fn a_pool_and_a_return_have_names_that_nothing_else_has() {
        let short = key("d", &[("a", "b")]);
        let longest = key("d", &[("a", &"x".repeat(248))]);
        assert_eq!(longest.as_bytes().len(), MAX_PLAIN);
        let of_pools = [short.of_pool(), longest.of_pool(), short.of_pool().of_pool()];
        assert_eq!(of_pools[1].as_bytes().len(), 33, "hashed");
        let all = [short, longest, Key::of_return(&[0; 16]), Key::of_return(&[1; 16])];
        let names: std::collections::HashSet<&Key> = all.iter().chain(&of_pools).collect();
        assert_eq!(names.len(), 7);
    }

    #[test]
    fn overrides_count_apart_by_window() {
        let second = KeyBuilder::with_override("d", Span::SECOND).finish();
        let minute = KeyBuilder::with_override("d", Span::from_secs(60)).finish();
        assert_ne!(second, minute);
        assert_ne!(second, KeyBuilder::rule(Layout::Tollgate, "d").finish());
    }
}
