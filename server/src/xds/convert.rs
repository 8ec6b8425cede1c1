//! From resources to sources of rules.
//!
//! A resource becomes the text of a rules file, of which JSON is one way to write it: so its rules meet the same
//! checks, and what is wrong is said in the same words.

use std::fmt::Write as _;

use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Map, Value};
use tollgate_proto::envoy::service::discovery::v3::DiscoveryResponse;
use tollgate_proto::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};

use super::TYPE_URL;
use crate::config::rules::Source;

/// The rules of `response`, in its order, each with the name of its resource.
///
/// # Errors
/// Everything that is not what was asked for.
pub fn sources(response: &DiscoveryResponse) -> Result<Vec<Source>, Vec<String>> {
    if response.type_url != TYPE_URL {
        return Err(vec![format!("resources of type {:?} were not asked for", response.type_url)]);
    }
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    for (place, resource) in response.resources.iter().enumerate() {
        match source(place, &resource.type_url, &resource.value) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

fn source(place: usize, type_url: &str, bytes: &[u8]) -> Result<Source, String> {
    if type_url != TYPE_URL {
        return Err(format!("resources[{place}]: its type is {type_url:?} and not {TYPE_URL}"));
    }
    let config = RateLimitConfig::decode(bytes).map_err(|error| format!("resources[{place}]: {error}"))?;
    let name = if config.name.is_empty() { format!("resources[{place}]") } else { config.name.clone() };
    Ok(Source { name, bytes: escaped(&root(config).to_string()).into_bytes() })
}

fn root(config: RateLimitConfig) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "domain", config.domain);
    put_descriptors(&mut map, config.descriptors);
    Value::Object(map)
}

fn put_descriptors(map: &mut Map<String, Value>, descriptors: Vec<RateLimitDescriptor>) {
    if !descriptors.is_empty() {
        let descriptors = descriptors.into_iter().map(descriptor).collect();
        map.insert("descriptors".to_owned(), Value::Array(descriptors));
    }
}

fn descriptor(descriptor: RateLimitDescriptor) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "key", descriptor.key);
    put_text(&mut map, "value", descriptor.value);
    put_flag(&mut map, "shadow_mode", descriptor.shadow_mode);
    put_flag(&mut map, "detailed_metric", descriptor.detailed_metric);
    put_flag(&mut map, "quota_mode", descriptor.quota_mode);
    if let Some(metadata) = descriptor.metadata.filter(|metadata| !metadata.fields.is_empty()) {
        map.insert("metadata".to_owned(), structure(metadata));
    }
    if let Some(policy) = descriptor.rate_limit {
        map.insert("rate_limit".to_owned(), rate_limit(policy));
    }
    put_descriptors(&mut map, descriptor.descriptors);
    Value::Object(map)
}

fn rate_limit(policy: RateLimitPolicy) -> Value {
    let mut map = Map::new();
    put_flag(&mut map, "unlimited", policy.unlimited);
    // what an unlimited one does not set is not there; a limit always has both
    if !policy.unlimited || policy.unit != RateLimitUnit::Unknown as i32 {
        let named = RateLimitUnit::try_from(policy.unit).map(|unit| unit.as_str_name().to_owned());
        put_text(&mut map, "unit", named.unwrap_or_else(|_| policy.unit.to_string()));
    }
    if !policy.unlimited || policy.requests_per_unit != 0 {
        map.insert("requests_per_unit".to_owned(), Value::from(policy.requests_per_unit));
    }
    put_text(&mut map, "name", policy.name);
    if !policy.replaces.is_empty() {
        let replaces = policy.replaces.into_iter().map(|replace| {
            let mut map = Map::new();
            put_text(&mut map, "name", replace.name);
            Value::Object(map)
        });
        map.insert("replaces".to_owned(), replaces.collect());
    }
    Value::Object(map)
}

fn put_text(map: &mut Map<String, Value>, key: &str, text: String) {
    if !text.is_empty() {
        map.insert(key.to_owned(), Value::String(text));
    }
}

fn put_flag(map: &mut Map<String, Value>, key: &str, is_on: bool) {
    if is_on {
        map.insert(key.to_owned(), Value::Bool(true));
    }
}

fn structure(structure: prost_types::Struct) -> Value {
    Value::Object(structure.fields.into_iter().map(|(name, field)| (name, json(field))).collect())
}

fn json(field: prost_types::Value) -> Value {
    match field.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(is_on)) => Value::Bool(is_on),
        // what is not finite has no form in JSON, nor in the Struct of an answer
        Some(Kind::NumberValue(number)) => Value::from(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(inner)) => structure(inner),
    }
}

/// The same JSON with characters escaped that may not stand in YAML, or that break lines there. They can only be in
/// strings.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _always_fits = write!(text, "\\u{:04x}", u32::from(c));
            }
            _ => text.push(c),
        }
    }
    text
}
