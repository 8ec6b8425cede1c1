//! The name of a circuit.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tollgate_core::breaker::fleet::KeyPath;
use tollgate_proto::tollgate::v1 as proto;

use crate::config::ConfigError;

/// Most bytes of all parts together.
const MAX_BYTES: usize = 512;

/// Names a circuit: `namespace/target[/shard[/operation]]`. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FleetKey(Arc<[Box<str>; 4]>);

impl FleetKey {
    /// The key of these parts: namespace, target, shard, operation. The latter two may be empty.
    ///
    /// # Errors
    /// Namespace or target is empty, or all parts together are longer than 512 bytes.
    pub fn new(parts: [&str; 4]) -> Result<FleetKey, ConfigError> {
        let required = "1 byte or more";
        let [namespace, target, ..] = parts;
        if namespace.is_empty() {
            return Err(ConfigError::range("fleet circuit: namespace", required, &"empty"));
        }
        if target.is_empty() {
            return Err(ConfigError::range("fleet circuit: target", required, &"empty"));
        }
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > MAX_BYTES {
            let field = "fleet circuit: namespace, target, shard and operation";
            return Err(ConfigError::range(field, "at most 512 bytes together", &bytes));
        }
        Ok(FleetKey(Arc::new(parts.map(Box::from))))
    }

    /// Namespace, target, shard, operation; the latter two may be empty.
    #[must_use]
    pub fn parts(&self) -> [&str; 4] {
        self.0.each_ref().map(|part| &**part)
    }

    pub(super) fn to_wire(&self) -> proto::CircuitKey {
        let [namespace, target, shard, operation] = self.parts().map(str::to_owned);
        proto::CircuitKey { namespace, target, shard, operation }
    }

    pub(super) fn of_wire(key: proto::CircuitKey) -> FleetKey {
        let proto::CircuitKey { namespace, target, shard, operation } = key;
        FleetKey(Arc::new([namespace, target, shard, operation].map(String::into_boxed_str)))
    }
}

impl FromStr for FleetKey {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<FleetKey, ConfigError> {
        let mut parts = text.splitn(4, '/');
        let mut next = || parts.next().unwrap_or_default();
        FleetKey::new([next(), next(), next(), next()])
    }
}

impl fmt::Display for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeyPath(self.parts()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_path_of_two_to_four_parts() {
        for text in ["shop/payments", "shop/payments/eu-1", "shop/payments//refund", "a/b/c/d/e"] {
            let key: FleetKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(FleetKey::of_wire(key.to_wire()), key);
        }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_named() {
        let why = |text: &str| text.parse::<FleetKey>().unwrap_err().to_string();
        assert_eq!(why("/payments"), "fleet circuit: namespace must be 1 byte or more, not empty");
        assert_eq!(why("shop"), "fleet circuit: target must be 1 byte or more, not empty");
        let long = format!("shop/{}", "x".repeat(509));
        assert!(why(&long).ends_with("must be at most 512 bytes together, not 513"));
    }
}
