//! Requests that are followed.

use std::collections::HashSet;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::collector::{Collector, text};
use crate::world::{Server, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn find<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

async fn followed(variables: &[(&str, &str)], work: impl AsyncFnOnce(&Server)) -> Vec<Span> {
    let (collector, endpoint) = Collector::grpc().await;
    let always = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
    let variables: Vec<_> = always.iter().chain(variables).copied().collect();
    let server = Server::start(&variables).await;
    work(&server).await;
    server.leave().await;
    collector.spans()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_belongs_to_the_callers_trace() {
    let spans = followed(&[], async |server| {
        let headers = [("traceparent", &*traceparent("01")), ("tracestate", "vendor=1")];
        assert!(server.asks("user", &headers).await);
    })
    .await;
    let call = find(&spans, "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.to_owned(), CALLER.to_owned()));
    assert_eq!((call.kind, call.trace_state.as_str()), (2, "vendor=1"), "a server's span");
    assert_eq!(text(&call.attributes, "rpc.system.name").as_deref(), Some("grpc"));
    assert_eq!(text(&call.attributes, "rpc.response.status_code").as_deref(), Some("OK"));
    assert!(call.start_time_unix_nano < call.end_time_unix_nano && call.status.is_none());

    let decide = find(&spans, "tollgate.decide");
    assert_eq!((&decide.trace_id, &decide.parent_span_id), (&call.trace_id, &call.span_id));
    assert_eq!(text(&decide.attributes, "tollgate.domain").as_deref(), Some("shop"));
    assert_eq!(text(&decide.attributes, "tollgate.rule").as_deref(), Some("shop.user"));
    assert_eq!(text(&decide.attributes, "tollgate.by").as_deref(), Some("memory"));
    assert_eq!(text(&decide.attributes, "tollgate.decision").as_deref(), Some("allowed"));
    assert!(!format!("{spans:?}").contains("ann"), "a client's value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_caller_does_not_follow_leaves_nothing() {
    let spans = followed(&[("OTEL_TRACES_SAMPLER", "parentbased_always_on")], async |server| {
        for _ in 0..50 {
            server.asks("route", &[("traceparent", &*traceparent("00"))]).await;
        }
        // without a caller's trace the server decides
        server.asks("route", &[]).await;
    })
    .await;
    let calls: Vec<_> = spans.iter().filter(|span| span.kind == 2 && span.name.contains("Should")).collect();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].parent_span_id.is_empty());
    assert_ne!(hex(&calls[0].trace_id), TRACE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ratio_is_kept() {
    let ratio = [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.2")];
    let spans = followed(&ratio, async |server| {
        for _ in 0..1_000 {
            server.asks("route", &[]).await;
        }
    })
    .await;
    // 200 ± 8 standard deviations of 12.6
    // a batch whose answer was late is sent again: each span counts once
    let decides = spans.iter().filter(|span| span.name == "tollgate.decide");
    let calls = decides.map(|span| &span.span_id).collect::<HashSet<_>>().len();
    assert!((100..=300).contains(&calls), "{calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_shown_only_if_somebody_asks_for_it() {
    let shown = [("TOLLGATE__TELEMETRY__TRACES__DESCRIPTORS", "true")];
    let spans = followed(&shown, async |server| {
        server.asks("user", &[("traceparent", &*traceparent("01"))]).await;
    })
    .await;
    let decide = find(&spans, "tollgate.decide");
    assert_eq!(text(&decide.attributes, "tollgate.descriptors").as_deref(), Some("user=ann"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_has_spans_too() {
    let spans = followed(&[], async |server| {
        let header = format!("traceparent: {}", traceparent("01"));
        let answer = server.http("GET /readyz", &[&header]).await;
        assert!(answer.contains("200 OK"));
        server.http("GET /no/such/path", &[&header]).await;
    })
    .await;
    let ready = find(&spans, "/readyz");
    assert_eq!(hex(&ready.parent_span_id), CALLER);
    assert_eq!(text(&ready.attributes, "http.response.status_code").as_deref(), Some("200"));
    let lost = find(&spans, "GET");
    assert_eq!(text(&lost.attributes, "http.response.status_code").as_deref(), Some("404"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_call_is_the_example_of_its_histogram() {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let (collector, endpoint) = Collector::grpc().await;
    let server =
        Server::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_METRIC_EXPORT_INTERVAL", "100")])
            .await;
    server.asks("user", &[("traceparent", &*traceparent("01"))]).await;
    let metric = eventually(async || collector.metric("rpc.server.call.duration")).await;
    let Some(Data::Histogram(histogram)) = metric.data else { panic!("no histogram") };
    let example = &histogram.data_points[0].exemplars[0];
    assert_eq!(hex(&example.trace_id), TRACE);
    server.leave().await;
    let call =
        find(&collector.spans(), "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit").clone();
    assert_eq!(example.span_id, call.span_id);
}
