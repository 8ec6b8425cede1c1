//! What happens when limiters go away.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tollgate_client::limiter::{DecisionSource, FailureMode, LimiterError, LocalLimit, Transport};
use tollgate_client::testing::InProcessLimiter;

use crate::world::{Wire, acme, bucket, client, generous, target, until};

#[tokio::test]
async fn nobody_there_is_answered_locally_within_the_deadline() {
    let mode = FailureMode::Local(LocalLimit::per_second(1).burst(10));
    let nowhere = "static:127.0.0.1:1";
    let client =
        client(nowhere).deadline(Duration::from_millis(50)).failure_mode(mode).connect_lazy().unwrap();
    let began = Instant::now();
    let first = client.check(acme()).await;
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!((first.allowed, first.source), (true, DecisionSource::LocalFallback));
    let second = client.check(acme()).await;
    assert_eq!((second.allowed, second.source), (false, DecisionSource::LocalFallback));
    assert!(second.retry_after.is_some());
}

#[tokio::test]
async fn a_silent_limiter_costs_ten_deadlines_and_then_nothing() {
    let silent = InProcessLimiter::builder()
        .limit("shop", &["tenant"], bucket(1_000, 1_000))
        .latency(Duration::from_secs(60))
        .build()
        .unwrap();
    let served = silent.serve().await.unwrap();
    let client = client(served.target()).deadline(Duration::from_millis(20)).connect_lazy().unwrap();
    for _ in 0..10 {
        assert!(matches!(client.try_check(acme()).await, Err(LimiterError::DeadlineExceeded)));
    }
    let began = Instant::now();
    for _ in 0..1_000 {
        let outcome = client.try_check(acme()).await;
        assert!(matches!(outcome, Err(LimiterError::Suspended { .. })), "{outcome:?}");
    }
    assert!(began.elapsed() < Duration::from_millis(500), "{:?} for 1000 checks", began.elapsed());
    assert!(client.check(acme()).await.allowed, "the failure mode is open");
}

#[tokio::test]
async fn a_reset_stream_leaves_nobody_waiting() {
    let slow = InProcessLimiter::builder()
        .limit("shop", &["tenant"], bucket(1_000_000, 1_000_000))
        .latency(Duration::from_millis(100))
        .build()
        .unwrap();
    let served = slow.serve().await.unwrap();
    let wire = Wire::to(&served).await;
    let client = client(target([wire.address()])).connect_lazy().unwrap();
    assert!(client.try_check(acme()).await.is_ok());
    let plain = join_all((0..32).map(|_| client.try_check(acme())));
    let named = join_all((0..32_u8).map(|number| client.try_check(acme().idempotency_key([number]))));
    let cut = async {
        until("all were asked", || slow.messages() > 1).await;
        wire.reset().await;
    };
    let (plain, named, ()) = tokio::join!(plain, named, cut);
    let lost = |outcome: &Result<_, LimiterError>| matches!(outcome, Err(LimiterError::Unavailable { .. }));
    assert!(plain.iter().all(lost), "the limiter may have charged them: {plain:?}");
    assert!(named.iter().all(Result::is_ok), "asked again by their names: {named:?}");
    assert!(client.try_check(acme()).await.is_ok());
}

#[tokio::test]
async fn a_limiter_that_comes_back_is_not_stormed() {
    let served = generous().serve().await.unwrap();
    let wire = Wire::to(&served).await;
    let client = client(target([wire.address()])).deadline(Duration::from_millis(50)).connect_lazy().unwrap();
    assert!(client.try_check(acme()).await.is_ok());
    wire.cut().await;
    let (began, before) = (Instant::now(), client.metrics().connects);
    while began.elapsed() < Duration::from_secs(4) {
        let outcomes = join_all((0..32).map(|_| client.try_check(acme()))).await;
        assert!(outcomes.iter().all(Result::is_err));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let tried = client.metrics().connects - before;
    assert!(tried <= 13, "{tried} attempts: 7 until the pause is above a second, and then few");
    wire.join().await;
    let (mut recovered, joined) = (false, Instant::now());
    while !recovered && joined.elapsed() < Duration::from_secs(20) {
        recovered = client.try_check(acme()).await.is_ok();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(recovered);
    assert_eq!(wire.connects(), 2, "one connection before and one after");
}

#[tokio::test]
async fn unary_checks_survive_a_reset_too() {
    let served = generous().serve().await.unwrap();
    let wire = Wire::to(&served).await;
    let client = client(target([wire.address()])).transport(Transport::Unary).connect_lazy().unwrap();
    assert!(client.try_check(acme()).await.is_ok());
    for turn in 0..3 {
        wire.reset().await;
        let first = client.try_check(acme().idempotency_key(*b"turn")).await;
        assert!(first.is_ok(), "turn {turn}: {first:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_again_while_the_limiter_is_away() {
    let limiter = InProcessLimiter::builder().limit("shop", &["tenant"], bucket(100, 1)).build().unwrap();
    let served = limiter.serve().await.unwrap();
    let wire = Wire::to(&served).await;
    let mode = FailureMode::LastDecision { ttl: Duration::from_secs(60) };
    let client = client(target([wire.address()]))
        .deadline(Duration::from_millis(50))
        .failure_mode(mode)
        .connect_lazy()
        .unwrap();
    while client.check(acme().cost(1)).await.allowed {}
    wire.cut().await;
    until("the refusal's own time is over", {
        let began = Instant::now();
        move || began.elapsed() > Duration::from_millis(15)
    })
    .await;
    let kept = client.check(acme()).await;
    assert_eq!((kept.allowed, kept.source), (false, DecisionSource::FailClosed));
    let other = client.check(tollgate_client::limiter::Request::of([("tenant", "other")])).await;
    assert_eq!((other.allowed, other.source), (true, DecisionSource::FailOpen));
}
