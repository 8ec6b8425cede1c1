//! What a healthy call pays: `cargo bench -p tollgate-client --bench policies`.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tollgate_client::clock::{Clock, SystemClock};
use tollgate_client::shed::Criticality;
use tollgate_client::{
    AdaptiveThrottler, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimiter, Outcome, Pipeline, Retry,
    classify_fn,
};
use tower::{Layer, Service};

const CALLS: u32 = 10_000;
const ROUNDS: u32 = 300;

/// The best of many short rounds, in nanoseconds per call: short, so that some round is not interrupted.
fn best(mut round: impl FnMut()) -> u128 {
    let timed = |_| {
        let start = Instant::now();
        round();
        start.elapsed().as_nanos() / u128::from(CALLS)
    };
    (0..ROUNDS).map(timed).min().unwrap_or_default()
}

fn time(name: &str, mut call: impl FnMut()) {
    println!("{name:45} {:6} ns", best(|| (0..CALLS).for_each(|_| call())));
}

fn threads(name: &str, breaker: &CircuitBreaker) {
    let work = || (0..CALLS).for_each(|_| breaker.try_acquire().unwrap().success());
    let both = || std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    println!("{name:45} {:6} ns", best(both));
}

fn main() {
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let limit = ConcurrencyLimiter::gradient2().build().unwrap();
    let throttle = AdaptiveThrottler::builder().build().unwrap();
    let full = Pipeline::builder("p")
        .deadline(Duration::from_secs(2))
        .attempt_timeout(Duration::from_secs(1))
        .retry(Retry::exponential(Duration::from_millis(50)))
        .throttle(throttle.clone())
        .concurrency(limit.clone())
        .breaker(breaker.clone())
        .build()
        .unwrap();
    let untimed = Pipeline::builder("p")
        .retry(Retry::exponential(Duration::from_millis(50)))
        .throttle(throttle.clone())
        .concurrency(limit.clone())
        .breaker(breaker.clone())
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    time("a clock read", || {
        black_box(SystemClock.now());
    });
    time("breaker: try_acquire + success", || breaker.try_acquire().unwrap().success());
    threads("breaker: the same, two threads, per call", &breaker);
    time("breaker: call", || {
        let call = breaker.call(std::future::ready(Ok::<_, ()>(1)));
        black_box(call.now_or_never().unwrap().unwrap());
    });
    time("concurrency: try_acquire + record", || limit.try_acquire().unwrap().record(Outcome::Success));
    time("throttle: try_send + record", || {
        throttle.try_send(Criticality::Critical).unwrap().record(true);
    });
    let open = CircuitBreaker::builder("open").build().unwrap();
    open.force_open("benchmark", None);
    time("breaker: rejection", || drop(black_box(open.try_acquire())));
    let classifier = classify_fn(|result: Result<&u8, &std::io::Error>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    });
    let echo = tower::service_fn(|x: u8| std::future::ready(Ok::<u8, std::io::Error>(x)));
    let mut layered = CircuitBreakerLayer::new(breaker, classifier).layer(echo);
    time("breaker: as a layer", || {
        black_box(layered.call(1).now_or_never().unwrap().unwrap());
    });
    let pipelines = [("pipeline: without time limits", untimed), ("pipeline: everything", full)];
    for (name, pipeline) in pipelines {
        let repeat = || runtime.block_on(repeat(&pipeline));
        println!("{name:45} {:6} ns", best(repeat));
    }
}

async fn repeat(pipeline: &Pipeline) {
    for _ in 0..CALLS {
        black_box(pipeline.call(|| std::future::ready(Ok::<_, ()>(1))).await.unwrap());
    }
}
