//! Calls whose answers take their time: probes, deadlines and errors of bodies.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tollgate_client::breaker::Wait;
use tollgate_client::layer::body::GuardedBody;
use tollgate_client::layer::watch::Watch;
use tollgate_client::{
    AdaptiveThrottler, BoxError, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimiter, Criticality,
    Deadline, DeadlineLayer, DeadlineUntil, GrpcClassifier, HttpClassifier, LoadShed, LoadShedLayer,
    Pipeline, RejectionKind, State, ThrottleLayer, Until, rejection,
};
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, ServiceExt};

type Request = http::Request<Body>;
type Item = Result<Frame<Bytes>, io::Error>;
type Streamed = StreamBody<ReceiverStream<Item>>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A service whose answers end when the test says so.
#[derive(Clone, Default)]
struct Target(Arc<Mutex<Vec<Asked>>>);

/// The headers of a request, and where its answer's body comes from.
type Asked = (HeaderMap, Sender<Item>);

impl Target {
    fn answer(&self, request: &Request) -> http::Response<Streamed> {
        let (sender, receiver) = channel(8);
        self.0.lock().unwrap().push((request.headers().clone(), sender));
        http::Response::new(StreamBody::new(ReceiverStream::new(receiver)))
    }

    fn service(
        &self,
    ) -> impl tower::Service<Request, Response = http::Response<Streamed>, Error = io::Error, Future: Send>
    + Clone
    + Send
    + 'static {
        let target = self.clone();
        tower::service_fn(move |request: Request| {
            let response = target.answer(&request);
            async move { Ok(response) }
        })
    }

    async fn send(&self, number: usize, item: Item) {
        let sender = self.0.lock().unwrap()[number].1.clone();
        sender.send(item).await.unwrap();
    }

    /// Ends a body with a gRPC status.
    async fn end(&self, number: usize, code: &'static str) {
        let trailers = [("grpc-status".parse().unwrap(), code.parse().unwrap())].into_iter().collect();
        self.send(number, Ok(Frame::trailers(trailers))).await;
    }

    fn headers(&self, number: usize) -> HeaderMap {
        self.0.lock().unwrap()[number].0.clone()
    }
}

/// A breaker that has opened and waits for two probes.
async fn probing(name: &'static str) -> CircuitBreaker {
    let breaker = CircuitBreaker::builder(name)
        .consecutive_failures(1)
        .permitted_calls_in_half_open(2)
        .wait_in_open(Wait::constant(ms(10)))
        .build()
        .unwrap();
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.state(), State::Open);
    tokio::time::advance(ms(10)).await;
    breaker
}

