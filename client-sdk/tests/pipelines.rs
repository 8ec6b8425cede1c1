//! Pipelines before a tonic channel and before reqwest, over loopback.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "world/mod.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tollgate_client::breaker::Wait;
use tollgate_client::classify::ReqwestClassifier;
use tollgate_client::{
    CircuitBreaker, ConcurrencyLimiter, Deadline, DeadlineLayer, Error, GrpcClassifier, LoadShed,
    LoadShedLayer, Pipeline, RejectionKind, Retry, RetryLayer, State, rejection, retry_after,
};
use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use tollgate_proto::tollgate::v1::rate_limiter_client::RateLimiterClient;
use tonic::transport::Server;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt};
use world::{Answer, Target, endpoint, listen, until};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn request(domain: &str) -> RateLimitRequest {
    RateLimitRequest { domain: domain.to_owned(), ..RateLimitRequest::default() }
}

fn pushback(code: Code, millis: &'static str) -> Status {
    let mut status = Status::new(code, "busy");
    status.metadata_mut().insert("grpc-retry-pushback-ms", millis.parse().unwrap());
    status
}

#[tokio::test]
async fn a_retried_call_is_the_same_call_and_says_so() {
    let target =
        Target::new(|call| if call < 2 { Answer::Err(Status::unavailable("down")) } else { Answer::Ok });
    let layer = RetryLayer::new(Retry::exponential(MS(1)), GrpcClassifier::default()).unwrap();
    let mut client = RateLimitServiceClient::new(layer.layer(target.channel().await));
    client.should_rate_limit(request("shop")).await.unwrap();
    let seen = target.seen();
    assert!(seen.iter().all(|(_, domain)| domain == "shop"), "{seen:?}");
    let attempts: Vec<_> =
        seen.iter().map(|(metadata, _)| metadata.get("grpc-previous-rpc-attempts").cloned()).collect();
    assert_eq!(attempts, [None, Some("1".parse().unwrap()), Some("2".parse().unwrap())]);
}

#[tokio::test]
async fn pushback_is_obeyed() {
    let target = Target::new(|call| match call {
        0 => Answer::Err(pushback(Code::ResourceExhausted, "60")),
        1 => Answer::Ok,
        _ => Answer::Err(pushback(Code::Unavailable, "-1")),
    });
    let layer = RetryLayer::new(Retry::exponential(MS(1)), GrpcClassifier::default()).unwrap();
    let mut client = RateLimitServiceClient::new(layer.layer(target.channel().await));
    let start = tokio::time::Instant::now();
    client.should_rate_limit(request("a")).await.unwrap();
    assert!(start.elapsed() >= MS(60), "{:?}", start.elapsed());
    client.should_rate_limit(request("a")).await.unwrap_err();
    assert_eq!(target.calls(), 3, "-1 means: do not retry");
}

#[tokio::test]
async fn a_long_stream_of_a_client_is_sent_once() {
    let target = Target::new(|_| Answer::Err(Status::unavailable("down")));
    let layer = RetryLayer::new(Retry::exponential(MS(1)), GrpcClassifier::default()).unwrap();
    let channel = target.channel().await;
    let messages = || tokio_stream::iter(vec![Default::default(); 4]);
    let mut client = RateLimiterClient::new(layer.clone().keep_body(0).layer(channel.clone()));
    client.check_stream(messages()).await.unwrap_err();
    let once = target.calls();
    let mut client = RateLimiterClient::new(layer.layer(channel));
    client.check_stream(messages()).await.unwrap_err();
    assert_eq!((once, target.calls()), (1, 4));
}

#[tokio::test]
async fn the_deadline_travels_and_ends_the_call() {
    let target = Target::new(|_| Answer::Hold);
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let pipeline = Pipeline::builder("p").deadline(MS(80)).breaker(breaker.clone()).build().unwrap();
    let channel = pipeline.layer(GrpcClassifier::default()).layer(target.channel().await);
    let mut client = RateLimitServiceClient::new(channel);
    let start = tokio::time::Instant::now();
    let status = client.should_rate_limit(request("a")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(rejection(&status).unwrap().kind, RejectionKind::DeadlineExceeded);
    assert!(start.elapsed() >= MS(80));
    let timeout = target.seen()[0].0.get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
    let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=80_000).contains(&micros), "{timeout}");
    assert_eq!(breaker.metrics().failures, 1);
}

