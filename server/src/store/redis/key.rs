//! Names of counters in Redis.
//!
//! `prefix`, then for a partitioned counter `{partition}`, then the counter's own name. A cluster takes what is
//! between the first pair of braces, if there is one, for the whole name when it looks for the slot; so braces
//! in names are written as two other bytes, and only partitions have any.

use tollgate_core::rules::Hit;
use tollgate_core::time::Time;

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;
/// Longer partitions are hashed by length alone no better: they are cut here and stay what they are for.
const OPEN: u8 = b'{';
const CLOSE: u8 = b'}';
/// Never in UTF-8, and rare in the lengths that names carry.
const ESCAPE: u8 = 0xff;

/// The name of one counter, and where in it the slot is decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Name {
    bytes: Vec<u8>,
}

impl Name {
    /// The counter of `hit`.
    pub(super) fn of(prefix: &str, hit: &Hit<'_>) -> Name {
        let mut bytes = Vec::with_capacity(prefix.len() + hit.key.as_bytes().len() + 8);
        bytes.extend_from_slice(prefix.as_bytes());
        if let Some(partition) = &hit.partition {
            bytes.push(OPEN);
            escape(partition.as_bytes(), &mut bytes);
            // without this an empty one would be none at all
            bytes.extend_from_slice(if partition.is_empty() { &[ESCAPE][..] } else { &[] });
            bytes.push(CLOSE);
        }
        escape(hit.key.as_bytes(), &mut bytes);
        Name { bytes }
    }

    /// The counter that envoyproxy/ratelimit has for `hit` in the window that begins at `start`.
    pub(super) fn reference(prefix: &str, hit: &Hit<'_>, start: Time) -> Name {
        let text = hit.key.as_bytes();
        let seconds = (start.as_micros() / 1_000_000).to_string();
        Name { bytes: [prefix.as_bytes(), text, seconds.as_bytes()].concat() }
    }

    /// Where the answers to the request `id` are remembered, in the slot of this counter.
    pub(super) fn of_id(&self, prefix: &str, id: &[u8]) -> Vec<u8> {
        let tag = tag(&self.bytes).unwrap_or(&self.bytes);
        let mut bytes = Vec::with_capacity(prefix.len() + tag.len() + id.len() + 3);
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.push(OPEN);
        bytes.extend_from_slice(tag);
        bytes.push(CLOSE);
        bytes.push(b'i');
        bytes.extend_from_slice(id);
        bytes
    }

    /// The name as bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The slot of a cluster that it belongs to.
    pub(super) fn slot(&self) -> u16 {
        slot(&self.bytes)
    }
}

/// The slot of a key, as Redis computes it.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag(key).unwrap_or(key)) % SLOTS
}

/// A short key in one of the slots that `wanted` accepts; there is always one soon.
pub(super) fn in_slot(prefix: &str, wanted: impl Fn(u16) -> bool) -> Vec<u8> {
    let mut key = Vec::new();
    for number in 0..u32::MAX {
        key = format!("{prefix}probe{number}").into_bytes();
        if wanted(slot(&key)) {
            break;
        }
    }
    key
}

/// What is between the first `{` and the next `}`, if that is not empty.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&byte| byte == OPEN)?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|&byte| byte == CLOSE)?;
    (close > 0).then(|| &rest[..close])
}

fn escape(text: &[u8], into: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            OPEN => into.extend_from_slice(&[ESCAPE, 1]),
            CLOSE => into.extend_from_slice(&[ESCAPE, 2]),
            ESCAPE => into.extend_from_slice(&[ESCAPE, 3]),
            byte => into.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        escape(text, &mut bytes);
        bytes
    }

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), slot_of_whole(b"foo{}{bar}"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    fn slot_of_whole(key: &[u8]) -> u16 {
        crc16::State::<crc16::XMODEM>::calculate(key) % SLOTS
    }

    #[test]
    fn escaping_is_injective_and_leaves_no_braces() {
        let texts: [&[u8]; 8] = [b"{", b"}", b"\xff", b"\xff\x01", b"\xff\x02", b"a{b}c", b"a\xff\x01b", b""];
        let all: std::collections::HashSet<Vec<u8>> = texts.iter().map(|text| escaped(text)).collect();
        assert_eq!(all.len(), texts.len());
        assert!(all.iter().all(|text| !text.contains(&OPEN) && !text.contains(&CLOSE)));
    }

    #[test]
    fn an_id_lives_in_the_slot_of_its_counter() {
        for bytes in [b"tg:r\x01d\x01a=\x01b".to_vec(), b"tg:{acme}r\x01d".to_vec()] {
            let name = Name { bytes };
            assert_eq!(slot(&name.of_id("tg:", b"id-{1}")), name.slot());
        }
    }

    #[test]
    fn a_probe_finds_every_part_of_the_slots() {
        for part in 0..8 {
            let wanted = |slot: u16| slot / 2_048 == part;
            assert!(wanted(slot(&in_slot("tg:", wanted))));
        }
    }
}
