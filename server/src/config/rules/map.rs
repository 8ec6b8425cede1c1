//! Typed access to the fields of one mapping.

use std::rc::Rc;

use super::file::File;
use super::keys::{Place, is_known, is_merge};
use crate::config::yaml::scalar::{Resolved, resolve};
use crate::config::yaml::{Node, Position, Value};

/// The fields of a mapping: merges resolved, of two equal keys the last one.
pub(super) struct Map<'n> {
    pub(super) at: Position,
    /// Only keys that a rules file may contain, so a few at most.
    fields: Vec<Field<'n>>,
}

struct Field<'n> {
    name: &'n str,
    at: Position,
    value: &'n Node,
    /// Mappings that `value` only adds to.
    earlier: Vec<&'n Node>,
    origin: Origin,
}

/// Keys whose mapping adds to an earlier one of the same key: Go decodes both into one struct or map.
const ADDING: [&str; 2] = ["rate_limit", "metadata"];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Origin {
    /// Written in the mapping itself.
    Own,
    /// Taken over from another mapping with `<<`.
    Merged,
}

impl<'n> Map<'n> {
    /// Reads the mapping `node`, which describes `place`.
    pub(super) fn read(node: &'n Node, place: Place, file: &mut File<'_>) -> Option<Map<'n>> {
        Map::read_all(&[node], place, file)
    }

    /// Reads mappings that describe one `place`: each adds to those before it.
    pub(super) fn read_all(nodes: &[&'n Node], place: Place, file: &mut File<'_>) -> Option<Map<'n>> {
        let (&node, earlier) = nodes.split_last()?;
        let Value::Mapping(pairs) = &node.value else {
            file.unmarshal(node, &format!("{} has to be a mapping", place.name()));
            return None;
        };
        let mut map = Map { at: node.at, fields: Vec::new() };
        earlier.iter().for_each(|node| map.merge(node, node.at, file));
        for (key, value) in pairs {
            if is_merge(key) {
                map.merge(value, key.at, file);
            } else if let Some(name) = known_name(key) {
                let earlier = Vec::new();
                map.set(Field { name, at: key.at, value, earlier, origin: Origin::Own }, key.at, file);
            }
        }
        map.check_places(place, file);
        Some(map)
    }

    /// Sets a field because of what stands at `at`. As in the reference the last one counts, be it merged or not.
    fn set(&mut self, new: Field<'n>, at: Position, file: &mut File<'_>) {
        let name = new.name;
        let Some(field) = self.fields.iter_mut().find(|field| field.name == name) else {
            return self.fields.push(new);
        };
        let line = field.at.line;
        let mut old = std::mem::replace(field, new);
        let adds = ADDING.contains(&name) && [old.value, field.value].into_iter().all(is_mapping);
        if adds {
            old.earlier.push(old.value);
            field.earlier = old.earlier;
        }
        let counts = if adds { "the last of each of their fields counts" } else { "the last one counts" };
        match (old.origin, field.origin) {
            (Origin::Own, Origin::Own) => {
                file.warn(at, format!("key '{name}' stands here again (first in line {line}): {counts}"));
            }
            (Origin::Own, Origin::Merged) => {
                file.warn(at, format!("<< replaces '{name}' of line {line}: {counts}"));
            }
            (Origin::Merged, _) => {}
        }
    }

    /// Takes over the fields of one mapping, or of several of which the first one wins.
    fn merge(&mut self, value: &'n Node, at: Position, file: &mut File<'_>) {
        match &value.value {
            Value::Sequence(items) => items.iter().rev().for_each(|item| self.merge(item, at, file)),
            Value::Mapping(pairs) => pairs.iter().for_each(|(key, value)| {
                if is_merge(key) {
                    self.merge(value, at, file);
                } else if let Some(name) = known_name(key) {
                    let earlier = Vec::new();
                    self.set(Field { name, at: key.at, value, earlier, origin: Origin::Merged }, at, file);
                }
            }),
            Value::Scalar { .. } => {}
        }
    }

    /// A key of the reference in the wrong place does nothing, which it accepts; one of ours is an error.
    fn check_places(&self, place: Place, file: &mut File<'_>) {
        for field in self.fields.iter().filter(|field| !place.takes(field.name)) {
            let (name, here) = (field.name, place.name());
            let step = name.to_owned();
            match (Place::of_reference_key(name), Place::of_own_key(name)) {
                (Some(other), _) => {
                    let text = format!("'{name}' has no effect in {here}: it belongs to {}", other.name());
                    file.within(step, |file| file.warn(field.at, text));
                }
                (None, Some(other)) => {
                    let text = format!("'{name}' does not belong to {here} but to {}", other.name());
                    file.within(step, |file| file.error(field.at, text));
                }
                (None, None) => {}
            }
        }
    }

    fn field(&self, name: &str) -> Option<&Field<'n>> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Where the value of `name` stands; the mapping itself if it does not.
    pub(super) fn at(&self, name: &str) -> Position {
        self.field(name).map_or(self.at, |field| field.value.at)
    }

    /// An error about the value of `name`, or about its absence.
    pub(super) fn error(&self, name: &str, text: String, file: &mut File<'_>) {
        file.within(name.to_owned(), |file| file.error(self.at(name), text));
    }

    pub(super) fn error_unless(
        &self,
        holds: bool,
        name: &str,
        text: impl FnOnce() -> String,
        file: &mut File<'_>,
    ) {
        if !holds {
            self.error(name, text(), file);
        }
    }

    pub(super) fn warn(&self, name: &str, text: String, file: &mut File<'_>) {
        file.within(name.to_owned(), |file| file.warn(self.at(name), text));
    }

    pub(super) fn advise(&self, name: &str, text: String, file: &mut File<'_>) {
        file.within(name.to_owned(), |file| file.advise(self.at(name), text));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// The value of `name`, unless it is missing or null.
    pub(super) fn node(&self, name: &str) -> Option<&'n Node> {
        let null = |node: &&Node| matches!(&node.value, Value::Scalar { text, plain: true } if resolve(text) == Resolved::Null);
        self.field(name).map(|field| field.value).filter(|node| !null(node))
    }

    /// The value of `name` after the mappings that it adds to; empty if it is missing or null.
    pub(super) fn nodes(&self, name: &str) -> Vec<&'n Node> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let earlier = self.field(name).map_or(&[][..], |field| &field.earlier);
        earlier.iter().copied().chain([node]).collect()
    }

    /// A text: whatever the scalar looks like, its source.
    pub(super) fn text(&self, name: &str, file: &mut File<'_>) -> Option<&'n str> {
        let node = self.node(name)?;
        match &node.value {
            Value::Scalar { text, .. } => Some(text),
            _ => {
                wrong(name, node, "a text", file);
                None
            }
        }
    }

    /// A text that must be there; `None`, after an error that says `missing`, if there is none.
    pub(super) fn required(&self, name: &str, missing: &str, file: &mut File<'_>) -> Option<&'n str> {
        let text = self.text(name, file).unwrap_or_default();
        let mistyped = self.node(name).is_some_and(|node| !matches!(node.value, Value::Scalar { .. }));
        self.error_unless(!text.is_empty() || mistyped, name, || missing.to_owned(), file);
        Some(text).filter(|text| !text.is_empty())
    }

    /// A boolean; false if it is missing.
    pub(super) fn flag(&self, name: &str, file: &mut File<'_>) -> bool {
        let Some(node) = self.node(name) else { return false };
        if let Value::Scalar { text, plain: true } = &node.value
            && let Resolved::Bool(flag) = resolve(text)
        {
            return flag;
        }
        wrong(name, node, "true or false", file);
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
        wrong(name, node, "an integer from 0 to 4294967295", file);
        None
    }

    /// The mappings of a list; none if it is missing.
    pub(super) fn list(&self, name: &str, file: &mut File<'_>) -> &'n [Rc<Node>] {
        match self.node(name).map(|node| (node, &node.value)) {
            Some((_, Value::Sequence(items))) => items,
            Some((node, _)) => {
                wrong(name, node, "a list", file);
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
            self.error(name, format!("{name} '{text}' is none of {}", words.join(", ")), file);
        }
        found
    }
}

fn wrong(name: &str, node: &Node, wanted: &str, file: &mut File<'_>) {
    file.within(name.to_owned(), |file| file.unmarshal(node, &format!("{name} has to be {wanted}")));
}

fn is_mapping(node: &Node) -> bool {
    matches!(node.value, Value::Mapping(_))
}

fn known_name(key: &Node) -> Option<&str> {
    match &key.value {
        Value::Scalar { text, .. } if is_known(text) => Some(text),
        _ => None,
    }
}
