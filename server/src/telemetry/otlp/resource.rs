//! Who sends.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as Message;

use crate::telemetry::trace::Said;

/// What is the same for all that this process sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource(Vec<(String, String)>);

impl Resource {
    /// A service called `name`, with `more` attributes, of which later ones replace earlier ones.
    #[must_use]
    pub fn new(name: &str, more: &[(String, String)]) -> Resource {
        let mut resource = Resource(Vec::new());
        resource.set("service.version", env!("CARGO_PKG_VERSION"));
        resource.set("service.instance.id", &instance());
        for (key, value) in more {
            resource.set(key, value);
        }
        // a name that was chosen goes before one among the attributes
        if resource.get("service.name").is_none() || name != super::endpoint::SERVICE {
            resource.set("service.name", name);
        }
        resource
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(there, _)| there == key).map(|(_, value)| &**value)
    }

    fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(there, _)| there == key) {
            Some((_, there)) => value.clone_into(there),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }

    pub(super) fn message(&self) -> Message {
        let attributes = self.0.iter().map(|(key, value)| text(key, value)).collect();
        Message { attributes, ..Message::default() }
    }
}

/// 128 random bits: the name of this process among its likes.
fn instance() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}

/// Who measures.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "tollgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(super) fn said(key: &str, said: &Said) -> KeyValue {
    let text = |text: &String| AnyValue { value: Some(Value::StringValue(text.clone())) };
    let value = match said {
        Said::Text(text) => Value::StringValue(text.clone().into_owned()),
        Said::Whole(number) => Value::IntValue(*number),
        Said::Texts(texts) => Value::ArrayValue(ArrayValue { values: texts.iter().map(text).collect() }),
    };
    attribute(key, value)
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(chosen: &str, more: &[(&str, &str)]) -> String {
        let more: Vec<_> = more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Resource::new(chosen, &more).get("service.name").unwrap().to_owned()
    }

    #[test]
    fn a_chosen_name_goes_before_one_among_the_attributes() {
        assert_eq!(name("tollgate", &[]), "tollgate");
        assert_eq!(name("tollgate", &[("service.name", "edge")]), "edge");
        assert_eq!(name("chosen", &[("service.name", "edge")]), "chosen");
    }
}
