//! What tower asks of a service, and what this crate promises beyond it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::poll;
use http_body_util::Full;
use tollgate_client::breaker::Wait;
use tollgate_client::classify::{HttpClassifier, Outcome, classify_fn};
use tollgate_client::layer::GateLayer;
use tollgate_client::testing::ManualClock;
use tollgate_client::{
    AdaptiveThrottler, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, ConcurrencyLimiter, Error,
    Pipeline, Retry, State, ThrottleLayer,
};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};

type Request = http::Request<Body>;
type Response = http::Response<Full<Bytes>>;

/// Refuses to be called without having been polled ready itself: a clone has not been.
#[derive(Debug)]
struct Strict {
    ready: bool,
    counts: Arc<Counts>,
    status: u16,
}

#[derive(Debug, Default)]
struct Counts {
    polled: AtomicU32,
    called: AtomicU32,
}

impl Strict {
    fn new(status: u16) -> Strict {
        Strict { ready: false, counts: Arc::default(), status }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Strict {
        Strict { ready: false, counts: self.counts.clone(), status: self.status }
    }
}

impl Service<Request> for Strict {
    type Response = Response;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.ready = true;
        self.counts.polled.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        self.counts.called.fetch_add(1, Ordering::SeqCst);
        let response = http::Response::builder().status(self.status).body(Full::default());
        std::future::ready(Ok(response.unwrap()))
    }
}

fn request() -> Request {
    http::Request::new(Body::empty())
}

fn breaker(failures: u32, clock: &ManualClock) -> CircuitBreaker {
    let wait = Wait::constant(Duration::from_secs(1));
    CircuitBreaker::builder("b")
        .consecutive_failures(failures)
        .wait_in_open(wait)
        .permitted_calls_in_half_open(1)
        .clock(clock.clone())
        .build()
        .unwrap()
}

#[tokio::test]
async fn each_layer_calls_the_service_that_was_polled_ready() {
    let clock = ManualClock::new();
    let inner = Strict::new(200);
    let retry = Pipeline::builder("p").retry(Retry::exponential(Duration::from_millis(1))).build().unwrap();
    let limit = ConcurrencyLimiter::fixed(9).build().unwrap();
    let throttle = AdaptiveThrottler::builder().build().unwrap();
    let layered = CircuitBreakerLayer::new(breaker(9, &clock), HttpClassifier).layer(inner.clone());
    layered.oneshot(request()).await.unwrap();
    ConcurrencyLimitLayer::new(limit, HttpClassifier).layer(inner.clone()).oneshot(request()).await.unwrap();
    ThrottleLayer::new(throttle, HttpClassifier).layer(inner.clone()).oneshot(request()).await.unwrap();
    GateLayer::new(breaker(9, &clock), HttpClassifier).layer(inner.clone()).oneshot(request()).await.unwrap();
    retry.layer(HttpClassifier).layer(inner.clone()).oneshot(request()).await.unwrap();
    assert_eq!(inner.counts.called.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn each_attempt_polls_ready_again() {
    let inner = Strict::new(503);
    let pipeline =
        Pipeline::builder("p").retry(Retry::exponential(Duration::from_millis(1))).build().unwrap();
    let response = pipeline.layer(HttpClassifier).layer(inner.clone()).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), 503, "the last attempt's answer");
    assert_eq!(inner.counts.called.load(Ordering::SeqCst), 3);
    assert!(inner.counts.polled.load(Ordering::SeqCst) >= 3);
}

