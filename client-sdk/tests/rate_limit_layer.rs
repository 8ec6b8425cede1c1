//! The limiter before axum and tonic services, and before clients.
#![cfg(all(feature = "testing", feature = "axum", feature = "tonic"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::routing::get;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tollgate_client::Error;
use tollgate_client::layer::rate_limit::{RateLimitLayer, RateLimitLayerBuilder, key};
use tollgate_client::limiter::{FailureMode, LeaseMode, RateLimiterClient};
use tollgate_client::testing::{InProcessLimiter, ServedLimiter};
use tollgate_core::limit::{LeakyBucket, Limit, Rate, TokenBucket};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1::CheckRequest;
use tollgate_proto::tollgate::v1::rate_limiter_client::RateLimiterClient as Stub;
use tonic::Code;
use tonic_types::StatusExt as _;
use tower::{Layer, Service, ServiceExt as _, service_fn};

fn bucket(burst: u64) -> Limit {
    let rate = Rate::new(1, Span::from_secs(100)).unwrap();
    Limit::TokenBucket(TokenBucket::new(rate, burst).unwrap())
}

async fn world(path: &[&str], limit: Limit) -> (ServedLimiter, RateLimiterClient) {
    let limiter = InProcessLimiter::builder().limit("shop", path, limit).build().unwrap();
    let served = limiter.serve().await.unwrap();
    let client = RateLimiterClient::builder(served.target())
        .domain("shop")
        .deadline(Duration::from_secs(1))
        .lease(LeaseMode::Off)
        .connect_lazy()
        .unwrap();
    (served, client)
}

fn by_tenant(client: &RateLimiterClient) -> RateLimitLayerBuilder {
    RateLimitLayer::builder(client.clone()).descriptor("tenant", key::header("x-tenant").or(key::peer_ip()))
}

fn app(layer: RateLimitLayer) -> Router {
    Router::new().route("/orders/{id}", get(|| async { "ok" })).layer(layer)
}

fn request(path: &str, tenant: &[u8]) -> Request<Body> {
    let tenant = HeaderValue::from_bytes(tenant).unwrap();
    Request::builder().uri(path).header("x-tenant", tenant).body(Body::empty()).unwrap()
}

