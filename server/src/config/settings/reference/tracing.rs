//! The variables of OpenTelemetry, and the reference's own for tracing.

use super::super::environment::Environment;
use super::super::layers::Layers;
use super::super::schema::switch;
use super::{env, is_off, is_on, not_boolean};

/// Variable, setting.
const PLAIN: [(&str, &str); 10] = [
    ("OTEL_SDK_DISABLED", "telemetry.disabled"),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
    ("OTEL_RESOURCE_ATTRIBUTES", "telemetry.resource_attributes"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "telemetry.otlp.protocol"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "telemetry.otlp.headers"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "telemetry.otlp.tls_ca"),
    ("OTEL_TRACES_SAMPLER", "telemetry.traces.sampler"),
    ("OTEL_TRACES_SAMPLER_ARG", "telemetry.traces.ratio"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "telemetry.traces.queue"),
];

/// The same for times in milliseconds.
const MILLISECONDS: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "telemetry.otlp.timeout"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "telemetry.otlp.metrics_interval"),
];

/// The reference's variables for tracing, and the parts of the resource that they name.
const REFERENCE: [(&str, &str); 3] = [
    ("TRACING_SERVICE_NAME", "service.name"),
    ("TRACING_SERVICE_NAMESPACE", "service.namespace"),
    ("TRACING_SERVICE_INSTANCE_ID", "service.instance.id"),
];

const ENABLED: &str = "TRACING_ENABLED";

/// What a variable implies unless something else says otherwise.
pub(super) fn implied(environment: &Environment, layers: &mut Layers) {
    let sampler = "OTEL_TRACES_SAMPLER";
    if environment.value(sampler).is_some() {
        // the standard's ratio, not ours
        layers.add_text("telemetry.traces.ratio", "1", env(sampler));
    }
    if is_off(environment, ENABLED) {
        layers.add_text("telemetry.traces.sampler", "always_off", env(ENABLED));
    }
    if is_on(environment, ENABLED) {
        reference_implies(environment, layers);
    }
}

/// The reference sends traces, and nothing else, to a collector that it expects beside it.
fn reference_implies(environment: &Environment, layers: &mut Layers) {
    let chosen = environment.value("TRACING_EXPORTER_PROTOCOL").filter(|text| !text.is_empty());
    let (protocol, endpoint) = match chosen {
        Some("grpc") => ("grpc", "http://localhost:4317"),
        _ => ("http/protobuf", "http://localhost:4318"),
    };
    layers.add_text("telemetry.otlp.protocol", protocol, env(ENABLED));
    layers.add_text("telemetry.otlp.endpoint", endpoint, env(ENABLED));
    layers.add_text("telemetry.traces.ratio", "1", env(ENABLED));
    layers.add_text("telemetry.service_name", "RateLimit", env(ENABLED));
    layers.add_text("telemetry.otlp.metrics_interval", "0s", env(ENABLED));
}

/// The variables that are settings. The standard's go before the reference's.
pub(super) fn aliases(environment: &Environment, layers: &mut Layers) {
    if let Some(text) = environment.value(ENABLED)
        && switch(text).is_none()
    {
        layers.add_problem(not_boolean(ENABLED, text));
    }
    if is_on(environment, ENABLED) {
        reference(environment, layers);
    }
    for (name, key) in PLAIN {
        // an empty variable is one that is not set, by the standard
        if let Some(text) = environment.value(name).filter(|text| !text.is_empty()) {
            layers.add_text(key, text, env(name));
        }
    }
    for (name, key) in MILLISECONDS {
        if let Some(text) = environment.value(name).filter(|text| !text.is_empty()) {
            layers.add_text(key, &format!("{text}ms"), env(name));
        }
    }
}

fn reference(environment: &Environment, layers: &mut Layers) {
    let set = |name: &str| environment.value(name).filter(|text| !text.is_empty());
    if let Some(text) = set("TRACING_EXPORTER_PROTOCOL") {
        layers.add_text("telemetry.otlp.protocol", text, env("TRACING_EXPORTER_PROTOCOL"));
    }
    if let Some(text) = set("TRACING_SAMPLING_RATE") {
        layers.add_text("telemetry.traces.ratio", text, env("TRACING_SAMPLING_RATE"));
    }
    let named = REFERENCE.iter().filter_map(|(name, part)| Some((*name, *part, set(name)?)));
    let named: Vec<_> = named.collect();
    for (name, _, text) in named.iter().filter(|(_, part, _)| *part == "service.name") {
        layers.add_text("telemetry.service_name", text, env(name));
    }
    let parts = named.iter().filter(|(_, part, _)| *part != "service.name");
    let parts: Vec<_> = parts.map(|(_, part, text)| format!("{part}={}", escaped(text))).collect();
    if !parts.is_empty() && set("OTEL_RESOURCE_ATTRIBUTES").is_none() {
        layers.add_text("telemetry.resource_attributes", &parts.join(","), env("TRACING_SERVICE_NAMESPACE"));
    }
}

/// The characters that mean something in a list of attributes, with percent signs.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace(',', "%2C").replace('=', "%3D")
}
