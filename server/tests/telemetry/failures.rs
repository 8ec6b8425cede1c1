//! A collector that is not there, or takes nothing: no call notices.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::collector::Collector;
use crate::world::{Server, eventually, value};

/// Follows everything, so that there is much to lose.
const ALL: (&str, &str) = ("OTEL_TRACES_SAMPLER", "always_on");
const DROPPED: &str = "tollgate_otlp_dropped_traces_total";
const FAILED: &str = "tollgate_otlp_exports_total{result=\"failed\",signal=\"traces\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_calls_go_on_and_what_is_lost_is_counted() {
    // a port that nobody listens on
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{port}")),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ALL,
    ])
    .await;
    for _ in 0..700 {
        server.asks("route", &[]).await;
    }
    // one batch of 512 is on its way, ten wait, the others are lost
    let lost = eventually(async || value(&server.page().await, DROPPED).filter(|lost| *lost > 0.0)).await;
    assert!(lost >= 100.0, "{lost}");
    eventually(async || value(&server.page().await, FAILED).filter(|failed| *failed > 0.0)).await;
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_keeps_nobody() {
    // connections are made, and nobody reads
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", listener.local_addr().unwrap())),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ALL,
    ])
    .await;
    for _ in 0..100 {
        server.asks("route", &[]).await;
    }
    let began = Instant::now();
    server.leave().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_refuses_is_dropped_at_once() {
    for grpc in [true, false] {
        let (collector, endpoint) = if grpc { Collector::grpc().await } else { Collector::http().await };
        collector.refuse();
        let protocol = if grpc { "grpc" } else { "http/protobuf" };
        let server = Server::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ALL,
        ])
        .await;
        for _ in 0..3 {
            server.asks("route", &[]).await;
        }
        // no second attempt: those begin after a second each
        let began = Instant::now();
        eventually(async || value(&server.page().await, DROPPED).filter(|lost| *lost >= 3.0)).await;
        assert_eq!(value(&server.page().await, FAILED), Some(1.0), "{protocol} {:?}", began.elapsed());
        server.leave().await;
        assert!(collector.spans().is_empty());
    }
}
