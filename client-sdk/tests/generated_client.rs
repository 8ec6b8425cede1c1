//! What a generated tonic client sees of each policy, over loopback.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "world/mod.rs"]
mod world;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tollgate_client::breaker::Wait;
use tollgate_client::concurrency::ConcurrencyLimiter;
use tollgate_client::{
    CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, Error, GrpcClassifier, RejectionKind, State,
    Until, is_circuit_open, rejection, retry_after,
};
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tollgate_proto::tollgate::v1::rate_limiter_client::RateLimiterClient;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceBuilder;
use world::{Answer, Target, endpoint, until};

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn ask<T>(client: &mut RateLimitServiceClient<T>) -> Result<RateLimitResponse, Status>
where
    T: GrpcService<Body>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    T::Error: Into<tonic::codegen::StdError>,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    Ok(client.should_rate_limit(RateLimitRequest::default()).await?.into_inner())
}

fn breaker(failures: u32) -> CircuitBreaker {
    let wait = Wait::constant(Duration::from_secs(60));
    CircuitBreaker::builder("inventory").consecutive_failures(failures).wait_in_open(wait).build().unwrap()
}

type Rejected = Error<io::Error>;

/// What a generated client makes of an error of its channel.
async fn through_a_client(error: impl Fn() -> Rejected + Send + Sync + 'static) -> Status {
    let error = Arc::new(error);
    let channel = tower::service_fn(move |_: http::Request<Body>| {
        let error = error.clone();
        async move { Err::<http::Response<Body>, Rejected>(error()) }
    });
    ask(&mut RateLimitServiceClient::new(channel)).await.unwrap_err()
}

#[tokio::test]
async fn every_error_arrives_as_its_status() {
    type Make = fn() -> Rejected;
    let open = || Error::circuit_open("b".into(), State::Open, Some(MS(1_500)));
    let limited = || Error::rate_limited("per user".into(), Some(MS(2_000)));
    let unavailable = || Error::unavailable("no route".into());
    let cases: [(Make, Code, RejectionKind, Option<i32>); 7] = [
        (open, Code::Unavailable, RejectionKind::CircuitOpen, Some(1_500)),
        (limited, Code::ResourceExhausted, RejectionKind::RateLimited, Some(2_000)),
        (
            || Error::rate_limited("x".into(), None),
            Code::ResourceExhausted,
            RejectionKind::RateLimited,
            Some(-1),
        ),
        (|| Error::limit_exceeded(3), Code::ResourceExhausted, RejectionKind::LimitExceeded, None),
        (|| Error::throttled(0.5), Code::Unavailable, RejectionKind::Throttled, None),
        (|| Error::deadline_exceeded(true), Code::DeadlineExceeded, RejectionKind::DeadlineExceeded, None),
        (unavailable, Code::Unavailable, RejectionKind::Unavailable, None),
    ];
    for (make, code, kind, pushback) in cases {
        let status = through_a_client(make).await;
        assert_eq!((status.code(), rejection(&status).unwrap().kind), (code, kind));
        assert_eq!(status.message(), make().to_string());
        let told = status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
        assert_eq!(told, pushback.map(|millis| millis.to_string()).as_deref(), "{status:?}");
        let info = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(info, make().retry_after());
        assert_eq!(retry_after(&status), make().retry_after());
        assert_eq!(is_circuit_open(&status), kind == RejectionKind::CircuitOpen);
        assert_eq!(status.get_details_quota_failure().is_some(), kind == RejectionKind::RateLimited);
        assert_eq!(Status::from(make()).code(), code);
    }
    let quota = through_a_client(limited).await.get_details_quota_failure().unwrap();
    assert_eq!(quota.violations[0].subject, "per user");
}

#[tokio::test]
async fn the_calls_own_error_keeps_its_status() {
    let status = Status::from(Error::Inner(Status::not_found("gone")));
    assert_eq!((status.code(), status.message()), (Code::NotFound, "gone"));
    assert!(rejection(&status).is_none());
    let lost = through_a_client(|| Error::Inner(io::Error::other("lost"))).await;
    assert_eq!(lost.code(), Code::Unknown);
}

