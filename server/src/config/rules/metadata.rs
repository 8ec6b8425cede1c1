//! `metadata`: anything that a protobuf `Struct` can carry.

use std::collections::HashMap;

use tollgate_core::rules::Metadata;

use super::keys::{go, is_merge, shown};
use crate::config::yaml::scalar::{Resolved, resolve};
use crate::config::yaml::{Node, Position, Value};

type Wrong = (Position, String);

/// A value as a protobuf `Value`.
fn read(node: &Node) -> Result<Metadata, Wrong> {
    match &node.value {
        Value::Scalar { text, plain: false } => Ok(Metadata::String(text.clone())),
        Value::Scalar { text, plain: true } => match resolve(text) {
            Resolved::Null => Ok(Metadata::Null),
            Resolved::Bool(flag) => Ok(Metadata::Bool(flag)),
            #[expect(clippy::cast_precision_loss, reason = "protobuf numbers are doubles")]
            Resolved::Int(number) => Ok(Metadata::Number(number as f64)),
            Resolved::Float(number) if number.is_finite() => Ok(Metadata::Number(number)),
            Resolved::Float(_) => Err((node.at, format!("{} is not finite", shown(node)))),
            Resolved::Text => Ok(Metadata::String(text.clone())),
        },
        Value::Sequence(items) => {
            items.iter().map(|item| read(item)).collect::<Result<_, _>>().map(Metadata::List)
        }
        Value::Mapping(_) => read_all(&[node]),
    }
}

/// Mappings of which each adds to those before it.
pub(super) fn read_all(nodes: &[&Node]) -> Result<Metadata, Wrong> {
    let mut fields = Fields::default();
    nodes.iter().try_for_each(|node| fields.add(node))?;
    Ok(Metadata::Struct(fields.list))
}

/// The fields of one mapping, each name once: the last one counts.
#[derive(Default)]
struct Fields {
    list: Vec<(String, Metadata)>,
    places: HashMap<String, usize>,
}

impl Fields {
    fn add(&mut self, node: &Node) -> Result<(), Wrong> {
        let Value::Mapping(pairs) = &node.value else {
            return Err((node.at, "map merge requires map or sequence of maps as the value".to_owned()));
        };
        for (key, value) in pairs {
            match is_merge(key) {
                true => self.merge(value)?,
                false => self.set(field_name(key)?, read(value)?),
            }
        }
        Ok(())
    }

    /// Of several mappings the first one wins.
    fn merge(&mut self, value: &Node) -> Result<(), Wrong> {
        match &value.value {
            Value::Sequence(items) => items.iter().rev().try_for_each(|item| self.add(item)),
            _ => self.add(value),
        }
    }

    fn set(&mut self, name: String, value: Metadata) {
        match self.places.get(&name) {
            Some(&place) => self.list[place].1 = value,
            None => {
                self.places.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }
}

/// The key as Go prints it: YAML 1.1 reads `y` as a boolean, and so its text is `true`.
fn field_name(key: &Node) -> Result<String, Wrong> {
    match &key.value {
        Value::Scalar { .. } => Ok(go(key)),
        _ => Err((key.at, "a key has to be a text".to_owned())),
    }
}
