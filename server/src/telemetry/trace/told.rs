//! What is told of a request that was followed.

use std::borrow::Cow;

/// A fact about a span.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Attribute {
    pub(in crate::telemetry) key: &'static str,
    pub(in crate::telemetry) value: Said,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) enum Said {
    Text(Cow<'static, str>),
    Texts(Vec<String>),
    Whole(i64),
}

/// How a span ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::telemetry) enum Outcome {
    #[default]
    Unset,
    Failed,
}

/// One span.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::telemetry) struct Part {
    pub(in crate::telemetry) id: [u8; 8],
    pub(in crate::telemetry) parent: Option<[u8; 8]>,
    pub(in crate::telemetry) name: &'static str,
    /// Unix time in nanoseconds.
    pub(in crate::telemetry) began: u64,
    pub(in crate::telemetry) ended: u64,
    pub(in crate::telemetry) attributes: Vec<Attribute>,
    pub(in crate::telemetry) outcome: Outcome,
}

/// A request that is over.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Finished {
    pub(in crate::telemetry) trace: [u8; 16],
    pub(in crate::telemetry) state: String,
    /// The request's own span.
    pub(in crate::telemetry) server: Part,
    pub(in crate::telemetry) steps: Vec<Part>,
}

impl From<&'static str> for Said {
    fn from(text: &'static str) -> Said {
        Said::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Said {
    fn from(text: String) -> Said {
        Said::Text(Cow::Owned(text))
    }
}

impl From<Vec<String>> for Said {
    fn from(texts: Vec<String>) -> Said {
        Said::Texts(texts)
    }
}

impl From<u16> for Said {
    fn from(number: u16) -> Said {
        Said::Whole(number.into())
    }
}
