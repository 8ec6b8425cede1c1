//! Typed access to the fields of one mapping.

use tollgate_core::rules::Metadata;

use super::file::File;
use super::keys::{Place, shown};
use crate::config::yaml::scalar::{Resolved, resolve};
use crate::config::yaml::{Node, Position, Value};

/// The fields of a mapping: merges resolved, of two equal keys the last one.
pub(super) struct Map<'n> {
    pub(super) at: Position,
    fields: Vec<Field<'n>>,
}

struct Field<'n> {
    name: &'n str,
    at: Position,
    value: &'n Node,
}

impl<'n> Map<'n> {
    /// Reads the mapping `node`, which describes `place`.
    pub(super) fn read(node: &'n Node, place: Place, file: &mut File<'_>) -> Option<Map<'n>> {
        let Value::Mapping(pairs) = &node.value else {
            file.unmarshal(node, &format!("{} has to be a mapping", place.name()));
            return None;
        };
        let mut map = Map { at: node.at, fields: Vec::new() };
        for (key, value) in pairs {
            if let Value::Scalar { text, .. } = &key.value
                && text != "<<"
            {
                map.set(text, key.at, value, file);
            }
        }
        for (key, value) in pairs {
            if matches!(&key.value, Value::Scalar { text, .. } if text == "<<") {
                map.merge(value);
            }
        }
        map.check_places(place, file);
        Some(map)
    }

    fn set(&mut self, name: &'n str, at: Position, value: &'n Node, file: &mut File<'_>) {
        match self.fields.iter_mut().find(|field| field.name == name) {
            None => self.fields.push(Field { name, at, value }),
            Some(field) => {
                let first = field.at.line;
                file.warn(
                    at,
                    format!("key '{name}' stands here again (first in line {first}): the last one counts"),
                );
                *field = Field { name, at, value };
            }
        }
    }

    /// Takes over what is not set here; of several mappings the first one wins.
    fn merge(&mut self, value: &'n Node) {
        match &value.value {
            Value::Sequence(items) => items.iter().for_each(|item| self.merge(item)),
            Value::Mapping(pairs) => {
                for (key, value) in pairs {
                    self.inherit(key, value);
                }
            }
            Value::Scalar { .. } => {}
        }
    }

    fn inherit(&mut self, key: &'n Node, value: &'n Node) {
        let Value::Scalar { text, .. } = &key.value else { return };
        if text == "<<" {
            return self.merge(value);
        }
        if !self.fields.iter().any(|field| field.name == text) {
            self.fields.push(Field { name: text, at: key.at, value });
        }
    }

    /// A key of the reference in the wrong place does nothing, which it accepts; one of ours is an error.
    fn check_places(&self, place: Place, file: &mut File<'_>) {
        for field in self.fields.iter().filter(|field| !place.takes(field.name)) {
            let name = field.name;
            if let Some(other) = Place::of_reference_key(name) {
                let text =
                    format!("'{name}' has no effect in {}: it belongs to {}", place.name(), other.name());
                file.warn(field.at, text);
            } else if let Some(other) = Place::of_own_key(name) {
                let text = format!("'{name}' does not belong to {} but to {}", place.name(), other.name());
                file.error(field.at, text);
            }
        }
    }

    /// Where `name` stands; the mapping itself if it does not.
    pub(super) fn at(&self, name: &str) -> Position {
        self.fields.iter().find(|field| field.name == name).map_or(self.at, |field| field.value.at)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// The value of `name`, unless it is missing or null.
    pub(super) fn node(&self, name: &str) -> Option<&'n Node> {
        let null = |node: &&Node| matches!(&node.value, Value::Scalar { text, plain: true } if resolve(text) == Resolved::Null);
        self.fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.value)
            .filter(|node| !null(node))
    }

    /// A text: whatever the scalar looks like, its source.
    pub(super) fn text(&self, name: &str, file: &mut File<'_>) -> Option<&'n str> {
        let node = self.node(name)?;
        match &node.value {
            Value::Scalar { text, .. } => Some(text),
            _ => {
                file.unmarshal(node, &format!("{name} has to be a text"));
                None
            }
        }
    }

    /// A boolean; false if it is missing.
    pub(super) fn flag(&self, name: &str, file: &mut File<'_>) -> bool {
        let Some(node) = self.node(name) else { return false };
        if let Value::Scalar { text, plain: true } = &node.value
            && let Resolved::Bool(flag) = resolve(text)
        {
            return flag;
        }
        file.unmarshal(node, &format!("{name} has to be true or false"));
        false
    }

    /// An integer of 32 bits without sign.
    pub(super) fn number(&self, name: &str, file: &mut File<'_>) -> Option<u32> {
        let node = self.node(name)?;
        if let Value::Scalar { text, plain: true } = &node.value
            && let Resolved::Int(number) = resolve(text)
            && let Ok(number) = u32::try_from(number)
        {
            return Some(number);
        }
        file.unmarshal(node, &format!("{name} has to be an integer from 0 to 4294967295"));
        None
    }

    /// The mappings of a list; none if it is missing.
    pub(super) fn list(&self, name: &str, file: &mut File<'_>) -> &'n [std::rc::Rc<Node>] {
        match self.node(name).map(|node| (node, &node.value)) {
            Some((_, Value::Sequence(items))) => items,
            Some((node, _)) => {
                file.unmarshal(node, &format!("{name} has to be a list"));
                &[]
            }
            None => &[],
        }
    }

    /// One of the words of `choices`.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
        file: &mut File<'_>,
    ) -> Option<T> {
        let text = self.text(name, file)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|&(_, choice)| choice);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
            file.error(self.at(name), format!("{name} '{text}' is none of {}", words.join(", ")));
        }
        found
    }
}

/// A value of `metadata` as a protobuf `Value`.
pub(super) fn metadata(node: &Node) -> Result<Metadata, (Position, String)> {
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
            items.iter().map(|item| metadata(item)).collect::<Result<_, _>>().map(Metadata::List)
        }
        Value::Mapping(pairs) => {
            let mut fields: Vec<(String, Metadata)> = Vec::new();
            for (key, value) in pairs {
                let (name, value) = (field_name(key)?, metadata(value)?);
                fields.retain(|(known, _)| *known != name);
                fields.push((name, value));
            }
            Ok(Metadata::Struct(fields))
        }
    }
}

/// YAML 1.1 reads the key `y` as a boolean, and so its text is `true`.
fn field_name(key: &Node) -> Result<String, (Position, String)> {
    match &key.value {
        Value::Scalar { text, plain } => Ok(match resolve(text) {
            Resolved::Bool(flag) if *plain => flag.to_string(),
            _ => text.clone(),
        }),
        _ => Err((key.at, "a key has to be a text".to_owned())),
    }
}
