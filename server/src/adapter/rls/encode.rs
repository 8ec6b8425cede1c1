//! [`Decision`] to wire response.

use prost_types::{ListValue, Struct, Value, value::Kind};
use tollgate_core::limit::Retry;
use tollgate_core::rules::{self, Answer, Decision, Outcome, Quota, Rule, Status, told_remaining};
use tollgate_proto::envoy::config::core::v3::HeaderValue;
use tollgate_proto::envoy::service::ratelimit::v3 as wire;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};

use super::RlsOptions;

/// Whether answers carry `dynamic_metadata` (`RESPONSE_DYNAMIC_METADATA`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Metadata {
    /// They do not.
    #[default]
    Off,
    /// They always do.
    On,
}

pub(super) fn response(
    request: &wire::RateLimitRequest,
    decision: &Decision<'_>,
    options: &RlsOptions,
) -> wire::RateLimitResponse {
    let headers = options.headers.of(decision).into_iter();
    wire::RateLimitResponse {
        overall_code: code(decision.status).into(),
        statuses: decision.outcomes.iter().map(status).collect(),
        response_headers_to_add: headers
            .map(|(key, value)| HeaderValue { key, value, raw_value: Vec::new() })
            .collect(),
        dynamic_metadata: match options.metadata {
            Metadata::Off => None,
            Metadata::On => Some(dynamic_metadata(request, decision)),
        },
        ..wire::RateLimitResponse::default()
    }
}

fn code(status: Status) -> Code {
    match status {
        Status::Ok => Code::Ok,
        Status::OverLimit => Code::OverLimit,
    }
}

fn status(outcome: &Outcome<'_>) -> DescriptorStatus {
    match outcome {
        Outcome::UnknownDomain | Outcome::Unmatched | Outcome::Replaced | Outcome::Failed { .. } => {
            DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() }
        }
        Outcome::Unlimited(_) => DescriptorStatus {
            code: Code::Ok.into(),
            limit_remaining: u32::MAX,
            ..DescriptorStatus::default()
        },
        Outcome::Decided { rule, answer, status, .. } => decided(rule, answer, *status),
    }
}

fn decided(rule: &Rule, answer: &Answer, status: Status) -> DescriptorStatus {
    let verdict = &answer.verdict;
    // Envoy makes Retry-After of it, so a refusal tells when it would be admitted, not when a bucket is full
    let until = match verdict.retry_after {
        Retry::After(retry) if !verdict.allowed => retry,
        _ => verdict.reset_after,
    };
    let seconds = i64::try_from(until.as_secs_ceil()).unwrap_or(i64::MAX);
    DescriptorStatus {
        code: code(status).into(),
        current_limit: Some(current_limit(rule)),
        limit_remaining: u32::try_from(told_remaining(verdict)).unwrap_or(u32::MAX),
        duration_until_reset: Some(prost_types::Duration { seconds, nanos: 0 }),
        quota: None,
    }
}

fn current_limit(rule: &Rule) -> RateLimit {
    let Quota { requests_per_unit, unit, multiplier } = rule.quota;
    RateLimit {
        requests_per_unit,
        unit: unit as i32,
        name: rule.name.to_string(),
        unit_multiplier: (multiplier != 1).then_some(multiplier),
    }
}

/// What the reference puts there: the request again, and the metadata of the rules that passed.
fn dynamic_metadata(request: &wire::RateLimitRequest, decision: &Decision<'_>) -> Struct {
    let descriptors = request.descriptors.iter().map(|descriptor| {
        let entries = descriptor.entries.iter().map(|entry| text(format!("{}={}", entry.key, entry.value)));
        let mut fields = vec![("entries", list(entries.collect()))];
        if let Some(limit) = &descriptor.limit {
            let unit = rules::Unit::from_number(limit.unit).unwrap_or_default().name();
            let requests = limit.requests_per_unit;
            fields.push(("limit", text(format!("requests_per_unit:{requests} unit:{unit}"))));
        }
        if let Some(hits) = descriptor.hits_addend {
            fields.push(("hitsAddend", number(hits)));
        }
        structure(fields)
    });
    let mut fields =
        vec![("domain", text(request.domain.clone())), ("descriptors", list(descriptors.collect()))];
    if request.hits_addend != 0 {
        fields.push(("hitsAddend", number(request.hits_addend.into())));
    }
    let mut merged = Struct::default();
    for metadata in passed_metadata(decision) {
        merge(&mut merged, metadata);
    }
    let mut whole = Struct { fields: fields.into_iter().map(|(name, value)| (name.into(), value)).collect() };
    if !merged.fields.is_empty() {
        whole.fields.insert("metadata".into(), kind(Kind::StructValue(merged)));
    }
    whole
}

fn passed_metadata<'d>(decision: &'d Decision<'_>) -> impl Iterator<Item = &'d [(String, rules::Metadata)]> {
    decision.outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Decided { rule, status: Status::Ok, .. } => match &rule.metadata {
            Some(rules::Metadata::Struct(fields)) => Some(fields.as_slice()),
            _ => None,
        },
        _ => None,
    })
}

/// Deep merge in which the first one wins; lists are not merged.
fn merge(into: &mut Struct, from: &[(String, rules::Metadata)]) {
    for (name, value) in from {
        match into.fields.get_mut(name) {
            None => {
                into.fields.insert(name.clone(), metadata_value(value));
            }
            Some(Value { kind: Some(Kind::StructValue(existing)) }) => {
                if let rules::Metadata::Struct(fields) = value {
                    merge(existing, fields);
                }
            }
            Some(_) => {}
        }
    }
}

fn metadata_value(value: &rules::Metadata) -> Value {
    kind(match value {
        rules::Metadata::Null => Kind::NullValue(0),
        rules::Metadata::Bool(value) => Kind::BoolValue(*value),
        rules::Metadata::Number(value) => Kind::NumberValue(*value),
        rules::Metadata::String(value) => Kind::StringValue(value.clone()),
        rules::Metadata::List(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(metadata_value).collect() })
        }
        rules::Metadata::Struct(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), metadata_value(value)));
            Kind::StructValue(Struct { fields: fields.collect() })
        }
    })
}

fn kind(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: String) -> Value {
    kind(Kind::StringValue(text))
}

#[expect(clippy::cast_precision_loss, reason = "protobuf numbers are doubles")]
fn number(number: u64) -> Value {
    kind(Kind::NumberValue(number as f64))
}

fn list(values: Vec<Value>) -> Value {
    kind(Kind::ListValue(ListValue { values }))
}

fn structure(fields: Vec<(&str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    kind(Kind::StructValue(Struct { fields }))
}