#[tokio::test]
async fn a_status_of_the_server_is_never_taken_for_a_rejection_of_ours() {
    let target = Target::new(|_| {
        let open = Error::<io::Error>::circuit_open("theirs".into(), State::Open, Some(MS(40)));
        Answer::Err(Status::from(open))
    });
    let mut client = RateLimitServiceClient::new(target.channel().await);
    let status = ask(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(rejection(&status).is_none() && !is_circuit_open(&status));
    assert_eq!(retry_after(&status), Some(MS(40)), "but its advice is read");
}

#[tokio::test]
async fn an_open_breaker_answers_without_the_server() {
    let target = Target::new(|_| Answer::Err(Status::unavailable("down")));
    let breaker = breaker(3);
    let layer = CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default());
    let mut client =
        RateLimitServiceClient::new(ServiceBuilder::new().layer(layer).service(target.channel().await));
    for _ in 0..3 {
        let status = ask(&mut client).await.unwrap_err();
        assert_eq!((status.message(), is_circuit_open(&status)), ("down", false));
    }
    let status = ask(&mut client.clone()).await.unwrap_err();
    assert!(is_circuit_open(&status), "{status:?}");
    assert!(retry_after(&status).unwrap() > MS(59_000));
    assert_eq!((target.calls(), breaker.state()), (3, State::Open));
}

#[tokio::test]
async fn a_time_out_of_the_channel_is_a_failure_though_it_is_cancelled() {
    let target = Target::new(|_| Answer::Hold);
    let channel = endpoint(target.serve().await).timeout(MS(30)).connect_lazy();
    let breaker = breaker(2);
    let layer = CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default());
    let mut client = RateLimitServiceClient::new(ServiceBuilder::new().layer(layer).service(channel));
    for _ in 0..2 {
        assert_eq!(ask(&mut client).await.unwrap_err().code(), Code::Cancelled);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_caller_in_a_hurry_does_not_trip_the_breaker() {
    let target = Target::new(|_| Answer::Hold);
    let breaker = breaker(2);
    let layer = CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default());
    let mut client =
        RateLimitServiceClient::new(ServiceBuilder::new().layer(layer).service(target.channel().await));
    let mut within = async |timeout| {
        let mut request = tonic::Request::new(RateLimitRequest::default());
        request.set_timeout(timeout);
        client.should_rate_limit(request).await.unwrap_err();
        breaker.metrics().calls
    };
    for _ in 0..5 {
        assert_eq!(within(MS(3)).await, 0);
    }
    assert_eq!(within(MS(30)).await, 1);
}

#[tokio::test]
async fn a_refused_connection_is_a_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let breaker = breaker(2);
    let layer = CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default());
    let channel = ServiceBuilder::new().layer(layer).service(endpoint(address).connect_lazy());
    let mut client = RateLimitServiceClient::new(channel);
    for _ in 0..2 {
        assert_eq!(ask(&mut client).await.unwrap_err().code(), Code::Unavailable);
    }
    assert!(is_circuit_open(&ask(&mut client).await.unwrap_err()));
}

#[tokio::test]
async fn timely_refusals_are_successes() {
    let target = Target::new(|_| Answer::Err(Status::not_found("no such")));
    let breaker = breaker(1);
    let layer = CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default());
    let mut client =
        RateLimitServiceClient::new(ServiceBuilder::new().layer(layer).service(target.channel().await));
    for _ in 0..5 {
        assert_eq!(ask(&mut client).await.unwrap_err().code(), Code::NotFound);
    }
    let metrics = breaker.metrics();
    assert_eq!((metrics.calls, metrics.failures, metrics.state), (5, 0, State::Closed));
}

