//! Defects that a user would meet, each with the least that shows it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use tollgate_client::breaker::Transition;
use tollgate_client::hint::Hint;
use tollgate_client::layer::GateLayer;
use tollgate_client::pipeline::{Order, Step};
use tollgate_client::{
    CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimiter, Deadline, Error, GrpcClassifier, HttpClassifier,
    LoadShed, Outcome, Pipeline, Retry, RetryBudget, State,
};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};

type Request = http::Request<Body>;
type Response = http::Response<Empty<Bytes>>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn details_that_cannot_be_read_are_no_advice_and_no_panic() {
    let odd = headers(&[
        ("grpc-status", "14"),
        ("grpc-status-details-bin", "no base64!"),
        ("grpc-message", "%ff%fe"),
        ("retry-after", "2"),
    ]);
    assert_eq!(Hint::of_headers(&odd).after, Some(Duration::from_secs(2)));
    let verdict = HttpClassifier.head(StatusCode::SERVICE_UNAVAILABLE, &odd);
    assert_eq!(verdict.hint.after, Some(Duration::from_secs(2)));
    let unpadded = headers(&[("grpc-status", "8"), ("grpc-status-details-bin", "CAg")]);
    assert!(Hint::of_headers(&unpadded).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_gate_waits_for_a_call_is_no_latency() {
    let breaker = CircuitBreaker::builder("b").slow_call(ms(100), 0.5).build().unwrap();
    let inner = tower::service_fn(async |_: Request| Ok::<_, io::Error>(Response::default()));
    let mut gate = GateLayer::new(breaker.clone(), HttpClassifier).layer(inner);
    ServiceExt::<Request>::ready(&mut gate).await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    drop(gate.call(Request::default()).await.unwrap());
    let metrics = breaker.metrics();
    assert_eq!((metrics.calls, metrics.slow), (1, 0));
}

#[test]
fn a_listener_that_panics_once_is_told_again() {
    let heard = Arc::new(AtomicU32::new(0));
    let count = heard.clone();
    let breaker = CircuitBreaker::builder("b")
        .listener(move |_: &Transition| {
            assert!(count.fetch_add(1, Ordering::SeqCst) > 0, "the first time");
        })
        .build()
        .unwrap();
    let state = breaker.subscribe();
    let order = breaker.clone();
    std::thread::spawn(move || order.force_open("test", None)).join().unwrap_err();
    breaker.reset("test");
    assert_eq!((heard.load(Ordering::SeqCst), *state.borrow()), (2, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_until_its_callers_give_up_is_slow() {
    let breaker = CircuitBreaker::builder("b").slow_call(ms(100), 0.5).minimum_calls(4).build().unwrap();
    let hang = std::future::pending::<Result<Response, io::Error>>;
    let layer = CircuitBreakerLayer::new(breaker.clone(), HttpClassifier);
    let pipeline = Pipeline::builder("p").breaker(breaker.clone()).build().unwrap();
    for wait in [ms(50), ms(101)] {
        tokio::time::timeout(wait, breaker.call(hang())).await.unwrap_err();
        tokio::time::timeout(wait, pipeline.call(hang)).await.unwrap_err();
        let service = layer.layer(tower::service_fn(move |_: Request| hang()));
        tokio::time::timeout(wait, service.oneshot(Request::default())).await.unwrap_err();
    }
    let permit = breaker.try_acquire().unwrap();
    tokio::time::advance(ms(500)).await;
    drop(permit);
    let metrics = breaker.metrics();
    assert_eq!((metrics.calls, metrics.slow, metrics.state), (3, 3, State::Closed));
    tokio::time::timeout(ms(101), breaker.call(hang())).await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn calls_whose_head_is_there_do_not_hang() {
    let breaker =
        CircuitBreaker::builder("b").slow_call(ms(100), 0.5).minimum_calls(5).overdue().build().unwrap();
    let mut streams: Vec<_> = (0..10).map(|_| breaker.try_acquire().unwrap()).collect();
    tokio::time::advance(ms(10)).await;
    streams.iter_mut().for_each(tollgate_client::breaker::Permit::head);
    tokio::time::advance(Duration::from_secs(60)).await;
    breaker.try_acquire().unwrap().success();
    let metrics = breaker.metrics();
    assert_eq!((breaker.state(), metrics.overdue, metrics.slow), (State::Closed, 0, 0));
    streams.into_iter().for_each(tollgate_client::breaker::Permit::success);
    let metrics = breaker.metrics();
    assert_eq!((metrics.calls, metrics.overdue, metrics.slow), (11, 0, 0));
    let hung: Vec<_> = (0..20).map(|_| breaker.try_acquire().unwrap()).collect();
    tokio::time::advance(ms(200)).await;
    assert_eq!(breaker.metrics().overdue, 20);
    drop(hung);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_spent_its_time_in_the_queue_does_not_blame_the_target() {
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let limit = ConcurrencyLimiter::fixed(1).build().unwrap();
    let held = limit.try_acquire().unwrap();
    let pipeline = Pipeline::builder("p")
        .concurrency_within(limit, Duration::from_secs(1))
        .breaker(breaker.clone())
        .build()
        .unwrap();
    let classifier = GrpcClassifier::default();
    let hang = |_| std::future::pending::<Result<tonic::Response<()>, tonic::Status>>();
    let call = Deadline::within(ms(100)).scope(pipeline.call_with(&classifier, hang));
    let free = async {
        tokio::time::sleep(ms(97)).await;
        drop(held);
    };
    let (result, ()) = tokio::join!(call, free);
    assert!(matches!(result, Err(Error::DeadlineExceeded { total: true, .. })), "{result:?}");
    assert_eq!(breaker.metrics().failures, 0, "it had 3 ms");
}

#[tokio::test(start_paused = true)]
async fn a_hurried_caller_does_not_trip_a_breaker_around_all_attempts() {
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let order = Order::custom([Step::RateLimit, Step::Breaker], [Step::Throttle, Step::Concurrency]);
    let pipeline = Pipeline::builder("p").breaker(breaker.clone()).order(order).build().unwrap();
    let classifier = GrpcClassifier::default();
    let hang = |_| std::future::pending::<Result<tonic::Response<()>, tonic::Status>>();
    Deadline::within(ms(3)).scope(pipeline.call_with(&classifier, hang)).await.unwrap_err();
    assert_eq!(breaker.metrics().calls, 0);
}

fn answers(status: u16) -> Response {
    http::Response::builder().status(status).body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_again_costs_no_retry() {
    let budget = RetryBudget::percent(0).min_per_second(1).build().unwrap();
    let retry = Retry::exponential(ms(1)).budget(budget.clone());
    let pipeline = Pipeline::builder("p").retry(retry).build().unwrap();
    let inner = tower::service_fn(async |request: Request| {
        request.into_body().collect().await.unwrap();
        Ok::<_, io::Error>(answers(503))
    });
    let before = budget.available();
    let request = Request::new(Body::new(Full::from("longer than three bytes")));
    pipeline.layer(HttpClassifier).keep_body(3).layer(inner).oneshot(request).await.unwrap();
    assert_eq!(budget.available(), before);
}

async fn status_after(code: u16, took: Duration) -> io::Result<Response> {
    tokio::time::sleep(took).await;
    let mut response = answers(200);
    response.headers_mut().insert("grpc-status", code.into());
    Ok(response)
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_target_ends_on_our_behalf_is_tried_again() {
    // a server that keeps 5 ms of `grpc-timeout` for the way back answers before our own timer ends
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let inner = tower::service_fn(move |request: Request| {
        let given = Deadline::of_headers(request.headers()).unwrap().remaining();
        let (code, took) = [(4, given), (0, ms(1))][usize::from(count.fetch_add(1, Ordering::SeqCst) > 0)];
        status_after(code, took)
    });
    let pipeline = Pipeline::builder("p")
        .deadline(Duration::from_secs(2))
        .attempt_timeout(ms(100))
        .retry(Retry::exponential(ms(1)))
        .build()
        .unwrap();
    let response =
        pipeline.layer(GrpcClassifier::default()).layer(inner).oneshot(Request::default()).await.unwrap();
    assert_eq!((response.headers()["grpc-status"].as_bytes(), calls.load(Ordering::SeqCst)), (&b"0"[..], 2));
}

/// One call of `class` that takes 10 ms; whether it was served.
async fn serve(shed: LoadShed, class: &'static str) -> bool {
    let Ok(slot) = shed.admit(&headers(&[("x-criticality", class)])).await else { return false };
    tokio::time::sleep(ms(10)).await;
    slot.record(Outcome::Success);
    true
}

#[tokio::test(start_paused = true)]
async fn equal_calls_are_not_shed_all_at_once() {
    // in each 10 ms 20 calls for 10 places
    let limit = ConcurrencyLimiter::fixed(10).queue(1_000).build().unwrap();
    let shed = LoadShed::builder(limit).overloaded_above(ms(1)).build().unwrap();
    let mut served = [0; 20];
    for round in 0..2_000 {
        let calls = futures_util::future::join_all((0..20).map(|_| serve(shed.clone(), "critical")));
        let (calls, ()) = tokio::join!(calls, tokio::time::sleep(ms(10)));
        served[round / 100] += calls.into_iter().filter(|served| *served).count();
    }
    assert!(served.iter().all(|count| *count > 500), "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn overload_that_the_queue_hides_still_lowers_the_level() {
    // places for one call per millisecond, and five come; a short queue turns most away without any wait
    let limit = ConcurrencyLimiter::fixed(10).queue(5).codel(ms(5), ms(100)).build().unwrap();
    let shed = LoadShed::builder(limit).build().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        for class in ["critical", "critical", "sheddable", "sheddable", "sheddable"] {
            calls.spawn(serve(shed.clone(), class));
        }
        tokio::time::sleep(ms(1)).await;
    }
    calls.join_all().await;
    assert!(shed.admitted_levels() < 384, "sheddable calls pass: {}", shed.admitted_levels());
}

#[tokio::test(start_paused = true)]
async fn those_who_gave_up_leave_the_queue_to_those_who_wait() {
    let limit = ConcurrencyLimiter::fixed(1).queue(2).build().unwrap();
    let held = limit.try_acquire().unwrap();
    let within = |wait| Pipeline::builder("p").concurrency_within(limit.clone(), wait).build().unwrap();
    let hurried = within(ms(10));
    for _ in 0..10 {
        hurried.call(|| async { Ok::<_, io::Error>(()) }).await.unwrap_err();
    }
    let free = async {
        tokio::time::sleep(ms(100)).await;
        drop(held);
    };
    let patient = within(Duration::from_secs(1));
    let (result, ()) = tokio::join!(patient.call(|| async { Ok::<_, io::Error>(()) }), free);
    assert!(result.is_ok(), "{result:?}");
}

/// A server that resets every stream; how many there were.
async fn resetting(reason: h2::Reason) -> (String, Arc<AtomicU32>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, calls) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let count = calls.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            respond.send_reset(reason);
        }
    });
    (format!("http://{address}"), calls)
}

#[tokio::test]
async fn a_stream_that_was_refused_is_sent_again_and_one_that_broke_is_not() {
    for (reason, calls, failures) in [
        (h2::Reason::REFUSED_STREAM, 3, 3),
        (h2::Reason::INTERNAL_ERROR, 1, 1),
        (h2::Reason::CANCEL, 1, 0),
        (h2::Reason::ENHANCE_YOUR_CALM, 1, 0),
    ] {
        let (address, sent) = resetting(reason).await;
        let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect_lazy();
        let breaker = CircuitBreaker::builder("b").build().unwrap();
        let retry = Retry::exponential(ms(1));
        let pipeline = Pipeline::builder("p").retry(retry).breaker(breaker.clone()).build().unwrap();
        let call = pipeline.layer(GrpcClassifier::default()).layer(channel).oneshot(Request::default());
        call.await.unwrap_err();
        let seen = (sent.load(Ordering::SeqCst), breaker.metrics().failures);
        assert_eq!(seen, (calls, failures), "{reason:?}");
    }
}
