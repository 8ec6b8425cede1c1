//! The name of a circuit: checked, ordered, cheap to clone.

use std::fmt;
use std::sync::Arc;
use tollgate_core::breaker::fleet::KeyPath;
use tollgate_core::load::random::hash_bytes;

use tollgate_proto::tollgate::v1::CircuitKey;

/// Most bytes of all parts together.
pub(super) const MAX_BYTES: usize = 512;

/// Names a circuit. Ordered by namespace, target, shard and operation.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Arc<[Box<str>; 4]>);

impl Key {
    /// The key of these parts: namespace, target, shard, operation; the latter two may be empty.
    ///
    /// # Errors
    /// Namespace or target is empty, or all are longer than 512 bytes: the part's name and what it may be.
    pub fn new(parts: [&str; 4]) -> Result<Key, String> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if parts[0].is_empty() {
            return Err("namespace is empty, must have 1 byte or more".to_owned());
        }
        if parts[1].is_empty() {
            return Err("target is empty, must have 1 byte or more".to_owned());
        }
        if bytes > MAX_BYTES {
            return Err(format!(
                "namespace, target, shard and operation have {bytes} bytes, at most {MAX_BYTES}"
            ));
        }
        Ok(Key(Arc::new(parts.map(Box::from))))
    }

    /// The key as a message has it.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn read(wire: &CircuitKey) -> Result<Key, String> {
        Key::new([&wire.namespace, &wire.target, &wire.shard, &wire.operation])
    }

    /// The key for a message.
    #[must_use]
    pub fn to_wire(&self) -> CircuitKey {
        let [namespace, target, shard, operation] = self.parts().map(str::to_owned);
        CircuitKey { namespace, target, shard, operation }
    }

    /// Namespace, target, shard and operation.
    #[must_use]
    pub fn parts(&self) -> [&str; 4] {
        [0, 1, 2, 3].map(|part| &*self.0[part])
    }

    /// Whose circuit it is.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0[0]
    }

    /// All parts as one text that [`Key::from_text`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::Value::from(self.parts().to_vec()).to_string()
    }

    /// The key of a text that [`Key::to_text`] wrote; `None` if it is no such text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Key> {
        let parts: [String; 4] = serde_json::from_str(text).ok()?;
        Key::new([&parts[0], &parts[1], &parts[2], &parts[3]]).ok()
    }

    /// The same number on every server, for dividing circuits among them, over the parts with a byte between
    /// them that no text has.
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        let bytes: Vec<u8> = self.0.iter().flat_map(|part| part.bytes().chain([0xff])).collect();
        hash_bytes(&bytes)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeyPath(self.parts()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_needs_a_namespace_and_a_target_and_is_not_too_long() {
        let why = |parts| Key::new(parts).unwrap_err();
        assert!(why(["", "t", "", ""]).starts_with("namespace is empty"));
        assert!(why(["n", "", "", ""]).starts_with("target is empty"));
        let long = "x".repeat(MAX_BYTES - 1);
        assert!(Key::new([&long, "t", "", ""]).is_ok());
        assert!(why([&long, "t", "", "o"]).contains("513 bytes, at most 512"));
    }

    #[test]
    fn a_text_is_read_back_and_no_two_keys_share_one() {
        let key = Key::new(["n\"", "t,", "", "o\0"]).unwrap();
        assert_eq!(Key::from_text(&key.to_text()), Some(key));
        for wrong in ["", "[]", "[\"\",\"t\",\"\",\"\"]", "[1,2,3,4]", "version"] {
            assert_eq!(Key::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hashes_are_the_same_on_every_server_for_ever() {
        let hash = |parts| Key::new(parts).unwrap().stable_hash();
        assert_eq!(hash(["a", "b", "", ""]), hash_bytes(b"a\xffb\xff\xff\xff"));
        assert_ne!(hash(["ab", "c", "", ""]), hash(["a", "bc", "", ""]));
        assert_ne!(hash(["a", "b", "c", ""]), hash(["a", "b", "", "c"]));
    }

    #[test]
    fn people_read_it_as_a_path() {
        let text = |parts| Key::new(parts).unwrap().to_string();
        assert_eq!(text(["n", "t", "", ""]), "n/t");
        assert_eq!(text(["n", "t", "s", ""]), "n/t/s");
        assert_eq!(text(["n", "t", "", "o"]), "n/t//o");
    }
}
