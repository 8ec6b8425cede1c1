//! The schema against the parser: it knows the same keys, takes what the parser takes, and refuses clear mistakes.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Map, Value};
use tollgate_server::config::yaml::scalar::{Resolved, resolve};
use tollgate_server::config::yaml::{self, Node};

use super::{run, source};

/// Words that say nothing about validity, and words that [`holds`] knows.
const NOTES: [&str; 6] = ["$schema", "$defs", "title", "description", "default", "$ref"];
const KNOWN: [&str; 9] = [
    "type",
    "enum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minimum",
    "maximum",
    "minLength",
];

fn schema() -> Value {
    let (code, out, _) = run(&["schema"]);
    assert_eq!(code, 0);
    serde_json::from_str(&out).unwrap()
}

fn json(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Scalar { text, plain } => match resolve(text) {
            Resolved::Null if *plain => Value::Null,
            Resolved::Bool(flag) if *plain => flag.into(),
            Resolved::Int(number) if *plain => i64::try_from(number).unwrap().into(),
            _ => text.clone().into(),
        },
        yaml::Value::Sequence(items) => items.iter().map(|item| json(item)).collect::<Vec<_>>().into(),
        yaml::Value::Mapping(pairs) => {
            let pair = |(key, value): &(Rc<Node>, Rc<Node>)| (text(key), json(value));
            merged(pairs.iter().map(pair).collect()).into()
        }
    }
}

/// An editor resolves `<<` before it looks at the schema.
fn merged(mut map: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(more)) = map.remove("<<") {
        more.into_iter().for_each(|(key, value)| _ = map.entry(key).or_insert(value));
    }
    map
}

/// A key as it is written: `y` is a text here, whatever it would be as a value.
fn text(key: &Node) -> String {
    match &key.value {
        yaml::Value::Scalar { text, .. } => text.clone(),
        _ => panic!("a key that is no scalar"),
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => panic!("type {name}"),
    }
}

/// Whether `value` fits `schema`, for the words that the schema of rules uses.
fn holds(root: &Value, schema: &Value, value: &Value) -> bool {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    };
    schema.as_object().unwrap().iter().all(|(word, wanted)| word_holds(root, (schema, word, wanted), value))
}

fn word_holds(root: &Value, (schema, word, wanted): (&Value, &str, &Value), value: &Value) -> bool {
    let names = |wanted: &Value| wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
    match word {
        "type" => names(wanted).iter().any(|name| is_type(value, name.as_str().unwrap())),
        "enum" => names(wanted).contains(value),
        "minimum" => value.as_i64().is_none_or(|number| number >= wanted.as_i64().unwrap()),
        "maximum" => value.as_i64().is_none_or(|number| number <= wanted.as_i64().unwrap()),
        "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().unwrap()),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| holds(root, wanted, item))),
        "required" => names(wanted).iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
        "properties" => value.as_object().is_none_or(|fields| {
            fields
                .iter()
                .all(|(name, field)| wanted.get(name).is_none_or(|schema| holds(root, schema, field)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|fields| {
            fields.keys().all(|name| wanted.as_bool().unwrap() || schema["properties"].get(name).is_some())
        }),
        "pattern" => value.as_str().is_none_or(|text| pattern_holds(wanted.as_str().unwrap(), text)),
        _ => NOTES.contains(&word),
    }
}

/// The two patterns of the schema; an unknown one is a failure, not a pass.
fn pattern_holds(pattern: &str, text: &str) -> bool {
    if pattern.ends_with("%$") {
        return text.parse::<tollgate_core::rules::Percentage>().is_ok();
    }
    assert!(pattern.contains("[sS][eE][cC]"), "{pattern}");
    tollgate_core::rules::Unit::parse(text).is_some()
}

fn fits(text: &str) -> bool {
    let root = schema();
    holds(&root, &root, &json(&yaml::parse(text).unwrap().unwrap()))
}

fn words(schema: &Value, found: &mut BTreeSet<String>) {
    let Some(fields) = schema.as_object() else { return };
    for (word, value) in fields {
        found.insert(word.clone());
        match word.as_str() {
            "properties" | "$defs" => value.as_object().unwrap().values().for_each(|one| words(one, found)),
            "items" => words(value, found),
            _ => {}
        }
    }
}

#[test]
fn this_test_knows_every_word_of_the_schema() {
    let mut found = BTreeSet::new();
    words(&schema(), &mut found);
    let known: BTreeSet<String> =
        NOTES.iter().chain(&KNOWN).chain(&["pattern"]).map(|&word| word.to_owned()).collect();
    assert_eq!(found.difference(&known).collect::<Vec<_>>(), [""; 0]);
}

/// The keys that the parser's table lists for a place, by its source.
fn keys(place: &str) -> BTreeSet<String> {
    let table = std::fs::read_to_string(source("src/config/rules/keys.rs")).unwrap();
    let lists = table.split(place).skip(1).filter(|rest| rest.starts_with(" => &["));
    let quoted = lists.flat_map(|rest| {
        let list = rest.split(']').next().unwrap();
        list.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    });
    quoted.collect()
}

#[test]
fn it_has_the_keys_of_the_parser_and_no_others() {
    let schema = schema();
    for (place, pointer) in [
        ("Place::Root", "/properties"),
        ("Place::Descriptor", "/$defs/descriptor/properties"),
        ("Place::RateLimit", "/$defs/rate_limit/properties"),
        ("Place::Replaces", "/$defs/replaces/properties"),
    ] {
        let known: BTreeSet<String> =
            schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect();
        let parsed = keys(place);
        assert!(!parsed.is_empty(), "{place}");
        assert_eq!(known, parsed, "{place}");
    }
}

#[test]
fn it_takes_the_rules_that_we_ship_and_those_of_the_reference() {
    for folder in ["config/rules", "tests/rules"] {
        let mut count = 0;
        for entry in std::fs::read_dir(source(folder)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(fits(&text), "{text}");
            count += 1;
        }
        assert!(count > 0, "{folder}");
    }
}

#[test]
fn it_refuses_clear_mistakes() {
    let with = |rest: &str| format!("domain: d\ndescriptors:\n  - key: a\n    {rest}\n");
    for good in [
        "rate_limit: { unit: MINUTE, requests_per_unit: 5, algorithm: token_bucket, burst: 5 }",
        "rollout: 0.5%",
        "value: 7",
    ] {
        assert!(fits(&with(good)), "{good}");
    }
    for bad in [
        "rate_limit: { unit: eon, requests_per_unit: 5 }",
        "rate_limit: { unit: minute, requests_per_unit: -5 }",
        "rate_limit: { unit: minute, requests_per_unit: five }",
        "rate_limit: { unit: minute, algorithm: magic }",
        "rate_limit: { unit: minute, unit_multiplier: 0 }",
        "rate_limits: {}",
        "rollout: 101%",
        "rollout: 10",
        "shadow_mode: perhaps",
        "descriptors: { key: b }",
        "descriptors: [{ value: b }]",
    ] {
        assert!(!fits(&with(bad)), "{bad}");
    }
    assert!(!fits("descriptors: []\n") && !fits("domain: d\nburst: 1\n"));
}
