//! What a closed call costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use failsafe::{backoff, failure_policy};
use tollgate_core::breaker::{Breaker, Config, Outcome, WindowKind};
use tollgate_core::time::{Span, Time};
use tower::Service;
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

const CALLS: u64 = 400_000;
/// For a breaker whose cost per call grows with the calls in its window.
const FEW_CALLS: u64 = 5_000;
/// The best of these is printed: other work of the machine only adds time.
const RUNS: usize = 7;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all calls go to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

struct Row {
    name: &'static str,
    one: f64,
    two: f64,
    allocations: f64,
    bytes: f64,
}

/// Runs `calls` on each of so many threads, each with a caller of its own; nanoseconds per call, from the
/// first start to the last end: threads that had to share a core do not look cheap.
fn time<C: FnMut()>(threads: usize, calls: u64, caller: &(impl Fn() -> C + Sync)) -> f64 {
    let barrier = Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let work = || {
            let mut call = caller();
            (0..1_000).for_each(|_| call());
            barrier.wait();
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            (start, Instant::now())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a caller does not panic")).collect()
    });
    let start = spans.iter().map(|(start, _)| *start).min().expect("a thread");
    let end = spans.iter().map(|(_, end)| *end).max().expect("a thread");
    (end - start).as_secs_f64() * 1e9 / calls as f64
}

fn row<C: FnMut()>(name: &'static str, calls: u64, caller: &(impl Fn() -> C + Sync)) -> Row {
    let best = |threads| (0..RUNS).map(|_| time(threads, calls, caller)).fold(f64::INFINITY, f64::min);
    let mut call = caller();
    (0..1_000).for_each(|_| call());
    let before = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    (0..calls).for_each(|_| call());
    let per_call = |now: u64, before: u64| (now - before) as f64 / calls as f64;
    let allocations = per_call(ALLOCATIONS.load(Ordering::Relaxed), before.0);
    let bytes = per_call(BYTES.load(Ordering::Relaxed), before.1);
    drop(call);
    Row { name, one: best(1), two: best(2), allocations, bytes }
}

fn ours(name: &'static str, window: WindowKind, read_clock: bool) -> Row {
    let start = Instant::now();
    let begin = Time::from_micros(1_795_000_000_000_000);
    let config = Config { window, ..Config::default() };
    let breaker = Breaker::new(config, 1, begin).expect("a good configuration");
    row(name, CALLS, &|| {
        let mut given = 0;
        let breaker = &breaker;
        let mut now = move || {
            given += 1;
            let micros = if read_clock { start.elapsed().as_micros() } else { given / 16 };
            begin + Span::from_wide(micros)
        };
        move || {
            let permit = black_box(breaker).admit(now()).expect("it is closed");
            breaker.record(permit, now(), black_box(Outcome::Success));
        }
    })
}

fn failsafe() -> Row {
    let wait = backoff::constant(Duration::from_secs(5));
    let rate = failure_policy::success_rate_over_time_window(0.5, 20, Duration::from_secs(10), wait);
    let machine = failsafe::StateMachine::new(rate, ());
    row("failsafe 1.3, success rate", CALLS, &|| {
        let machine = machine.clone();
        move || {
            assert!(black_box(&machine).is_call_permitted());
            machine.on_success();
        }
    })
}

fn recloser() -> Row {
    let recloser = recloser::Recloser::custom().closed_len(100).build();
    row("recloser 1.4, 100 calls", CALLS, &|| {
        || {
            let result: Result<(), recloser::Error<()>> = black_box(&recloser).call(|| black_box(Ok(())));
            assert!(result.is_ok());
        }
    })
}

/// The inner service: ready, and done at once.
#[derive(Clone)]
struct Done;

impl Service<()> for Done {
    type Response = ();
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<(), std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

fn tower_resilience(name: &'static str, window: SlidingWindowType) -> Row {
    let layer = CircuitBreakerLayer::builder()
        .sliding_window_type(window)
        .sliding_window_size(100)
        .sliding_window_duration(Duration::from_millis(10))
        .build()
        .expect("a good configuration");
    let shared = layer.layer_fn(Done);
    let calls = if window == SlidingWindowType::CountBased { CALLS } else { FEW_CALLS };
    row(name, calls, &|| {
        let mut service = shared.clone();
        move || {
            let mut context = Context::from_waker(Waker::noop());
            // a contended lock is waited for by asking again
            while service.poll_ready(&mut context).is_pending() {
                std::hint::spin_loop();
            }
            let mut call = pin!(service.call(()));
            let mut poll = || call.as_mut().poll(&mut context);
            let mut result = poll();
            while result.is_pending() {
                std::hint::spin_loop();
                result = poll();
            }
            assert!(matches!(result, Poll::Ready(Ok(()))));
        }
    })
}

/// The table of costs.
pub fn print() {
    let time = WindowKind::Time { length: Span::from_secs(10), buckets: 10 };
    let count = WindowKind::Count { size: 100 };
    let rows = [
        ours("tollgate, time window, time given", time, false),
        ours("tollgate, time window, clock read twice", time, true),
        ours("tollgate, count window, time given", count, false),
        ours("tollgate, count window, clock read twice", count, true),
        failsafe(),
        recloser(),
        tower_resilience("tower-resilience 0.13, 100 calls", SlidingWindowType::CountBased),
        tower_resilience("tower-resilience 0.13, time window of 10 ms", SlidingWindowType::TimeBased),
    ];
    println!(
        "| closed call that succeeds | ns, 1 thread | ns, 2 threads on one breaker | allocations | bytes |"
    );
    println!("|---|---:|---:|---:|---:|");
    for Row { name, one, two, allocations, bytes } in rows {
        println!("| {name} | {one:.1} | {two:.1} | {allocations:.2} | {bytes:.0} |");
    }
}
