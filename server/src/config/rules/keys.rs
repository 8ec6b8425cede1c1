//! Every key that a rules file may contain, and where. The first pass over a file, as the reference's: keys are
//! texts from one list, lists hold mappings, scalars are texts, integers, booleans or null.

use super::file::File;
use crate::config::yaml::scalar::{Resolved, resolve};
use crate::config::yaml::{Node, Value};

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
            Place::Root => &["charge", "partition"],
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
            Place::Descriptor | Place::Replaces => &[],
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

/// Checks `node` and everything below it, except below `metadata`.
pub(super) fn check(node: &Node, file: &mut File<'_>) {
    match &node.value {
        Value::Scalar { text, plain: true } if !allowed(text) => {
            file.error(
                node.at,
                format!("error checking config: {text} is no text, integer, boolean or null"),
            );
        }
        Value::Scalar { .. } => {}
        Value::Sequence(items) => {
            for item in items {
                if matches!(item.value, Value::Mapping(_)) {
                    check(item, file);
                } else {
                    let found = shown(item);
                    let text =
                        format!("config error, yaml file contains list of type other than map: {found}");
                    file.error(item.at, text);
                }
            }
        }
        Value::Mapping(pairs) => pairs.iter().for_each(|(key, value)| check_pair(key, value, file)),
    }
}

fn check_pair(key: &Node, value: &Node, file: &mut File<'_>) {
    let Value::Scalar { text, plain } = &key.value else {
        return file.error(key.at, format!("config error, key is not of type string: {}", shown(key)));
    };
    if *plain && resolve(text) != Resolved::Text {
        return file.error(key.at, format!("config error, key is not of type string: {text}"));
    }
    if text == "<<" {
        return check_merge(value, file);
    }
    if Place::of_reference_key(text).is_none() && Place::of_own_key(text).is_none() {
        return file.error(key.at, format!("config error, unknown key '{text}'"));
    }
    if text != "metadata" {
        check(value, file);
    }
}

fn check_merge(value: &Node, file: &mut File<'_>) {
    match &value.value {
        Value::Mapping(_) => check(value, file),
        Value::Sequence(items) if items.iter().all(|item| matches!(item.value, Value::Mapping(_))) => {
            check(value, file);
        }
        _ => file
            .error(value.at, "error loading config file: map merge requires map or sequence of maps".into()),
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
