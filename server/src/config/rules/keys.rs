//! Every key that a rules file may contain, and where. The first pass over a file, as the reference's: keys are
//! texts from one list, lists hold mappings, scalars are texts, integers, booleans or null.

use std::rc::Rc;

use super::file::File;
use crate::config::yaml::scalar::{Resolved, resolve};
use crate::config::yaml::{Node, Position, Value};

/// Bytes of a value in a message, about.
const MAX_SHOWN: usize = 200;

/// What a mapping of a rules file describes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Root,
    Descriptor,
    RateLimit,
    Replaces,
}

impl Place {
    const ALL: [Place; 4] = [Place::Root, Place::Descriptor, Place::RateLimit, Place::Replaces];

    /// The reference's keys that have an effect here.
    pub(super) const fn reference_keys(self) -> &'static [&'static str] {
        match self {
            Place::Root => &["domain", "descriptors"],
            Place::Descriptor => &[
                "key",
                "value",
                "descriptors",
                "rate_limit",
                "shadow_mode",
                "quota_mode",
                "detailed_metric",
                "value_to_metric",
                "share_threshold",
                "metadata",
            ],
            Place::RateLimit => &["unit", "requests_per_unit", "unlimited", "name", "replaces"],
            Place::Replaces => &["name"],
        }
    }

    /// Ours.
    pub(super) const fn own_keys(self) -> &'static [&'static str] {
        match self {
            Place::Root => &["charge", "partition", "on_overload"],
            Place::RateLimit => &[
                "unit_multiplier",
                "algorithm",
                "burst",
                "queue",
                "max_hold",
                "precision",
                "time_zone",
                "anchored",
                "on_failure",
                "accuracy",
            ],
            Place::Descriptor => &["rollout", "rollout_outside"],
            Place::Replaces => &[],
        }
    }

    /// What a person calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Place::Root => "the root of the file",
            Place::Descriptor => "a descriptor",
            Place::RateLimit => "rate_limit",
            Place::Replaces => "a replaces entry",
        }
    }

    pub(super) fn takes(self, key: &str) -> bool {
        self.reference_keys().contains(&key) || self.own_keys().contains(&key)
    }

    /// Where a key of the reference would have an effect.
    pub(super) fn of_reference_key(key: &str) -> Option<Place> {
        Place::ALL.into_iter().find(|place| place.reference_keys().contains(&key))
    }

    /// Where a key of ours belongs.
    pub(super) fn of_own_key(key: &str) -> Option<Place> {
        Place::ALL.into_iter().find(|place| place.own_keys().contains(&key))
    }
}

/// Whether a rules file may contain `key`, wherever.
pub(super) fn is_known(key: &str) -> bool {
    Place::of_reference_key(key).is_some() || Place::of_own_key(key).is_some()
}

/// Whether `key` is the `<<` that takes over the fields of another mapping.
pub(super) fn is_merge(key: &Node) -> bool {
    matches!(&key.value, Value::Scalar { text, plain: true } if text == "<<")
}

/// Checks `node` and everything below it, except below `metadata`.
pub(super) fn check(node: &Node, file: &mut File<'_>) {
    match &node.value {
        Value::Scalar { text, plain: true } if !allowed(text) => {
            file.broken(
                node.at,
                format!("error checking config: {text} is no text, integer, boolean or null"),
            );
        }
        Value::Scalar { .. } | Value::Sequence(_) => {}
        Value::Mapping(pairs) => pairs.iter().for_each(|(key, value)| check_pair(key, value, file)),
    }
}

fn check_pair(key: &Node, value: &Node, file: &mut File<'_>) {
    if is_merge(key) {
        return check_merge(value, file);
    }
    let Value::Scalar { text, plain } = &key.value else {
        return file.broken(key.at, format!("config error, key is not of type string: {}", go(key)));
    };
    if *plain && resolve(text) != Resolved::Text {
        return file.broken(key.at, format!("config error, key is not of type string: {}", go(key)));
    }
    if !is_known(text) {
        return file.broken(key.at, format!("config error, unknown key '{text}'"));
    }
    if text == "metadata" {
        return;
    }
    match &value.value {
        Value::Sequence(items) => check_items(text, value.at, items, file),
        _ => file.within(text.clone(), |file| check(value, file)),
    }
}

fn check_items(name: &str, at: Position, items: &[Rc<Node>], file: &mut File<'_>) {
    for (place, item) in items.iter().enumerate() {
        file.within(format!("{name}[{place}]"), |file| {
            if matches!(item.value, Value::Mapping(_)) {
                return check(item, file);
            }
            let found = go(item);
            let text = format!("config error, yaml file contains list of type other than map: {found}");
            file.broken(item.at, text);
            file.broken_list(at);
        });
    }
}

fn check_merge(value: &Node, file: &mut File<'_>) {
    let is_map = |node: &Node| matches!(node.value, Value::Mapping(_));
    match &value.value {
        Value::Mapping(_) => check(value, file),
        Value::Sequence(items) if items.iter().all(|item| is_map(item)) => {
            items.iter().for_each(|item| check(item, file));
        }
        _ => file.broken(
            value.at,
            "error loading config file: map merge requires map or sequence of maps as the value".into(),
        ),
    }
}

fn allowed(text: &str) -> bool {
    match resolve(text) {
        Resolved::Float(_) => false,
        Resolved::Int(number) => i64::try_from(number).is_ok(),
        Resolved::Null | Resolved::Bool(_) | Resolved::Text => true,
    }
}

/// A node in a few words.
pub(super) fn shown(node: &Node) -> &str {
    match &node.value {
        Value::Scalar { text, .. } => text,
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
    }
}

/// A node as Go's `%v` prints it in the reference's messages.
pub(super) fn go(node: &Node) -> String {
    let mut text = String::new();
    print(node, &mut text);
    text
}

/// Appends `node`, unless `into` is long already: a message needs no more, and aliases may make it endless.
fn print(node: &Node, into: &mut String) {
    if into.len() > MAX_SHOWN {
        return;
    }
    let separate = |place: usize, into: &mut String| into.push_str(if place > 0 { " " } else { "" });
    match &node.value {
        Value::Scalar { text, plain } => match resolve(text) {
            Resolved::Null if *plain => into.push_str("<nil>"),
            Resolved::Bool(flag) if *plain => into.push_str(&flag.to_string()),
            Resolved::Int(number) if *plain => into.push_str(&number.to_string()),
            _ => into.push_str(text),
        },
        Value::Sequence(items) => {
            into.push('[');
            for (place, item) in items.iter().enumerate().take(MAX_SHOWN) {
                separate(place, into);
                print(item, into);
            }
            into.push(']');
        }
        Value::Mapping(pairs) => {
            into.push_str("map[");
            for (place, (key, value)) in pairs.iter().enumerate().take(MAX_SHOWN) {
                separate(place, into);
                print(key, into);
                into.push(':');
                print(value, into);
            }
            into.push(']');
        }
    }
}
