//! What a collector is told is what the page shows.

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, number_data_point};

use crate::collector::{Collector, text};
use crate::world::{Server, value};

fn points(metric: &Metric) -> &[NumberDataPoint] {
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{}", metric.name);
            &sum.data_points
        }
        Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{other:?}"),
    }
}

fn whole(point: &NumberDataPoint) -> i64 {
    match point.value.unwrap() {
        number_data_point::Value::AsInt(number) => number,
        number_data_point::Value::AsDouble(number) => panic!("{number} is counted"),
    }
}

async fn everything_arrives(collector: Collector, endpoint: &str, protocol: &str) {
    let server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret%2Cword"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=shop,deployment.environment.name=test"),
        // a minute passes before the first one by itself: what arrives is sent at the end
        ("OTEL_METRIC_EXPORT_INTERVAL", "60000"),
    ])
    .await;
    for _ in 0..5 {
        server.asks("user", &[]).await;
        server.asks("route", &[]).await;
    }
    assert!(server.http("GET /healthcheck", &[]).await.contains("200 OK"));
    let page = server.page().await;
    server.leave().await;

    let decisions = collector.metric("tollgate.decisions").unwrap();
    assert_eq!(points(&decisions).len(), 6, "two rules, three outcomes");
    for point in points(&decisions) {
        let label = |key: &str| text(&point.attributes, key).unwrap();
        let (domain, outcome, rule) = (label("domain"), label("outcome"), label("rule"));
        let series =
            format!("tollgate_decisions_total{{domain=\"{domain}\",outcome=\"{outcome}\",rule=\"{rule}\"}}");
        assert_eq!(value(&page, &series), Some(whole(point) as f64), "{series}");
        assert!(0 < point.start_time_unix_nano && point.start_time_unix_nano < point.time_unix_nano);
    }
    let refused = |point: &&NumberDataPoint| text(&point.attributes, "outcome").as_deref() == Some("refused");
    assert_eq!(points(&decisions).iter().filter(refused).map(whole).sum::<i64>(), 3);
    assert_eq!(points(&collector.metric("tollgate.hits").unwrap()).len(), 12);
    assert_eq!(points(&collector.metric("tollgate.store.keys").unwrap()).iter().map(whole).sum::<i64>(), 2);
    assert_eq!(collector.resource("service.name").as_deref(), Some("edge"));
    assert_eq!(collector.resource("service.namespace").as_deref(), Some("shop"));
    assert_eq!(collector.resource("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    durations_arrive(&collector, &page);
}

fn durations_arrive(collector: &Collector, page: &str) {
    let rpc = collector.metric("rpc.server.call.duration").unwrap();
    assert_eq!(rpc.unit, "s");
    let Some(Data::Histogram(histogram)) = &rpc.data else { panic!("{:?}", rpc.data) };
    let [point] = &histogram.data_points[..] else { panic!("{histogram:?}") };
    let method = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    assert_eq!(text(&point.attributes, "rpc.method").as_deref(), Some(method));
    assert_eq!(text(&point.attributes, "rpc.response.status_code").as_deref(), Some("OK"));
    assert_eq!(text(&point.attributes, "error.type"), None);
    assert_eq!((point.count, point.bucket_counts.iter().sum()), (10, 10));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    let series = format!(
        "rpc_server_call_duration_seconds_count{{rpc_method=\"{method}\",rpc_response_status_code=\"OK\",\
         rpc_system_name=\"grpc\"}}"
    );
    assert_eq!(value(page, &series), Some(10.0));

    let http = collector.metric("http.server.request.duration").unwrap();
    let Some(Data::Histogram(histogram)) = &http.data else { panic!("{:?}", http.data) };
    let health = histogram
        .data_points
        .iter()
        .find(|point| text(&point.attributes, "http.route").as_deref() == Some("/healthcheck"))
        .unwrap();
    assert_eq!(text(&health.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(health.count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_over_grpc_is_told_what_the_page_shows() {
    let (collector, endpoint) = Collector::grpc().await;
    everything_arrives(collector, &endpoint, "grpc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_over_http_is_told_what_the_page_shows() {
    let (collector, endpoint) = Collector::http().await;
    everything_arrives(collector.clone(), &endpoint, "http/protobuf").await;
    let tokens = collector.tokens();
    assert!(!tokens.is_empty() && tokens.iter().all(|token| token == "secret,word"), "{tokens:?}");
}
