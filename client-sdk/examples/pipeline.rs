//! All policies around one call, without tower: what a flaky target costs with and without them.
//!
//! `cargo run -p tollgate-client --example pipeline`

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tollgate_client::breaker::Wait;
use tollgate_client::{
    AdaptiveThrottler, CircuitBreaker, ConcurrencyLimiter, Error, Fallback, Pipeline, Retry, RetryBudget,
    State,
};

/// Fails every second call, and all of them while it is down.
struct Target {
    calls: AtomicU32,
    down: std::ops::Range<u32>,
}

impl Target {
    async fn charge(&self) -> io::Result<u32> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.down.contains(&call) {
            return Err(io::Error::other("down"));
        }
        if call.is_multiple_of(2) { Err(io::Error::other("a hiccup")) } else { Ok(call) }
    }
}

/// The example; returns an error if anything is not as it is told.
pub(crate) async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let breaker = CircuitBreaker::builder("payments")
        .consecutive_failures(5)
        .wait_in_open(Wait::constant(Duration::from_secs(1)))
        .permitted_calls_in_half_open(2)
        .build()?;
    let pipeline = Pipeline::builder("payments")
        .attempt_timeout(Duration::from_millis(400))
        .breaker(breaker.clone())
        .concurrency(ConcurrencyLimiter::gradient2().max(200))
        .throttle(AdaptiveThrottler::builder().k(2.0))
        .retry(
            Retry::exponential(Duration::from_millis(5))
                .max_attempts(3)
                .budget(RetryBudget::percent(20).min_per_second(10).build()?),
        )
        .deadline(Duration::from_secs(2))
        .build()?;
    println!("{pipeline:?}");

    let target = Target { calls: AtomicU32::new(0), down: 10..40 };
    let charge = || target.charge();
    let mut good = 0;
    for _ in 0..5 {
        good += u32::from(pipeline.call(charge).await.is_ok());
    }
    println!("hiccups: {good} of 5 calls succeeded, with {} attempts", target.calls.load(Ordering::SeqCst));
    assert_eq!(good, 5, "each hiccup is mended by one retry");

    let mut rejected = 0;
    for _ in 0..20 {
        // a deadline shorter than the breaker's wait: nobody waits for it
        let hurried = tollgate_client::Deadline::within(Duration::from_millis(100));
        let result = hurried.scope(pipeline.call(charge)).await;
        rejected += u32::from(matches!(result, Err(Error::CircuitOpen { .. })));
    }
    let during = target.calls.load(Ordering::SeqCst) - 10;
    println!("down: {rejected} of 20 calls were rejected, {during} attempts reached the target");
    assert!(rejected >= 15 && during <= 10, "the breaker keeps calls away");
    assert_eq!(breaker.state(), State::Open);

    let cached = Fallback::new(|error: Error<io::Error>| async move {
        println!("fallback: {error}");
        Ok(0)
    });
    let hurried = tollgate_client::Deadline::within(Duration::from_millis(50));
    assert_eq!(hurried.scope(cached.call(pipeline.call(charge))).await?, 0);

    target.calls.store(41, Ordering::SeqCst);
    let probes = async {
        // the breaker opens its probes by itself: each call waits for it, within its own deadline
        while breaker.state() != State::Closed {
            let _ = pipeline.call(async || Ok::<_, io::Error>(())).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), probes).await?;
    println!("back: {}", breaker.state());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run().await
}
