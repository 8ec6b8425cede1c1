//! Names what is counted, in this process and across processes.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tollgate_core::load::random::hash_bytes;
use tollgate_proto::tollgate::v1::Descriptor;

/// What a question counts: its domain and descriptors, without their costs. Injective: every part carries its
/// length.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    pub(super) fn of(domain: &str, descriptors: &[Descriptor]) -> Key {
        let mut bytes = Vec::with_capacity(96);
        part(&mut bytes, domain);
        for descriptor in descriptors {
            number(&mut bytes, descriptor.entries.len());
            for entry in &descriptor.entries {
                part(&mut bytes, &entry.key);
                part(&mut bytes, &entry.value);
            }
        }
        Key(bytes.into())
    }

    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The same number in every process: clients that agree on the members agree on who owns the key.
    pub(super) fn affinity(&self) -> u64 {
        hash_bytes(&self.0)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

fn part(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Seven bits a byte, least significant first (LEB128).
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_proto::tollgate::v1::Entry;

    fn descriptor(entries: &[(&str, &str)]) -> Descriptor {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        Descriptor { entries: entries.iter().map(entry).collect(), cost: None }
    }

    #[test]
    fn keys_differ_exactly_if_the_questions_do() {
        let key = |descriptors: &[Descriptor]| Key::of("d", descriptors);
        let one = key(&[descriptor(&[("a", "b"), ("c", "d")])]);
        assert_eq!(one, key(&[descriptor(&[("a", "b"), ("c", "d")])]));
        assert_ne!(one, key(&[descriptor(&[("a", "b")]), descriptor(&[("c", "d")])]));
        assert_ne!(key(&[descriptor(&[("a", "bc")])]), key(&[descriptor(&[("ab", "c")])]));
        let (long, longer) = ("x".repeat(200), "x".repeat(201));
        assert_ne!(key(&[descriptor(&[("a", &long)])]), key(&[descriptor(&[("a", &longer)])]));
    }

    #[test]
    fn costs_do_not_name_a_key() {
        let costly = Descriptor { cost: Some(7), ..descriptor(&[("a", "b")]) };
        assert_eq!(Key::of("d", &[costly]), Key::of("d", &[descriptor(&[("a", "b")])]));
    }

    #[test]
    fn the_affinity_is_of_the_whole_key() {
        let affinity = |value| Key::of("d", &[descriptor(&[("tenant", value)])]).affinity();
        assert_eq!(affinity("a"), affinity("a"));
        assert_ne!(affinity("a"), affinity("b"));
    }
}
