//! A leaky bucket over RLS: answers are held until the caller's turn, within deadline and `max_hold`; callers
//! who go away give their place back. Time stands still and is moved by the tests.

mod rls_world;

use std::sync::Arc;
use std::time::Duration;

use rls_world::{World, descriptor, request};
use tokio::time::Instant;
use tollgate_core::time::{Span, Time};
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

/// Ten per second, so one every 100 ms; two may wait.
const RULES: &str = "
domain: d
descriptors:
  - key: queue
    rate_limit: { unit: second, requests_per_unit: 10, algorithm: leaky_bucket, queue: 2, max_hold: 150ms }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: second, requests_per_unit: 10, algorithm: leaky_bucket, queue: 2, max_hold: 150ms }
  - key: refuses
    rate_limit: { unit: hour, requests_per_unit: 0 }
";
const NOW: Time = Time::from_micros(1_700_000_000_000_000);

fn world() -> World {
    World::new(RULES, NOW)
}

/// Asks for one place with `deadline` and says how long the answer took.
async fn asks(world: &World, deadline: Option<Duration>) -> (Code, Duration) {
    let began = Instant::now();
    let answer = world.asks_within(request("d", vec![descriptor("queue", "x")]), deadline).await;
    (answer.overall_code(), began.elapsed())
}

/// tokio's timers round up to whole milliseconds.
fn about(took: Duration, millis: u64) -> bool {
    (Duration::from_millis(millis)..=Duration::from_millis(millis + 1)).contains(&took)
}

#[tokio::test(start_paused = true)]
async fn the_first_leaves_at_once_and_the_second_when_its_turn_has_come() {
    let world = world();
    let (code, took) = asks(&world, None).await;
    assert!(code == Code::Ok && about(took, 0), "{took:?}");
    let (code, took) = asks(&world, None).await;
    assert!(code == Code::Ok && about(took, 100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_would_wait_longer_than_max_hold_is_refused_at_once() {
    let world = world();
    asks(&world, None).await;
    asks(&world, None).await;
    let answer = world.asks(request("d", vec![descriptor("queue", "x")])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit, "the third would wait 200 ms");
    assert_eq!(answer.statuses[0].duration_until_reset.unwrap().seconds, 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_would_wait_past_its_deadline_is_refused_at_once() {
    let world = world();
    asks(&world, None).await;
    let (code, took) = asks(&world, Some(Duration::from_millis(101))).await;
    assert!(code == Code::OverLimit && about(took, 0), "100 ms and the way back do not fit: {took:?}");
    let (code, took) = asks(&world, Some(Duration::from_millis(102))).await;
    assert!(code == Code::Ok && about(took, 100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rule_in_shadow_keeps_nobody_waiting() {
    let world = world();
    for _ in 0..5 {
        let began = Instant::now();
        let answer = world.asks(request("d", vec![descriptor("watched", "x")])).await;
        assert!(answer.overall_code() == Code::Ok && about(began.elapsed(), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_only_looks_does_not_wait() {
    let world = world();
    asks(&world, None).await;
    let mut look = descriptor("queue", "x");
    look.hits_addend = Some(0);
    let began = Instant::now();
    assert_eq!(world.asks(request("d", vec![look])).await.overall_code(), Code::Ok);
    assert!(about(began.elapsed(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_not_held() {
    let world = world();
    asks(&world, None).await;
    let began = Instant::now();
    let answer = world.asks(request("d", vec![descriptor("queue", "x"), descriptor("refuses", "x")])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert!(about(began.elapsed(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_gives_its_place_back() {
    let world = Arc::new(world());
    asks(&world, None).await;
    let held = tokio::spawn({
        let world = world.clone();
        async move { asks(&world, None).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    world.clock.advance(Span::from_millis(30));
    held.abort();
    assert!(held.await.unwrap_err().is_cancelled());
    // what was given back is given back by a task of its own
    tokio::task::yield_now().await;
    let (code, took) = asks(&world, None).await;
    assert!(code == Code::Ok && about(took, 70), "the place of the one who left is free: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_was_served_gives_nothing_back() {
    let world = world();
    asks(&world, None).await;
    asks(&world, None).await;
    world.clock.advance(Span::from_millis(100));
    tokio::task::yield_now().await;
    let (code, took) = asks(&world, None).await;
    assert!(code == Code::Ok && about(took, 100), "{took:?}");
}