async fn answer(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_refusal_over_http_is_a_response_that_says_everything() {
    let (_served, client) = world(&["tenant"], bucket(2)).await;
    let app = app(by_tenant(&client).rate_limit_headers(true).build().unwrap());
    let first = answer(&app, request("/orders/1", b"acme")).await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(header(&first, "ratelimit"), "\"tenant\";r=1;t=100");
    assert_eq!(header(&first, "ratelimit-policy"), "\"tenant\";q=2");
    assert_eq!(answer(&app, request("/orders/2", b"acme")).await.status(), StatusCode::OK);
    let refused = answer(&app, request("/orders/3", b"acme")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let after: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((99..=111).contains(&after), "{after}: with a part of the jitter");
    assert_eq!(header(&refused, "ratelimit"), "\"tenant\";r=0;t=100");
    assert_eq!(answer(&app, request("/orders/1", b"other")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn odd_bytes_and_missing_values_are_no_trouble() {
    let (_served, client) = world(&["tenant"], bucket(1)).await;
    let app = app(by_tenant(&client).build().unwrap());
    let statuses = async |value: &[u8]| {
        let first = answer(&app, request("/orders/1", value)).await.status();
        (first, answer(&app, request("/orders/1", value)).await.status())
    };
    let limited = (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(statuses(b"\xff\xfe\x80").await, limited);
    assert_eq!(statuses(b"\xff\xfe\x81").await, limited);
    assert_eq!(statuses(&[b'x'; 5_000]).await, limited);
    assert_eq!(statuses(b"").await, (StatusCode::OK, StatusCode::OK), "no value, no descriptor, no limit");
    let from = |ip: [u8; 4]| {
        let mut request = request("/orders/1", b"");
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((ip, 1))));
        request
    };
    assert_eq!(answer(&app, from([10, 0, 0, 1])).await.status(), StatusCode::OK);
    assert_eq!(answer(&app, from([10, 0, 0, 1])).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer(&app, from([10, 0, 0, 2])).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn routes_count_by_what_matched_and_cost_what_they_cost() {
    let (_served, client) = world(&["tenant", "route"], bucket(10)).await;
    let layer = RateLimitLayer::builder(client)
        .entries([("tenant", key::header("x-tenant")), ("route", key::matched_path())])
        .cost(|request| if request.uri().path().ends_with("/all") { 6 } else { 2 })
        .rate_limit_headers(true)
        .build()
        .unwrap();
    let app = app(layer);
    let all = answer(&app, request("/orders/all", b"acme")).await;
    assert_eq!(header(&all, "ratelimit"), "\"tenant.route\";r=4;t=600");
    let one = answer(&app, request("/orders/7", b"acme")).await;
    assert!(header(&one, "ratelimit").starts_with("\"tenant.route\";r=2;t="), "{one:?}");
    assert_eq!(answer(&app, request("/orders/all", b"acme")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer(&app, request("/nowhere", b"acme")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_request_of_a_shaper_is_held_within_its_deadline() {
    let slow = Limit::LeakyBucket(LeakyBucket::new(Rate::new(10, Span::SECOND).unwrap(), 5).unwrap());
    let (_served, client) = world(&["tenant"], slow).await;
    let app = app(by_tenant(&client).build().unwrap());
    let began = Instant::now();
    assert_eq!(answer(&app, request("/orders/1", b"acme")).await.status(), StatusCode::OK);
    assert_eq!(answer(&app, request("/orders/1", b"acme")).await.status(), StatusCode::OK);
    assert!(began.elapsed() >= Duration::from_millis(99), "{:?}", began.elapsed());
    let mut hasty = request("/orders/1", b"acme");
    hasty.headers_mut().insert("grpc-timeout", HeaderValue::from_static("50m"));
    let refused = answer(&app, hasty).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "its turn comes after its deadline");
}

#[tokio::test]
async fn without_a_decision_a_closed_service_is_unavailable() {
    let client = RateLimiterClient::builder("static:127.0.0.1:1")
        .domain("shop")
        .failure_mode(FailureMode::Closed)
        .connect_lazy()
        .unwrap();
    let app = app(by_tenant(&client).rate_limit_headers(true).build().unwrap());
    let refused = answer(&app, request("/orders/1", b"acme")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let grpc = by_tenant(&client).build().unwrap().grpc();
    let service = grpc
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) }));
    let refused = service.oneshot(request("/orders/1", b"acme")).await.unwrap();
    assert_eq!(refused.headers().get("grpc-status").unwrap(), "14");
}

/// The limiter itself as a gRPC service behind the layer.
async fn limited_grpc(layer: RateLimitLayer) -> SocketAddr {
    use tollgate_proto::tollgate::v1::rate_limiter_server::RateLimiterServer;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tonic::transport::Server::builder()
        .layer(layer.grpc())
        .add_service(RateLimiterServer::new(Yes))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    address
}

/// Says yes to every check.
struct Yes;

#[tonic::async_trait]
impl tollgate_proto::tollgate::v1::rate_limiter_server::RateLimiter for Yes {
    async fn check(
        &self,
        _: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<tollgate_proto::tollgate::v1::CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(tollgate_proto::tollgate::v1::CheckResponse::default()))
    }

    type CheckStreamStream =
        tokio_stream::Empty<Result<tollgate_proto::tollgate::v1::CheckStreamResponse, tonic::Status>>;

    async fn check_stream(
        &self,
        _: tonic::Request<tonic::Streaming<tollgate_proto::tollgate::v1::CheckStreamRequest>>,
    ) -> Result<tonic::Response<Self::CheckStreamStream>, tonic::Status> {
        Ok(tonic::Response::new(tokio_stream::empty()))
    }

    async fn lease(
        &self,
        _: tonic::Request<tollgate_proto::tollgate::v1::LeaseRequest>,
    ) -> Result<tonic::Response<tollgate_proto::tollgate::v1::LeaseResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("checks only"))
    }

    async fn return_lease(
        &self,
        _: tonic::Request<tollgate_proto::tollgate::v1::ReturnLeaseRequest>,
    ) -> Result<tonic::Response<tollgate_proto::tollgate::v1::ReturnLeaseResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("checks only"))
    }
}

#[tokio::test]
async fn a_refusal_over_grpc_is_a_status_with_details() {
    let (_served, client) = world(&["peer", "method"], bucket(1)).await;
    let layer = RateLimitLayer::builder(client)
        .entries([("peer", key::peer_ip()), ("method", key::matched_path())])
        .build()
        .unwrap();
    let address = limited_grpc(layer).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut stub = Stub::new(endpoint.connect().await.unwrap());
    assert!(stub.check(CheckRequest::default()).await.is_ok());
    let status = stub.check(CheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((99..=111).contains(&retry.as_secs()), "{retry:?}");
    let quota = status.get_details_quota_failure().unwrap();
    assert_eq!(quota.violations[0].subject, "peer.method");
    let pushback: u64 =
        status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!(pushback >= 99_000);
}

#[tokio::test]
async fn before_a_client_a_refusal_is_an_error_and_nothing_is_sent() {
    let (_served, client) = world(&["tenant"], bucket(1)).await;
    let sent = Arc::new(AtomicU32::new(0));
    let layer = by_tenant(&client).build_call().unwrap();
    let counted = sent.clone();
    let service = layer.layer(service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, SeqCst);
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    }));
    assert!(service.clone().oneshot(request("/", b"acme")).await.is_ok());
    let refused = service.oneshot(request("/", b"acme")).await.unwrap_err();
    assert!(refused.is_rejection());
    let Error::RateLimited { rule, retry_after, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(&*rule, "tenant");
    assert!(retry_after.unwrap() >= Duration::from_secs(99));
    assert_eq!(sent.load(SeqCst), 1);
}

/// A service that may be called only after it was polled ready.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Strict {
        Strict { ready: false }
    }
}

impl Service<Request<Body>> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        self.ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let (_served, client) = world(&["tenant"], bucket(10)).await;
    let mut service = by_tenant(&client).build().unwrap().layer(Strict::default());
    let mut before_a_client = by_tenant(&client).build_call().unwrap().layer(Strict::default());
    for _ in 0..3 {
        let response = service.ready().await.unwrap().call(request("/", b"acme")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(before_a_client.ready().await.unwrap().call(request("/", b"acme")).await.is_ok());
    }
}

#[test]
fn a_layer_without_descriptors_is_an_error() {
    let client = RateLimiterClient::builder("static:127.0.0.1:1").connect_lazy().unwrap();
    let error = RateLimitLayer::builder(client.clone()).build().unwrap_err();
    assert_eq!(error.field, "descriptor");
    let nameless = RateLimitLayer::builder(client).descriptor("", key::method()).build().unwrap_err();
    assert!(nameless.to_string().contains("name"), "{nameless}");
}
