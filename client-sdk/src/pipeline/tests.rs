use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::breaker::Wait;
use crate::classify::{Outcome, classify_fn};
use crate::error::RejectionKind;
use crate::retry::RetryBudget;
use crate::state::State;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Admits and counts; refuses above `limit`.
#[derive(Debug)]
struct Counting {
    limit: u32,
    asked: Arc<AtomicU32>,
}

impl RateGate for Counting {
    fn admit(&self, _: Option<Deadline>) -> BoxFuture<'_, Result<(), RateRefusal>> {
        let over = self.asked.fetch_add(1, Ordering::SeqCst) >= self.limit;
        let refusal = || RateRefusal::Limited { rule: "r".into(), retry_after: Some(ms(9)) };
        Box::pin(std::future::ready(if over { Err(refusal()) } else { Ok(()) }))
    }
}

fn breaker() -> CircuitBreaker {
    let wait = Wait::constant(Duration::from_secs(60));
    CircuitBreaker::builder("b").consecutive_failures(2).wait_in_open(wait).build().unwrap()
}

fn retry(attempts: u32) -> Retry {
    let budget = RetryBudget::percent(0).min_per_second(1_000).build().unwrap();
    Retry::exponential(ms(1)).max_attempts(attempts).budget(budget).build().unwrap()
}

#[test]
fn debug_prints_the_order_whatever_the_order_of_the_lines() {
    let asked = Arc::default();
    let pipeline = Pipeline::builder("pay")
        .attempt_timeout(ms(400))
        .breaker(breaker())
        .concurrency(ConcurrencyLimiter::fixed(3))
        .throttle(AdaptiveThrottler::builder())
        .retry(Retry::exponential(ms(50)))
        .rate_limit(Counting { limit: 1, asked })
        .deadline(Duration::from_secs(2))
        .build()
        .unwrap();
    let order =
        "pay: deadline 2s > rate limit > retry 3x > throttle > concurrency > breaker > attempt timeout 400ms";
    assert_eq!(format!("{pipeline:?}"), order);
}

#[tokio::test(start_paused = true)]
async fn the_order_is_what_it_says() {
    let asked = Arc::new(AtomicU32::new(0));
    let (breaker, limit) = (breaker(), ConcurrencyLimiter::fixed(1).build().unwrap());
    let pipeline = Pipeline::builder("p")
        .breaker(breaker.clone())
        .concurrency(limit.clone())
        .rate_limit(Counting { limit: 100, asked: asked.clone() })
        .attempt_timeout(ms(10))
        .retry(retry(2))
        .build()
        .unwrap();
    let calls = Cell::new(0);
    let hang = || {
        calls.set(calls.get() + 1);
        std::future::pending::<Result<(), ()>>()
    };
    // retry outside the attempt time-out, the rate limit outside the retry, the breaker sees both time-outs
    let error = pipeline.call(hang).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { total: false, .. }), "{error:?}");
    assert_eq!((calls.get(), asked.load(Ordering::SeqCst)), (2, 1));
    assert_eq!((breaker.state(), limit.in_flight()), (State::Open, 0));
    // the breaker inside the concurrency limit: it gives the place back at once
    let error = pipeline.call(hang).await.unwrap_err();
    assert!(matches!(error, Error::CircuitOpen { .. }), "{error:?}");
    assert_eq!((calls.get(), limit.in_flight()), (2, 0));
    // the concurrency limit outside the breaker: a full one is not counted by it
    let held = limit.try_acquire().unwrap();
    breaker.reset("test");
    let error = pipeline.call(hang).await.unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { limit: 1, .. }), "{error:?}");
    assert_eq!((breaker.metrics().calls, asked.load(Ordering::SeqCst)), (0, 3));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn the_total_deadline_cuts_an_attempt_which_still_counts() {
    let breaker = breaker();
    let pipeline =
        Pipeline::builder("p").deadline(ms(50)).breaker(breaker.clone()).retry(retry(5)).build().unwrap();
    let start = tokio::time::Instant::now();
    let error = pipeline.call(std::future::pending::<Result<(), ()>>).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { total: true, .. }), "{error:?}");
    assert_eq!((start.elapsed(), breaker.metrics().failures), (ms(50), 1));
}

