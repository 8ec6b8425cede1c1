//! A collector that keeps what it gets, over gRPC and over HTTP.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What has arrived.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Arrived>>);

#[derive(Default)]
struct Arrived {
    metrics: Vec<ExportMetricsServiceRequest>,
    traces: Vec<ExportTraceServiceRequest>,
    tokens: Vec<String>,
    refuses: bool,
}

impl Collector {
    /// A collector that speaks gRPC, and its address.
    pub(crate) async fn grpc() -> (Collector, String) {
        let collector = Collector::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (collector, address)
    }

    /// A collector that speaks HTTP, and its address.
    pub(crate) async fn http() -> (Collector, String) {
        let collector = Collector::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/otlp", listener.local_addr().unwrap());
        let (metrics, traces) = (collector.clone(), collector.clone());
        let routes = axum::Router::new()
            .route(
                "/otlp/v1/metrics",
                axum::routing::post(async move |headers: HeaderMap, body: Bytes| {
                    metrics.post(&headers, |arrived| {
                        arrived.metrics.push(ExportMetricsServiceRequest::decode(body).unwrap());
                    })
                }),
            )
            .route(
                "/otlp/v1/traces",
                axum::routing::post(async move |headers: HeaderMap, body: Bytes| {
                    traces.post(&headers, |arrived| {
                        arrived.traces.push(ExportTraceServiceRequest::decode(body).unwrap());
                    })
                }),
            );
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (collector, address)
    }

    fn post(&self, headers: &HeaderMap, keep: impl FnOnce(&mut Arrived)) -> StatusCode {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let mut arrived = self.0.lock().unwrap();
        if arrived.refuses {
            return StatusCode::BAD_REQUEST;
        }
        if let Some(token) = headers.get("x-token") {
            arrived.tokens.push(token.to_str().unwrap().to_owned());
        }
        keep(&mut arrived);
        StatusCode::OK
    }

    /// From now on nothing is taken.
    pub(crate) fn refuse(&self) {
        self.0.lock().unwrap().refuses = true;
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let arrived = self.0.lock().unwrap();
        let resources = arrived.traces.iter().flat_map(|message| &message.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// A metric as it came last.
    pub(crate) fn metric(&self, name: &str) -> Option<Metric> {
        let arrived = self.0.lock().unwrap();
        let resources = arrived.metrics.iter().rev().flat_map(|message| &message.resource_metrics);
        let mut metrics =
            resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        metrics.find(|metric| metric.name == name).cloned()
    }

    /// An attribute of the resource of the last metrics.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        let arrived = self.0.lock().unwrap();
        let resource = arrived.metrics.last()?.resource_metrics.first()?.resource.clone()?;
        text(&resource.attributes, key)
    }

    /// The tokens that came with messages.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.0.lock().unwrap().tokens.clone()
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut arrived = self.0.lock().unwrap();
        if arrived.refuses {
            return Err(Status::invalid_argument("nothing is taken"));
        }
        arrived.metrics.push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut arrived = self.0.lock().unwrap();
        if arrived.refuses {
            return Err(Status::invalid_argument("nothing is taken"));
        }
        arrived.traces.push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

/// An attribute as text; several values with commas.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(shown(found.value.as_ref()?.value.as_ref()?))
}

fn shown(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::ArrayValue(array) => {
            let values = array.values.iter().filter_map(|value| value.value.as_ref());
            values.map(shown).collect::<Vec<_>>().join(",")
        }
        other => panic!("{other:?}"),
    }
}