#[tokio::test]
async fn a_rejection_is_an_error_of_the_call_and_leaves_the_service_ready() {
    let (clock, inner) = (ManualClock::new(), Strict::new(200));
    let breaker = breaker(1, &clock);
    let mut service = CircuitBreakerLayer::new(breaker.clone(), HttpClassifier).layer(inner.clone());
    breaker.try_acquire().unwrap().failure();
    let rejected = service.ready().await.unwrap().call(request()).await.unwrap_err();
    assert!(matches!(rejected, Error::CircuitOpen { .. }), "{rejected:?}");
    let polled = inner.counts.polled.load(Ordering::SeqCst);
    clock.advance(Duration::from_secs(1));
    // no second poll: the readiness of before has not been used
    let response = service.call(request()).await.unwrap();
    assert_eq!(inner.counts.polled.load(Ordering::SeqCst), polled);
    assert_eq!(breaker.state(), State::HalfOpen, "until the body is read or dropped");
    drop(response);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn clones_share_one_state() {
    let (clock, inner) = (ManualClock::new(), Strict::new(500));
    let service = CircuitBreakerLayer::new(breaker(3, &clock), HttpClassifier).layer(inner.clone());
    for _ in 0..3 {
        assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 500);
    }
    assert!(service.oneshot(request()).await.is_err());
    assert_eq!(inner.counts.called.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_not_ready_while_its_breaker_is_open() {
    let inner = Strict::new(200);
    let wait = Wait::constant(Duration::from_secs(1));
    let breaker = CircuitBreaker::builder("b")
        .consecutive_failures(1)
        .wait_in_open(wait)
        .permitted_calls_in_half_open(1)
        .build()
        .unwrap();
    let mut gate = GateLayer::new(breaker.clone(), HttpClassifier).layer(inner);
    breaker.try_acquire().unwrap().failure();
    assert!(poll!(Box::pin(ServiceExt::<Request>::ready(&mut gate))).is_pending());
    let start = tokio::time::Instant::now();
    let response = gate.ready().await.unwrap().call(request()).await.unwrap();
    // timers have a granularity of a millisecond
    assert_eq!(start.elapsed().as_millis() / 10, 100, "woken when the wait is over");
    drop(response);
    assert_eq!(breaker.state(), State::Closed, "the call was the probe");
    breaker.force_open("test", None);
    let mut waiting = Box::pin(ServiceExt::<Request>::ready(&mut gate));
    assert!(poll!(waiting.as_mut()).is_pending());
    breaker.reset("test");
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_ready_gate_gives_its_probe_back_when_it_is_dropped() {
    let clock = ManualClock::new();
    let breaker = breaker(1, &clock);
    breaker.try_acquire().unwrap().failure();
    clock.advance(Duration::from_secs(1));
    let mut gate = GateLayer::new(breaker.clone(), HttpClassifier).layer(Strict::new(200));
    ServiceExt::<Request>::ready(&mut gate).await.unwrap();
    assert!(breaker.try_acquire().is_err(), "the gate has the only probe");
    drop(gate);
    assert!(breaker.try_acquire().is_ok());
}

/// Never answers, and counts those that wait.
#[derive(Clone, Debug, Default)]
struct Stuck(Arc<()>);

impl<R> Service<R> for Stuck {
    type Response = u8;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<u8, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self::Future {
        let waiting = self.0.clone();
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(waiting);
            Ok(0)
        })
    }
}

#[tokio::test]
async fn dropped_futures_give_everything_back() {
    let clock = ManualClock::new();
    let breaker = breaker(1, &clock);
    let limit = ConcurrencyLimiter::fixed(1).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    clock.advance(Duration::from_secs(1));
    let classifier = classify_fn(|result: Result<&u8, &Error<io::Error>>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    });
    let inner = classify_fn(|result: Result<&u8, &io::Error>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    });
    let stuck = Stuck::default();
    let limited = ConcurrencyLimitLayer::new(limit.clone(), inner).layer(stuck.clone());
    let service = CircuitBreakerLayer::new(breaker.clone(), classifier).layer(limited);
    for _ in 0..1_000 {
        let mut call = Box::pin(service.clone().oneshot(1_u8));
        assert!(poll!(call.as_mut()).is_pending());
        assert_eq!((limit.in_flight(), breaker.state()), (1, State::HalfOpen));
        assert!(breaker.try_acquire().is_err(), "the only probe");
        drop(call);
    }
    assert_eq!((limit.in_flight(), breaker.state(), Arc::strong_count(&stuck.0)), (0, State::HalfOpen, 2));
}