#[tokio::test]
async fn what_the_request_says_wins_if_it_is_shorter() {
    let target = Target::new(|_| Answer::Hold);
    let pipeline = Pipeline::builder("p").deadline(Duration::from_secs(60)).build().unwrap();
    let channel = pipeline.layer(GrpcClassifier::default()).layer(target.channel().await);
    let mut request = tonic::Request::new(request("a"));
    request.set_timeout(MS(50));
    let status = RateLimitServiceClient::new(channel).should_rate_limit(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(rejection(&status).unwrap().kind, RejectionKind::DeadlineExceeded);
}

#[tokio::test]
async fn an_attempt_time_out_is_retried_and_seen_by_the_breaker() {
    let target = Target::new(|call| if call == 0 { Answer::Hold } else { Answer::Ok });
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let pipeline = Pipeline::builder("p")
        .attempt_timeout(MS(250))
        .deadline(Duration::from_secs(20))
        .retry(Retry::exponential(MS(1)))
        .breaker(breaker.clone())
        .build()
        .unwrap();
    let channel = pipeline.layer(GrpcClassifier::default()).layer(target.channel().await);
    RateLimitServiceClient::new(channel).should_rate_limit(request("a")).await.unwrap();
    let metrics = breaker.metrics();
    assert_eq!((target.calls(), metrics.calls, metrics.failures), (2, 2, 1));
}

#[tokio::test]
async fn an_overloaded_tonic_server_sheds_with_advice() {
    let target = Target::new(|_| Answer::Hold);
    let limit = ConcurrencyLimiter::fixed(1).codel(MS(5), MS(20)).build().unwrap();
    let shed = LoadShed::builder(limit.clone()).wait(MS(20)).build().unwrap();
    let (incoming, address) = listen().await;
    let service = RateLimitServiceServer::new(target.clone());
    let layer = LoadShedLayer::new(shed).retry_after(MS(250));
    tokio::spawn(Server::builder().layer(layer).add_service(service).serve_with_incoming(incoming));
    let mut client = RateLimitServiceClient::new(endpoint(address).connect().await.unwrap());
    let mut other = client.clone();
    let first = tokio::spawn(async move { other.should_rate_limit(request("a")).await });
    until(|| target.held() == 1).await;
    let status = client.should_rate_limit(request("b")).await.unwrap_err();
    assert_eq!((status.code(), retry_after(&status)), (Code::ResourceExhausted, Some(MS(250))));
    target.release();
    first.await.unwrap().unwrap();
    until(|| limit.in_flight() == 0).await;
    assert_eq!(target.calls(), 1);
}

#[tokio::test]
async fn a_tonic_server_ends_calls_that_nobody_awaits() {
    let target = Target::new(|_| Answer::Hold);
    let (incoming, address) = listen().await;
    // around one service, whose name the layer keeps
    let service = DeadlineLayer::at_most(MS(40)).layer(RateLimitServiceServer::new(target.clone()));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let mut client = RateLimitServiceClient::new(endpoint(address).connect().await.unwrap());
    let status = client.should_rate_limit(request("a")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(target.held(), 0, "the handler is gone");
}

async fn http_server(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn reqwest_takes_the_layers_as_it_is() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let handler = move |body: String| async move {
        match counter.fetch_add(1, Ordering::SeqCst) {
            0 => Err(http::StatusCode::SERVICE_UNAVAILABLE),
            1..4 => Ok(body),
            _ => Err(http::StatusCode::INTERNAL_SERVER_ERROR),
        }
    };
    let url = http_server(Router::new().route("/echo", post(handler))).await;
    let wait = Wait::constant(Duration::from_secs(60));
    let breaker = CircuitBreaker::builder("b").consecutive_failures(3).wait_in_open(wait).build().unwrap();
    let pipeline =
        Pipeline::builder("p").retry(Retry::exponential(MS(1))).breaker(breaker.clone()).build().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut client = pipeline.layer(ReqwestClassifier).layer(http.clone());
    let post = || http.post(format!("{url}/echo")).body("hello").build().unwrap();
    let response = client.ready().await.unwrap().call(post()).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    for _ in 0..5 {
        client.ready().await.unwrap().call(post()).await.unwrap();
    }
    let error = client.ready().await.unwrap().call(post()).await.unwrap_err();
    assert!(matches!(error, Error::CircuitOpen { state: State::Open, .. }), "{error:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn an_axum_server_sheds_and_keeps_its_error_type() {
    let release = Arc::new(tokio::sync::Notify::new());
    let (wait, entered) = (release.clone(), Arc::new(AtomicU32::new(0)));
    let count = entered.clone();
    let handler = move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        wait.notified().await;
        "done"
    };
    let limit = ConcurrencyLimiter::fixed(1).build().unwrap();
    let shed = LoadShed::builder(limit.clone()).wait(Duration::ZERO).build().unwrap();
    let app: Router = Router::new().route("/", get(handler)).layer(LoadShedLayer::new(shed));
    let get = || http::Request::get("/").body(axum::body::Body::empty()).unwrap();
    let first = tokio::spawn(app.clone().oneshot(get()));
    until(|| entered.load(Ordering::SeqCst) == 1).await;
    let refused = app.clone().oneshot(get()).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (http::StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    release.notify_one();
    let served = first.await.unwrap().unwrap();
    assert_eq!((served.status(), limit.in_flight()), (http::StatusCode::OK, 1));
    drop(served);
    assert_eq!(limit.in_flight(), 0, "held until the body is gone");
}

#[tokio::test]
async fn an_axum_handler_knows_its_deadline() {
    let handler = || async {
        let left = Deadline::current().map_or(Duration::MAX, |deadline| deadline.remaining());
        if left < MS(500) {
            std::future::pending::<()>().await;
        }
        left.as_millis().to_string()
    };
    let app: Router = Router::new().route("/", get(handler)).layer(DeadlineLayer::new());
    let call = |timeout: &str| {
        let request = http::Request::get("/").header("grpc-timeout", timeout);
        app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap())
    };
    let served = call("60S").await.unwrap();
    let body = axum::body::to_bytes(served.into_body(), 100).await.unwrap();
    let left: u64 = std::str::from_utf8(&body).unwrap().parse().unwrap();
    assert!((500..=59_995).contains(&left), "{left}");
    assert_eq!(call("50m").await.unwrap().status(), http::StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(call("0m").await.unwrap().status(), http::StatusCode::GATEWAY_TIMEOUT);
}
