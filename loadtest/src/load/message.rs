//! Questions, encoded once: for each one only the digits of its key are written.

use prost::Message as _;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor};
use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tollgate_proto::tollgate::v1;

use super::scenario::{Api, Request};

/// Stands for the key while a question is encoded.
const MARK: &str = "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{e}\u{f}\u{10}\u{11}";

/// A question without its key.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    /// The message that asks `request`: protobuf, or JSON for the ways over HTTP.
    #[must_use]
    pub fn of(api: Api, request: &Request) -> Template {
        let mut bytes = match api {
            Api::Rls => rls(request).encode_to_vec(),
            Api::Check | Api::CheckStream => check(request).encode_to_vec(),
            Api::Json | Api::HttpCheck => json(request).into_bytes(),
        };
        let mut places = Vec::new();
        while let Some(place) = bytes.windows(MARK.len()).position(|window| window == MARK.as_bytes()) {
            bytes[place..place + MARK.len()].fill(b'0');
            places.push(place);
        }
        Template { bytes, places }
    }

    /// Bytes of a question.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a question has no bytes; it has some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends the question for `key`, of which the last twelve digits count.
    pub fn write(&self, key: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for place in &self.places {
            let mut rest = key;
            for digit in out[start + place..start + place + MARK.len()].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
        }
    }
}

fn rls(request: &Request) -> RateLimitRequest {
    let entry = |(key, value)| rate_limit_descriptor::Entry { key, value };
    let descriptor = |entries: Vec<(String, String)>| RateLimitDescriptor {
        entries: entries.into_iter().map(entry).collect(),
        ..RateLimitDescriptor::default()
    };
    RateLimitRequest {
        domain: request.domain.clone(),
        descriptors: marked(request).into_iter().map(descriptor).collect(),
        hits_addend: 0,
    }
}

fn check(request: &Request) -> v1::CheckRequest {
    let entry = |(key, value)| v1::Entry { key, value };
    let descriptor = |entries: Vec<(String, String)>| v1::Descriptor {
        entries: entries.into_iter().map(entry).collect(),
        cost: None,
    };
    v1::CheckRequest {
        domain: request.domain.clone(),
        descriptors: marked(request).into_iter().map(descriptor).collect(),
        ..v1::CheckRequest::default()
    }
}

/// Both ways over HTTP take the same JSON. The mark is put in after the quoting, which would escape it.
fn json(request: &Request) -> String {
    let entry = |entry: &super::scenario::Entry| serde_json::json!({"key": entry.key, "value": entry.value});
    let descriptors: Vec<_> = request
        .descriptors
        .iter()
        .map(|entries| serde_json::json!({"entries": entries.iter().map(entry).collect::<Vec<_>>()}))
        .collect();
    let body = serde_json::json!({"domain": request.domain, "descriptors": descriptors});
    body.to_string().replace("{key}", MARK)
}

fn marked(request: &Request) -> Vec<Vec<(String, String)>> {
    let entry = |entry: &super::scenario::Entry| (entry.key.clone(), entry.value.replace("{key}", MARK));
    request.descriptors.iter().map(|entries| entries.iter().map(entry).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::scenario::Entry;
    use super::*;

    fn request() -> Request {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        let descriptors =
            vec![vec![entry("user", "u-{key}"), entry("twin", "{key}")], vec![entry("all", "")]];
        Request { domain: "bench".into(), descriptors }
    }

    #[test]
    fn a_question_has_its_key_in_every_place() {
        let mut bytes = Vec::new();
        Template::of(Api::Rls, &request()).write(1_234, &mut bytes);
        let asked = RateLimitRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(asked.descriptors[0].entries[0].value, "u-000000001234");
        assert_eq!(asked.descriptors[0].entries[1].value, "000000001234");
        assert_eq!(asked.descriptors[1].entries[0].key, "all");
    }

    #[test]
    fn json_is_json() {
        let mut bytes = b"x".to_vec();
        Template::of(Api::Json, &request()).write(7, &mut bytes);
        let asked: serde_json::Value = serde_json::from_slice(&bytes[1..]).unwrap();
        assert_eq!(asked["descriptors"][0]["entries"][0]["value"], "u-000000000007");
    }
}
