//! Tokens bought in advance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use tollgate_client::clock::ManualClock;
use tollgate_client::limiter::{
    Accuracy, DecisionSource, FailureMode, LeaseMode, RateLimiterClient, Request,
};
use tollgate_client::testing::InProcessLimiter;
use tollgate_core::time::Span;

use crate::world::{Wire, acme, bucket, client, limiter, target, until, window};

const HOUR: Span = Span::from_secs(3_600);

fn leasing(target: String) -> RateLimiterClient {
    client(target).lease(LeaseMode::Always).connect_lazy().unwrap()
}

/// Asks until it is refused three times.
async fn spend_all(client: RateLimiterClient, allowed: Arc<AtomicU64>) {
    let mut refused = 0;
    while refused < 3 {
        let decision = client.check(acme()).await;
        assert!(!decision.is_fallback(), "{decision:?}");
        allowed.fetch_add(decision.allowed.into(), SeqCst);
        refused += u32::from(!decision.allowed);
    }
}

/// Waits until `count` has not changed for a tenth of a second.
async fn settled(count: impl Fn() -> u64) {
    let (mut seen, mut looks) = (count(), 0);
    until("it does not change", || {
        looks = if count() == seen { looks + 1 } else { 0 };
        seen = count();
        looks > 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_never_pass_the_limit_and_nearly_reach_it() {
    let limiter = limiter(window(20_000, HOUR));
    let served = limiter.serve().await.unwrap();
    let clients = [leasing(served.target()), leasing(served.target())];
    let allowed = Arc::new(AtomicU64::new(0));
    let tasks =
        (0..64).map(|task: usize| tokio::spawn(spend_all(clients[task % 2].clone(), allowed.clone())));
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let allowed = allowed.load(SeqCst);
    assert!((19_000..=20_000).contains(&allowed), "{allowed}");
    assert!(limiter.charged() <= 20_000);
    let metrics = clients.each_ref().map(RateLimiterClient::metrics);
    let leased: u64 = metrics.iter().map(|metrics| metrics.from_source(DecisionSource::Lease)).sum();
    assert!(leased > 15_000, "{metrics:?}");
    assert!(limiter.purchases() < 300, "{} purchases", limiter.purchases());
}

#[tokio::test]
async fn a_lease_outlives_its_server_and_ends_with_its_tokens() {
    let limiter = limiter(window(1_000, HOUR));
    let served = limiter.serve().await.unwrap();
    let wire = Wire::to(&served).await;
    let client = client(target([wire.address()]))
        .lease(LeaseMode::Always)
        .deadline(Duration::from_millis(50))
        .failure_mode(FailureMode::Closed)
        .connect_lazy()
        .unwrap();
    while client.check(acme()).await.source != DecisionSource::Lease {}
    wire.cut().await;
    let charged = limiter.charged();
    let mut spent = 0;
    loop {
        let decision = client.check(acme()).await;
        match decision.source {
            DecisionSource::Lease => spent += 1,
            DecisionSource::FailClosed => break,
            _ => panic!("{decision:?}"),
        }
    }
    assert!(spent > 0 && spent <= charged, "{spent} of {charged}");
    assert!(!client.check(acme()).await.allowed);
}

#[tokio::test]
async fn a_paused_client_spends_nothing_after_the_end() {
    let (theirs, ours) = (ManualClock::new(), ManualClock::new());
    let limiter = InProcessLimiter::builder()
        .limit("shop", &["tenant"], window(100_000, Span::from_secs(10)))
        .clock(Arc::new(theirs.clone()))
        .build()
        .unwrap();
    let served = limiter.serve().await.unwrap();
    let client = client(served.target())
        .lease(LeaseMode::Always)
        .clock(Arc::new(ours.clone()))
        .connect_lazy()
        .unwrap();
    while client.check(acme()).await.source != DecisionSource::Lease {}
    let leased = || client.metrics().from_source(DecisionSource::Lease);
    let before = leased();
    ours.advance(Duration::from_secs(10));
    let decision = client.check(acme()).await;
    assert_eq!(decision.source, DecisionSource::Service, "the window of the lease is over");
    assert_eq!(leased(), before);
}

#[tokio::test]
async fn what_nobody_uses_is_given_back() {
    let limiter = limiter(window(1_000, HOUR));
    let served = limiter.serve().await.unwrap();
    let client = leasing(served.target());
    let mut allowed = 0;
    while client.metrics().from_source(DecisionSource::Lease) == 0 {
        allowed += u64::from(client.check(acme()).await.allowed);
    }
    assert!(limiter.charged() > allowed);
    until("idle tokens came back", || limiter.charged() == allowed).await;
    until("the client knows", || client.metrics().returned_tokens > 0).await;
    let metrics = client.metrics();
    assert_eq!(metrics.returned_tokens, metrics.leased_tokens - metrics.from_source(DecisionSource::Lease));
}

#[tokio::test]
async fn a_closed_client_gives_everything_back_at_once() {
    let limiter = limiter(window(1_000, HOUR));
    let served = limiter.serve().await.unwrap();
    let client = leasing(served.target());
    let mut allowed = 0;
    while client.metrics().from_source(DecisionSource::Lease) < 3 {
        allowed += u64::from(client.check(acme()).await.allowed);
    }
    settled(|| client.metrics().leases).await;
    client.close().await;
    assert_eq!(limiter.charged(), allowed);
    assert_eq!(client.check(acme()).await.source, DecisionSource::FailOpen);
}

#[tokio::test]
async fn limits_that_are_not_leased_are_asked_once_whether_they_are() {
    let limiter = limiter(bucket(1_000_000, 1_000_000));
    let served = limiter.serve().await.unwrap();
    let client = leasing(served.target());
    for _ in 0..500 {
        assert_eq!(client.check(acme()).await.source, DecisionSource::Service);
    }
    assert_eq!(limiter.purchases(), 1);
}

#[tokio::test]
async fn no_limit_is_not_asked_about() {
    let limiter = limiter(bucket(1, 1));
    let served = limiter.serve().await.unwrap();
    let client = leasing(served.target());
    let free = || Request::of([("region", "eu")]);
    while client.check(free()).await.source != DecisionSource::Lease {}
    let asked = limiter.questions();
    for _ in 0..100 {
        let decision = client.check(free()).await;
        assert_eq!((decision.allowed, decision.accuracy), (true, Accuracy::Leased));
    }
    assert_eq!(limiter.questions(), asked);
}

#[tokio::test]
async fn an_exhausted_limit_is_refused_here_until_its_instant() {
    let clock = ManualClock::new();
    let limiter = InProcessLimiter::builder()
        .limit("shop", &["tenant"], window(50, Span::from_secs(10)))
        .clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    let served = limiter.serve().await.unwrap();
    let client = client(served.target())
        .lease(LeaseMode::Always)
        .clock(Arc::new(clock.clone()))
        .connect_lazy()
        .unwrap();
    let mut allowed = 0;
    loop {
        let decision = client.check(acme()).await;
        allowed += u64::from(decision.allowed);
        if !decision.allowed {
            break;
        }
    }
    assert!(allowed <= 50);
    let questions = limiter.questions();
    let mut cached = 0;
    for _ in 0..100 {
        let decision = client.check(acme()).await;
        assert!(decision.allowed || decision.retry_after.is_some(), "{decision:?}");
        cached += u32::from(decision.source == DecisionSource::CachedDenial);
    }
    assert!(cached >= 90, "{cached}");
    assert!(limiter.questions() <= questions + 5);
    clock.advance(Duration::from_secs(10));
    assert!(client.check(acme()).await.allowed);
}

#[tokio::test]
async fn a_cold_key_is_not_leased() {
    let limiter = limiter(window(100_000, HOUR));
    let served = limiter.serve().await.unwrap();
    let client = client(served.target()).lease(LeaseMode::Auto).connect_lazy().unwrap();
    for _ in 0..100 {
        assert_eq!(client.check(acme()).await.source, DecisionSource::Service);
    }
    assert_eq!(limiter.purchases(), 0);
    while client.check(acme()).await.source != DecisionSource::Lease {
        assert!(limiter.questions() < 100_000, "a hot key is leased");
    }
}