#[tokio::test]
async fn a_stream_is_judged_at_its_end_by_its_trailers() {
    let target = Target::new(|call| match call {
        0 => Answer::Messages(2, None),
        1 => Answer::Messages(2, Some(Status::internal("half way"))),
        _ => Answer::Ok,
    });
    let breaker = breaker(1);
    let layer = CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default());
    let mut client =
        RateLimiterClient::new(ServiceBuilder::new().layer(layer).service(target.channel().await));
    let mut good = client.check_stream(tokio_stream::empty()).await.unwrap().into_inner();
    assert_eq!(breaker.metrics().calls, 0, "not over yet");
    while good.message().await.unwrap().is_some() {}
    assert_eq!((breaker.metrics().calls, breaker.metrics().failures), (1, 0));
    let mut bad = client.check_stream(tokio_stream::empty()).await.unwrap().into_inner();
    assert!(bad.message().await.unwrap().is_some());
    assert_eq!(breaker.state(), State::Closed);
    assert!(bad.message().await.unwrap().is_some());
    assert_eq!(bad.message().await.unwrap_err().code(), Code::Internal);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_stream_that_is_dropped_early_is_ignored_and_gives_its_place_back() {
    let target = Target::new(|_| Answer::Ok);
    let (breaker, limit) = (breaker(1), ConcurrencyLimiter::fixed(1).build().unwrap());
    let channel = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default()))
        .layer(ConcurrencyLimitLayer::new(limit.clone(), GrpcClassifier::default()))
        .service(target.channel().await);
    let mut client = RateLimiterClient::new(channel);
    let mut stream = client.check_stream(tokio_stream::empty()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert_eq!(limit.in_flight(), 1, "held until the end of the body");
    let status = client.check_stream(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(rejection(&status).unwrap().kind, RejectionKind::LimitExceeded);
    drop(stream);
    assert_eq!((limit.in_flight(), breaker.metrics().calls, breaker.state()), (0, 0, State::Closed));
}

#[tokio::test]
async fn a_place_can_be_held_until_the_head_only() {
    let target = Target::new(|_| Answer::Ok);
    let limit = ConcurrencyLimiter::fixed(1).build().unwrap();
    let layer = ConcurrencyLimitLayer::new(limit.clone(), GrpcClassifier::default()).until(Until::Head);
    let mut client =
        RateLimiterClient::new(ServiceBuilder::new().layer(layer).service(target.channel().await));
    let _stream = client.check_stream(tokio_stream::empty()).await.unwrap();
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cancelled_calls_leave_nothing_behind() {
    let target = Target::new(|_| Answer::Hold);
    let (breaker, limit) = (breaker(1), ConcurrencyLimiter::fixed(2_000).build().unwrap());
    let channel = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(limit.clone(), GrpcClassifier::default()))
        .layer(CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default()))
        .service(target.channel().await);
    let client = RateLimitServiceClient::new(channel);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let mut client = client.clone();
        tasks.spawn(async move { ask(&mut client).await });
    }
    // h2's default of concurrent streams lets a part of them arrive
    until(|| limit.in_flight() == 1_000 && target.held() > 0).await;
    tasks.shutdown().await;
    assert_eq!(limit.in_flight(), 0);
    let metrics = breaker.metrics();
    assert_eq!((metrics.calls, metrics.state), (0, State::Closed));
    until(|| target.held() == 0).await;
}

#[tokio::test]
async fn a_probe_that_the_server_throttles_has_failed() {
    let target = Target::new(|call| match call {
        0 => Answer::Err(Status::unavailable("down")),
        _ => Answer::Err(Status::resource_exhausted("too much")),
    });
    let (wait, clock) = (Wait::constant(MS(100)), tollgate_client::testing::ManualClock::new());
    let breaker = CircuitBreaker::builder("b")
        .consecutive_failures(1)
        .wait_in_open(wait)
        .permitted_calls_in_half_open(1)
        .clock(clock.clone())
        .build()
        .unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default());
    let mut client =
        RateLimitServiceClient::new(ServiceBuilder::new().layer(layer).service(target.channel().await));
    ask(&mut client).await.unwrap_err();
    clock.advance(MS(100));
    assert_eq!(ask(&mut client).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!((breaker.state(), target.calls()), (State::Open, 2));
}
