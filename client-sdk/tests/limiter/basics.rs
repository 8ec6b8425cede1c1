//! Questions and answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tollgate_client::clock::ManualClock;
use tollgate_client::limiter::{
    Accuracy, DecidedBy, DecisionSource, FailureMode, LeaseMode, LimiterError, Request, Transport,
};
use tollgate_client::testing::InProcessLimiter;
use tollgate_core::time::Span;

use crate::world::{acme, bucket, client, generous, limiter, queue, until, window};

#[tokio::test]
async fn both_transports_decide_alike() {
    for transport in [Transport::Stream, Transport::Unary] {
        let clock = Arc::new(ManualClock::new());
        let limiter = InProcessLimiter::builder()
            .limit("shop", &["tenant"], bucket(10, 5))
            .clock(clock.clone())
            .build()
            .unwrap();
        let served = limiter.serve().await.unwrap();
        let client = client(served.target()).transport(transport).clock(clock).connect_lazy().unwrap();
        let first = client.check(acme().cost(2).explain()).await;
        assert!(first.allowed, "{first:?}");
        assert_eq!((first.limit, first.remaining, first.source), (5, 3, DecisionSource::Service));
        assert_eq!((first.by, first.accuracy), (DecidedBy::Memory, Accuracy::Strict));
        assert!((first.pressure - 0.4).abs() < 0.001);
        assert_eq!(first.rule(), Some("shop.tenant"));
        assert!(client.check(acme().cost(6)).await.never);
        let refused = client.check(acme().cost(4)).await;
        assert_eq!((refused.allowed, refused.remaining), (false, 0));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
        let advice = refused.retry_advice.unwrap();
        assert!((100..=110).contains(&advice.as_millis()), "{advice:?}");
        assert_eq!(client.peek(acme()).await.unwrap().remaining, 3);
        assert_eq!(client.refund(acme()).await.unwrap().remaining, 4);
        let other = client.check(Request::of([("region", "eu")])).await;
        assert!(other.allowed && other.limits[0].limit == 0, "no rule: {other:?}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_an_error_of_its_own() {
    let served = generous().serve().await.unwrap();
    let client = client(served.target()).failure_mode(FailureMode::Closed).connect_lazy().unwrap();
    let nothing = client.try_check(Request::default()).await;
    assert!(matches!(nothing, Err(LimiterError::Invalid(_))), "{nothing:?}");
    let decision = client.check(Request::default()).await;
    assert_eq!((decision.allowed, decision.source), (false, DecisionSource::FailClosed));
    assert_eq!(client.metrics().errors[0], ("invalid", 2));
}

#[tokio::test]
async fn checks_that_wait_together_share_messages() {
    let limiter = generous();
    let served = limiter.serve().await.unwrap();
    let client = client(served.target()).connect_lazy().unwrap();
    let caller = |_| async {
        for _ in 0..50 {
            assert_eq!(client.check(acme()).await.source, DecisionSource::Service);
        }
    };
    join_all((0..64).map(caller)).await;
    assert_eq!(limiter.questions(), 3_200);
    assert!(limiter.messages() * 8 < limiter.questions(), "{} messages", limiter.messages());
}

#[tokio::test]
async fn a_refusal_holds_without_asking_until_its_instant() {
    let clock = Arc::new(ManualClock::new());
    let limiter = InProcessLimiter::builder()
        .limit("shop", &["tenant"], bucket(10, 1))
        .clock(clock.clone())
        .build()
        .unwrap();
    let served = limiter.serve().await.unwrap();
    let client = client(served.target()).clock(clock.clone()).connect_lazy().unwrap();
    assert!(client.check(acme()).await.allowed);
    assert_eq!(client.check(acme()).await.source, DecisionSource::Service);
    clock.advance(Duration::from_micros(99_999));
    let cached = client.check(acme()).await;
    assert_eq!((cached.allowed, cached.source), (false, DecisionSource::CachedDenial));
    assert_eq!(cached.retry_after, Some(Duration::from_micros(1)));
    assert_eq!(limiter.questions(), 2);
    clock.advance(Duration::from_micros(1));
    assert!(client.check(acme()).await.allowed, "admitted exactly then");
    assert!(!client.check(acme()).await.allowed);
    assert!(client.refund(acme()).await.unwrap().allowed);
    assert!(client.check(acme()).await.allowed, "what was given back may be taken at once");
}

#[tokio::test]
async fn a_shaper_is_waited_for() {
    let served = limiter(queue(20, 5)).serve().await.unwrap();
    let client = client(served.target()).connect_lazy().unwrap();
    let began = Instant::now();
    assert!(client.acquire(acme()).await.allowed);
    let second = client.acquire(acme()).await;
    assert!(second.allowed && !second.wait.is_zero(), "{second:?}");
    assert!(began.elapsed() >= Duration::from_millis(49), "{:?}", began.elapsed());
    let impatient = client.check(acme().max_wait(Duration::from_millis(1))).await;
    assert!(!impatient.allowed, "{impatient:?}");
    assert!(client.check(acme().max_wait(Duration::from_secs(1))).await.allowed);
}

#[tokio::test]
async fn more_than_the_bound_fail_at_once() {
    let limiter = InProcessLimiter::builder()
        .limit("shop", &["tenant"], bucket(1_000, 1_000))
        .latency(Duration::from_millis(200))
        .build()
        .unwrap();
    let served = limiter.serve().await.unwrap();
    let client = client(served.target()).max_in_flight(8).connect_lazy().unwrap();
    assert!(client.check(acme()).await.allowed);
    let outcomes = join_all((0..20).map(|_| client.try_check(acme()))).await;
    let overloaded =
        |outcome: &&Result<_, LimiterError>| matches!(outcome, Err(LimiterError::Overloaded { limit: 8 }));
    assert_eq!(outcomes.iter().filter(overloaded).count(), 12);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 8);
}

#[tokio::test]
async fn an_idempotency_key_is_charged_once() {
    let limiter = limiter(window(10, Span::from_secs(3_600)));
    let served = limiter.serve().await.unwrap();
    let client = client(served.target()).connect_lazy().unwrap();
    for _ in 0..3 {
        assert_eq!(client.check(acme().idempotency_key(*b"one")).await.remaining, 9);
    }
    assert_eq!(limiter.charged(), 1);
}

#[tokio::test]
async fn ten_thousand_cancelled_checks_leave_nothing_behind() {
    let limiter = InProcessLimiter::builder()
        .limit("shop", &["tenant"], bucket(1_000, 1_000))
        .latency(Duration::from_millis(5))
        .build()
        .unwrap();
    let served = limiter.serve().await.unwrap();
    let client = client(served.target()).lease(LeaseMode::Off).max_in_flight(16).connect_lazy().unwrap();
    assert!(client.check(acme()).await.allowed);
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    for turn in 0..10_000_u32 {
        let mut check = Box::pin(client.try_check(acme()));
        for _ in 0..turn % 4 {
            tokio::select! {
                biased;
                outcome = &mut check => panic!("{outcome:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(check);
    }
    until("all tasks ended", || tasks.num_alive_tasks() <= before).await;
    let outcomes = join_all((0..16).map(|_| client.try_check(acme()))).await;
    assert!(outcomes.iter().all(Result::is_ok), "every place is free again: {outcomes:?}");
}

#[tokio::test]
async fn the_last_clone_ends_the_tasks() {
    let served = generous().serve().await.unwrap();
    let tasks = tokio::runtime::Handle::current().metrics();
    let client = client(served.target()).connect_lazy().unwrap();
    let before = tasks.num_alive_tasks();
    let clone = client.clone();
    assert!(client.check(acme()).await.allowed);
    drop(client);
    assert!(clone.check(acme()).await.allowed);
    assert!(tasks.num_alive_tasks() > before);
    drop(clone);
    until("the tasks have ended", || tasks.num_alive_tasks() <= before).await;
}
