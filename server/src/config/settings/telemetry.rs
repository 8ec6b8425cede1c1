//! Section `[telemetry]`: metrics and traces for a collector, by OTLP.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::origin::{Origin, Origins};
use super::problem::Problem;
use super::{Secret, duration};
use crate::telemetry::otlp::{self, Endpoint};

/// `[telemetry]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Nothing is sent, whatever else is set, `false`. `OTEL_SDK_DISABLED`
    pub disabled: bool,
    /// What this service is called, `tollgate`, not empty. `OTEL_SERVICE_NAME`, `TRACING_SERVICE_NAME`
    #[serde(deserialize_with = "not_empty")]
    pub service_name: String,
    /// More of the resource as `name=value,name=value`, empty. `OTEL_RESOURCE_ATTRIBUTES`
    #[serde(deserialize_with = "pairs")]
    pub resource_attributes: String,
    /// The collector.
    pub otlp: Otlp,
    /// Which requests are followed.
    pub traces: Traces,
}

/// `[telemetry.otlp]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// `http://host:port` or `https://…` with a path or without; empty: nothing is sent.
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: String,
    /// How the collector is spoken to, `grpc`. `OTEL_EXPORTER_OTLP_PROTOCOL`, `TRACING_EXPORTER_PROTOCOL`
    pub protocol: OtlpProtocol,
    /// Headers of every message as `name=value,name=value`, empty; never shown. `OTEL_EXPORTER_OTLP_HEADERS`
    pub headers: Secret,
    /// The longest that one message may take, `10s`, above 0. `OTEL_EXPORTER_OTLP_TIMEOUT` in milliseconds
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How often metrics are sent, `60s`; `0s`: never. `OTEL_METRIC_EXPORT_INTERVAL` in milliseconds
    #[serde(with = "duration")]
    pub metrics_interval: Duration,
    /// PEM file of authorities, for `https`; empty: the system's. `OTEL_EXPORTER_OTLP_CERTIFICATE`
    pub tls_ca: String,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum OtlpProtocol {
    /// gRPC.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf in HTTP/1.1.
    #[serde(rename = "http/protobuf", alias = "http")]
    Http,
}

/// `[telemetry.traces]`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// Which requests are followed, `parentbased_traceidratio`. `OTEL_TRACES_SAMPLER`
    pub sampler: TraceSampler,
    /// Share of the traces that are followed, `0.01`, from 0 to 1: with `traceidratio` of all, with
    /// `parentbased_traceidratio` of those that begin here. `OTEL_TRACES_SAMPLER_ARG`, `TRACING_SAMPLING_RATE`
    pub ratio: f64,
    /// Traces that wait to be sent before more are dropped, `2048`, from 1 to 1000000. `OTEL_BSP_MAX_QUEUE_SIZE`
    pub queue: u32,
    /// Spans show the keys and values of descriptors, which come from clients, `false`.
    pub descriptors: bool,
}

/// The standard's samplers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceSampler {
    /// Every request.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share of all traces.
    #[serde(rename = "traceidratio")]
    Ratio,
    /// What the caller decided; without a caller's trace every request.
    #[serde(rename = "parentbased_always_on")]
    ParentOrOn,
    /// What the caller decided; without a caller's trace none.
    #[serde(rename = "parentbased_always_off")]
    ParentOrOff,
    /// What the caller decided; without a caller's trace a share.
    #[default]
    #[serde(rename = "parentbased_traceidratio")]
    ParentOrRatio,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry {
            disabled: false,
            service_name: "tollgate".to_owned(),
            resource_attributes: String::new(),
            otlp: Otlp::default(),
            traces: Traces::default(),
        }
    }
}

impl Default for Otlp {
    fn default() -> Otlp {
        Otlp {
            endpoint: String::new(),
            protocol: OtlpProtocol::default(),
            headers: Secret::default(),
            timeout: Duration::from_secs(10),
            metrics_interval: Duration::from_secs(60),
            tls_ca: String::new(),
        }
    }
}

impl Default for Traces {
    fn default() -> Traces {
        Traces { sampler: TraceSampler::default(), ratio: 0.01, queue: 2_048, descriptors: false }
    }
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(Error::custom("is empty")) } else { Ok(text) }
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if !text.is_empty() {
        Endpoint::read(&text).map_err(Error::custom)?;
    }
    Ok(text)
}

fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    otlp::pairs(&text).map_err(Error::custom)?;
    Ok(text)
}

/// What single values cannot show.
pub(super) fn problems(telemetry: &Telemetry, origins: &Origins) -> Vec<Problem> {
    let otlp = &telemetry.otlp;
    let mut problems = Vec::new();
    if let Err(why) = otlp::headers(otlp.headers.reveal()) {
        problems
            .push(refused(origins.of("telemetry.otlp.headers"), &format!("telemetry.otlp.headers: {why}")));
    }
    if otlp.timeout.is_zero() {
        let why = "telemetry.otlp.timeout must be longer than 0s";
        problems.push(refused(origins.of("telemetry.otlp.timeout"), why));
    }
    problems
}

fn refused(origin: &Origin, why: &str) -> Problem {
    Problem::Refused { origin: origin.clone(), why: why.to_owned() }
}
