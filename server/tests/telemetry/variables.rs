//! The variables of OpenTelemetry and of the reference, as settings.

use std::time::Duration;

use tollgate_server::config::settings::{
    Effective, Environment, Flags, OtlpProtocol, Settings, TraceSampler, load,
};

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

fn sound(variables: &[(&str, &str)]) -> Effective {
    load(&environment(variables), &Flags::new()).unwrap()
}

fn problem(variables: &[(&str, &str)]) -> String {
    let error = load(&environment(variables), &Flags::new()).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}

#[test]
fn the_standards_variables_are_settings() {
    let telemetry = sound(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318/x"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ])
    .settings
    .telemetry;
    assert_eq!(telemetry.otlp.endpoint, "https://collector:4318/x");
    assert_eq!(telemetry.otlp.protocol, OtlpProtocol::Http);
    assert_eq!(telemetry.otlp.headers.reveal(), "authorization=Bearer%20x");
    assert_eq!(telemetry.otlp.timeout, Duration::from_millis(2500));
    assert_eq!(telemetry.otlp.metrics_interval, Duration::from_secs(15));
    assert_eq!((&*telemetry.service_name, &*telemetry.resource_attributes), ("edge", "a=b"));
    assert_eq!((telemetry.traces.sampler, telemetry.traces.ratio), (TraceSampler::Ratio, 0.25));
}

#[test]
fn a_sampler_without_an_argument_takes_all() {
    let traces = sound(&[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")]).settings.telemetry.traces;
    assert_eq!(traces.ratio, 1.0);
    assert_eq!(sound(&[]).settings.telemetry.traces.ratio, 0.01);
    assert!(sound(&[("OTEL_SDK_DISABLED", "true")]).settings.telemetry.disabled);
}

#[test]
fn an_empty_variable_is_not_set() {
    let empty = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER_ARG"];
    let settings = sound(&empty.map(|name| (name, ""))).settings;
    assert_eq!(settings, Settings::default());
}

#[test]
fn the_references_tracing_means_what_it_meant() {
    let telemetry = sound(&[
        ("TRACING_ENABLED", "true"),
        ("TRACING_SERVICE_NAMESPACE", "a,b"),
        ("TRACING_SERVICE_INSTANCE_ID", "7"),
    ])
    .settings
    .telemetry;
    assert_eq!(telemetry.otlp.endpoint, "http://localhost:4318");
    assert_eq!(telemetry.otlp.protocol, OtlpProtocol::Http);
    assert_eq!((&*telemetry.service_name, telemetry.traces.ratio), ("RateLimit", 1.0));
    assert_eq!(telemetry.resource_attributes, "service.namespace=a%2Cb,service.instance.id=7");
    assert!(telemetry.otlp.metrics_interval.is_zero(), "it sends no metrics");

    let telemetry = sound(&[
        ("TRACING_ENABLED", "true"),
        ("TRACING_EXPORTER_PROTOCOL", "grpc"),
        ("TRACING_SAMPLING_RATE", "0.5"),
        ("TRACING_SERVICE_NAME", "limits"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
    ])
    .settings
    .telemetry;
    assert_eq!(telemetry.otlp.endpoint, "http://collector:4317");
    assert_eq!((telemetry.otlp.protocol, telemetry.traces.ratio), (OtlpProtocol::Grpc, 0.5));
    assert_eq!(telemetry.service_name, "limits");
    let off = sound(&[("TRACING_ENABLED", "false"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1")]);
    assert_eq!(off.settings.telemetry.traces.sampler, TraceSampler::AlwaysOff);
}

#[test]
fn headers_are_never_shown() {
    let effective = sound(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2")]);
    assert!(!effective.to_string().contains("hunter2"));
    assert!(!format!("{:?}", effective.settings).contains("hunter2"));
    let problem = problem(&[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")]);
    assert!(problem.contains("telemetry.otlp.headers: part 1 is not name=value"), "{problem}");
    assert!(!problem.contains("hunter2"));
}

#[test]
fn what_makes_no_sense_is_named() {
    for (name, text, says) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "telemetry.otlp.endpoint"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "telemetry.traces.ratio"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "telemetry.otlp.timeout must be longer than 0s"),
        ("OTEL_SDK_DISABLED", "maybe", "telemetry.disabled"),
        ("OTEL_RESOURCE_ATTRIBUTES", "x", "telemetry.resource_attributes"),
        ("TRACING_ENABLED", "perhaps", "TRACING_ENABLED"),
        ("TOLLGATE__LOG__REFUSALS", "10001", "log.refusals"),
    ] {
        let problem = problem(&[(name, text)]);
        assert!(problem.contains(says), "{name}={text}: {problem}");
    }
}