/// Reads until there is nothing to read for the moment.
async fn read<B: http_body::Body + Unpin>(body: &mut B) {
    while tokio::time::timeout(ms(1), body.frame()).await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn streams_that_live_on_close_a_breaker() {
    let (breaker, target) = (probing("streams").await, Target::default());
    let service =
        CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default()).layer(target.service());
    let mut first = service.clone().oneshot(Request::default()).await.unwrap();
    let mut second = service.clone().oneshot(Request::default()).await.unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    read(first.body_mut()).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    read(second.body_mut()).await;
    assert_eq!((breaker.state(), breaker.metrics().calls), (State::Closed, 0));
    // what goes wrong an hour later counts, once; a good end does not count again
    tokio::time::advance(Duration::from_secs(3_600)).await;
    target.end(0, "0").await;
    first.body_mut().frame().await.unwrap().unwrap();
    assert_eq!((breaker.state(), breaker.metrics().calls), (State::Closed, 0));
    target.end(1, "14").await;
    second.body_mut().frame().await.unwrap().unwrap();
    assert_eq!((breaker.state(), breaker.metrics().failures), (State::Open, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_while_others_still_probe_overrules_its_probe() {
    let (breaker, target) = (probing("overruled").await, Target::default());
    let service =
        CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default()).layer(target.service());
    let mut first = service.clone().oneshot(Request::default()).await.unwrap();
    read(first.body_mut()).await;
    assert_eq!(breaker.metrics().calls, 1);
    target.end(0, "14").await;
    first.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_at_once_is_judged_by_its_end() {
    let (breaker, target) = (probing("unary").await, Target::default());
    let service =
        CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default()).layer(target.service());
    let mut call = service.oneshot(Request::default()).await.unwrap();
    target.send(0, Ok(Frame::data(Bytes::from_static(b"message")))).await;
    target.end(0, "13").await;
    read(call.body_mut()).await;
    assert_eq!((breaker.state(), breaker.metrics().failures), (State::Open, 1));
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_reader_leaves_after_a_good_head_has_passed() {
    let (breaker, target) = (probing("left").await, Target::default());
    let service = CircuitBreakerLayer::new(breaker.clone(), HttpClassifier).layer(target.service());
    for _ in 0..2 {
        drop(service.clone().oneshot(Request::default()).await.unwrap());
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_ends_with_the_deadline() {
    let (breaker, target) = (CircuitBreaker::builder("b").build().unwrap(), Target::default());
    let pipeline = Pipeline::builder("p").deadline(ms(200)).breaker(breaker.clone()).build().unwrap();
    let service = pipeline.layer(GrpcClassifier::default()).layer(target.service());
    let start = tokio::time::Instant::now();
    let mut call = service.oneshot(Request::default()).await.unwrap();
    tokio::time::advance(ms(150)).await;
    target.send(0, Ok(Frame::data(Bytes::from_static(b"begin")))).await;
    assert!(call.body_mut().frame().await.unwrap().unwrap().is_data());
    let error: BoxError = call.body_mut().frame().await.unwrap().unwrap_err();
    assert!((ms(200)..=ms(202)).contains(&start.elapsed()), "{:?}", start.elapsed());
    let status = tonic::Status::from_error(error);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(rejection(&status).unwrap().kind, RejectionKind::DeadlineExceeded);
    assert_eq!((breaker.metrics().calls, breaker.metrics().failures), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_time_of_its_beginning() {
    let target = Target::default();
    let pipeline = Pipeline::builder("p").deadline(ms(500)).attempt_timeout(ms(100)).build().unwrap();
    let layer = pipeline.layer(GrpcClassifier::default());
    let streams = layer.clone().deadline_until(Until::Head).layer(target.service());
    let mut marked = Request::default();
    marked.extensions_mut().insert(DeadlineUntil(Until::Head));
    let calls = [
        streams.clone().oneshot(Request::default()).await.unwrap(),
        layer.layer(target.service()).oneshot(marked).await.unwrap(),
    ];
    for (number, mut call) in calls.into_iter().enumerate() {
        assert!(!target.headers(number).contains_key("grpc-timeout"));
        assert!(tokio::time::timeout(Duration::from_secs(60), call.body_mut().frame()).await.is_err());
        target.send(number, Ok(Frame::data(Bytes::from_static(b"late")))).await;
        assert!(call.body_mut().frame().await.unwrap().unwrap().is_data());
    }
    let mut back = Request::default();
    back.extensions_mut().insert(DeadlineUntil(Until::Body));
    let mut call = streams.oneshot(back).await.unwrap();
    assert!(target.headers(2).contains_key("grpc-timeout"));
    call.body_mut().frame().await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_throttle_turns_the_least_critical_away_first() {
    let throttler = AdaptiveThrottler::builder().min_per_second(0).seed(1).build().unwrap();
    let mut accepted = 0;
    for offered in 1..=20_000 {
        // the target has room for two of five
        if let Ok(sent) = throttler.try_send(Criticality::Critical) {
            let room = accepted * 5 < offered * 2;
            accepted += i32::from(room);
            sent.record(room);
        }
    }
    let share = |class| f64::from(throttler.probability(class));
    let (critical, sheddable) = (share(Criticality::Critical), share(Criticality::Sheddable));
    assert!(sheddable > critical + 0.1, "{sheddable} and {critical}");
    let target = Target::default();
    let service = ThrottleLayer::new(throttler, GrpcClassifier::default()).layer(target.service());
    let mut rejected = [0_u32; 2];
    for (count, class) in rejected.iter_mut().zip(["critical", "sheddable"]) {
        for _ in 0..500 {
            let mut request = Request::default();
            request.headers_mut().insert("x-criticality", class.parse().unwrap());
            *count += u32::from(service.clone().oneshot(request).await.is_err());
        }
    }
    assert!(rejected[1] > rejected[0] + 25, "{rejected:?}");
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_place_is_part_of_the_callers_time() {
    let limit = ConcurrencyLimiter::fixed(1).queue(10).build().unwrap();
    let shed = LoadShed::builder(limit.clone()).wait(ms(80)).build().unwrap();
    let left = Arc::new(Mutex::new(Duration::ZERO));
    let seen = left.clone();
    let handler = tower::service_fn(move |_: Request| {
        *seen.lock().unwrap() = Deadline::current().unwrap().remaining();
        std::future::ready(Ok::<_, io::Error>(http::Response::new(http_body_util::Empty::<Bytes>::new())))
    });
    let service = LoadShedLayer::new(shed).layer(DeadlineLayer::new().layer(handler));
    let held = limit.try_acquire().unwrap();
    let free = async {
        tokio::time::sleep(ms(60)).await;
        drop(held);
    };
    let mut request = Request::default();
    request.headers_mut().insert("grpc-timeout", "105m".parse().unwrap());
    let (served, ()) = tokio::join!(service.oneshot(request), free);
    served.unwrap();
    assert_eq!(*left.lock().unwrap(), ms(40), "105 ms, less 5 for the way back, less 60 in the queue");
}

/// A server that sends a head and a byte, and then resets the stream.
async fn breaking_off(reason: h2::Reason) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"x"), false).unwrap();
            tokio::spawn(async move {
                // the byte has been sent when there is room for another one
                body.reserve_capacity(1);
                let _room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                body.send_reset(reason);
            });
        }
    });
    format!("http://{address}")
}

async fn failures_of<C>(reason: h2::Reason, classifier: C) -> u64
where
    C: Watch<http::Response<Body>, tonic::transport::Error, Response = http::Response<GuardedBody<Body>>>,
{
    let channel = tonic::transport::Endpoint::from_shared(breaking_off(reason).await).unwrap().connect_lazy();
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let service = CircuitBreakerLayer::new(breaker.clone(), classifier).layer(channel);
    service.oneshot(Request::default()).await.unwrap().into_body().collect().await.unwrap_err();
    breaker.metrics().failures
}

#[tokio::test]
async fn a_body_that_was_cancelled_says_nothing_and_one_that_broke_is_a_failure() {
    for (reason, failures) in [(h2::Reason::CANCEL, 0), (h2::Reason::INTERNAL_ERROR, 1)] {
        let grpc = failures_of(reason, GrpcClassifier::default()).await;
        assert_eq!((grpc, failures_of(reason, HttpClassifier).await), (failures, failures), "{reason:?}");
    }
}