#[tokio::test(start_paused = true)]
async fn a_hurried_caller_does_not_trip_the_breaker() {
    let breaker = breaker();
    let pipeline = Pipeline::builder("p").breaker(breaker.clone()).build().unwrap();
    let classifier = crate::GrpcClassifier::default();
    for _ in 0..20 {
        let hang = |_| std::future::pending::<Result<tonic::Response<()>, tonic::Status>>();
        let hurried = Deadline::within(ms(3)).scope(pipeline.call_with(&classifier, hang));
        assert!(matches!(hurried.await, Err(Error::DeadlineExceeded { total: true, .. })));
    }
    assert_eq!((breaker.state(), breaker.metrics().calls), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_sees_its_deadline_and_its_number() {
    let pipeline =
        Pipeline::builder("p").deadline(ms(500)).attempt_timeout(ms(100)).retry(retry(2)).build().unwrap();
    let seen = Mutex::new(Vec::new());
    let attempt = |attempt: Attempt| {
        let seen = &seen;
        async move {
            let left = Deadline::current().unwrap().remaining();
            seen.lock().unwrap().push((attempt.previous, left, attempt.deadline.unwrap().remaining()));
            Err::<(), _>("no")
        }
    };
    pipeline.call_with(&AnyError, attempt).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [(0, ms(100), ms(100)), (1, ms(100), ms(100))]);
}

#[tokio::test(start_paused = true)]
async fn an_order_for_experts_is_obeyed_and_checked() {
    let asked = Arc::new(AtomicU32::new(0));
    let build = |order| {
        let gate = Counting { limit: 100, asked: asked.clone() };
        let parts = Pipeline::builder("p").rate_limit(gate).retry(retry(3)).breaker(breaker());
        parts.order(order).build()
    };
    let every = build(Order::charge_retries()).unwrap();
    every.call(|| async { Err::<(), _>(()) }).await.unwrap_err();
    assert_eq!(asked.swap(0, Ordering::SeqCst), 3);
    let outside =
        build(Order::custom([Step::Breaker, Step::RateLimit], [Step::Throttle, Step::Concurrency])).unwrap();
    assert_eq!(format!("{outside:?}"), "p: breaker > rate limit > retry 3x");
    outside.call(|| async { Err::<(), _>(()) }).await.unwrap_err();
    let error = build(Order::custom([Step::Breaker], [Step::Breaker])).unwrap_err();
    assert_eq!(error.to_string(), "order must be every step once, not rate limit 0x");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_outside_the_retries_sees_one_outcome_per_call() {
    let breaker = breaker();
    let order = Order::custom([Step::RateLimit, Step::Breaker], [Step::Throttle, Step::Concurrency]);
    let pipeline =
        Pipeline::builder("p").breaker(breaker.clone()).retry(retry(3)).order(order).build().unwrap();
    pipeline.call(|| async { Err::<(), _>(()) }).await.unwrap_err();
    assert_eq!(breaker.metrics().failures, 1);
    pipeline.call(|| async { Ok::<_, ()>(()) }).await.unwrap();
    assert_eq!(breaker.metrics().calls, 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_awaited_only_within_the_deadline() {
    let wait = Wait::constant(ms(200));
    let breaker = CircuitBreaker::builder("b").consecutive_failures(1).wait_in_open(wait).build().unwrap();
    let within = |deadline| {
        Pipeline::builder("p").deadline(deadline).breaker(breaker.clone()).retry(retry(3)).build().unwrap()
    };
    breaker.try_acquire().unwrap().failure();
    let start = tokio::time::Instant::now();
    let error = within(ms(100)).call(|| async { Ok::<_, ()>(()) }).await.unwrap_err();
    assert!(matches!(error, Error::CircuitOpen { .. }) && start.elapsed().is_zero(), "{error:?}");
    within(ms(300)).call(|| async { Ok::<_, ()>(()) }).await.unwrap();
    assert!((ms(200)..ms(280)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_refused_rate_is_told_with_its_rule() {
    let gate = Counting { limit: 0, asked: Arc::default() };
    let pipeline = Pipeline::builder("p").rate_limit(gate).retry(retry(3)).build().unwrap();
    let error = pipeline.call(|| async { Ok::<_, ()>(()) }).await.unwrap_err();
    assert!(matches!(&error, Error::RateLimited { rule, .. } if &**rule == "r"), "{error:?}");
    assert_eq!(error.retry_after(), Some(ms(9)));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cancelled_calls_leave_nothing_behind() {
    let (breaker, limit) = (breaker(), ConcurrencyLimiter::fixed(5).build().unwrap());
    let pipeline = Pipeline::builder("p")
        .concurrency_within(limit.clone(), Duration::from_secs(1))
        .breaker(breaker.clone())
        .retry(retry(3))
        .build()
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1_000_u64 {
        let pipeline = pipeline.clone();
        tasks.spawn(async move {
            let call = pipeline.call(std::future::pending::<Result<(), ()>>);
            assert!(tokio::time::timeout(ms(number % 50), call).await.is_err());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let metrics = breaker.metrics();
    assert_eq!((limit.in_flight(), metrics.calls, metrics.state), (0, 0, State::Closed));
    pipeline.call(|| async { Ok::<_, ()>(()) }).await.unwrap();
}

#[test]
fn bad_parts_are_errors_of_the_pipeline() {
    let error =
        Pipeline::builder("p").breaker(CircuitBreaker::builder("b").minimum_calls(0)).build().unwrap_err();
    assert!(error.to_string().contains("minimum_calls"), "{error}");
    let error = Pipeline::builder("p").deadline(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.to_string(), "deadline must be above 0, not 0s");
}

#[tokio::test]
async fn a_classifier_decides_what_fails() {
    let breaker = breaker();
    let pipeline = Pipeline::builder("p").breaker(breaker.clone()).build().unwrap();
    let classifier = classify_fn(|result: Result<&u16, &()>| match result {
        Ok(500..) | Err(()) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    });
    for _ in 0..2 {
        pipeline.call_with(&classifier, |_| async { Ok(503) }).await.unwrap();
    }
    assert_eq!(breaker.state(), State::Open);
}

/// A throttler that turns away 999 of 1000 calls.
fn turned_away() -> AdaptiveThrottler {
    let throttle = AdaptiveThrottler::builder().min_per_second(0).max_rejection(1.0).seed(3).build().unwrap();
    let send = |_| throttle.try_send(Criticality::Critical).ok();
    (0..20_000).filter_map(send).for_each(|sent| sent.record(false));
    throttle
}

#[tokio::test(start_paused = true)]
async fn when_all_refuse_the_outermost_is_told() {
    let (breaker, limit) = (breaker(), ConcurrencyLimiter::fixed(1).build().unwrap());
    breaker.force_open("test", None);
    let _full = limit.try_acquire().unwrap();
    let parts = || Pipeline::builder("p").breaker(breaker.clone());
    let gate = |limit| Counting { limit, asked: Arc::default() };
    let full = || parts().concurrency(limit.clone());
    let pipelines = [
        (parts(), RejectionKind::CircuitOpen),
        (full(), RejectionKind::LimitExceeded),
        (full().throttle(turned_away()), RejectionKind::Throttled),
        (full().throttle(turned_away()).rate_limit(gate(0)), RejectionKind::RateLimited),
        (full().throttle(turned_away()).rate_limit(gate(9)), RejectionKind::Throttled),
    ];
    for (builder, kind) in pipelines {
        let error = builder.build().unwrap().call(|| async { Ok::<_, ()>(()) }).await.unwrap_err();
        assert_eq!(error.kind(), Some(kind), "{error:?}");
    }
    let error = full().rate_limit(gate(0)).build().unwrap();
    let error = Deadline::within(Duration::ZERO).scope(error.call(|| async { Ok::<_, ()>(()) })).await;
    assert_eq!(error.unwrap_err().kind(), Some(RejectionKind::DeadlineExceeded));
}

/// Never answers.
#[derive(Debug)]
struct Mute;

impl RateGate for Mute {
    fn admit(&self, _: Option<Deadline>) -> BoxFuture<'_, Result<(), RateRefusal>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_that_does_not_answer_ends_with_the_deadline() {
    let pipeline = Pipeline::builder("p").rate_limit(Mute).deadline(ms(30)).build().unwrap();
    let start = tokio::time::Instant::now();
    let error = pipeline.call(|| async { Ok::<_, ()>(()) }).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { total: true, .. }), "{error:?}");
    assert_eq!(start.elapsed(), ms(30));
}

#[tokio::test(start_paused = true)]
async fn calls_that_the_breaker_refuses_do_not_count_for_the_throttle() {
    let throttle = AdaptiveThrottler::builder().min_per_second(0).seed(3).build().unwrap();
    let send = |_| throttle.try_send(Criticality::Critical).ok();
    (0..20).filter_map(send).enumerate().for_each(|(number, sent)| sent.record(number % 5 == 0));
    let before = throttle.probability(Criticality::Critical);
    assert!((0.2..0.9).contains(&before), "{before}");
    let breaker = breaker();
    breaker.force_open("test", None);
    let order = Order::custom([Step::Breaker], [Step::RateLimit, Step::Throttle, Step::Concurrency]);
    let outside = Pipeline::builder("p").throttle(throttle.clone()).breaker(breaker.clone()).order(order);
    outside.build().unwrap().call(|| async { Ok::<_, ()>(()) }).await.unwrap_err();
    assert!((throttle.probability(Criticality::Critical) - before).abs() < f32::EPSILON);
    let pipeline = Pipeline::builder("p").throttle(throttle.clone()).breaker(breaker).build().unwrap();
    let (mut throttled, mut open) = (0, 0);
    for _ in 0..1_000 {
        match pipeline.call(|| std::future::ready(Ok::<_, ()>(()))).await {
            Err(Error::Throttled { .. }) => throttled += 1,
            Err(Error::CircuitOpen { .. }) => open += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(open > 20 && throttled > 20, "{open} {throttled}");
    let after = throttle.probability(Criticality::Critical);
    assert!(after >= before, "no accepted call was made up: {before} {after}");
}
