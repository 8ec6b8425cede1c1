//! Many threads on one breaker: totals at rest, one opening, no late influence.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::breaker::{
    Breaker, Config, HalfOpen, Manual, Mode, Outcome, Permit, Ratio, Reason, Slow, Transition, Verdict, Wait,
    WindowKind,
};
use tollgate_core::time::{Span, Time};

const START: Time = Time::from_micros(1_795_000_000_000_000);
const THREADS: u64 = 4;
const CALLS: u64 = 20_000;

fn shadow(window: WindowKind) -> Config {
    let slow = Slow { duration: Span::SECOND, rate: Ratio::HALF };
    Config { window, slow: Some(slow), minimum_calls: 1, initial: Mode::MetricsOnly, ..Config::default() }
}

/// Every seventh call fails, every fifth is slow.
fn hammer(breaker: &Breaker, now: Time) {
    let work = || {
        for n in 0..CALLS {
            let permit = breaker.admit(now).unwrap();
            let outcome = if n % 7 == 0 { Outcome::Failure } else { Outcome::Success };
            let took = Span::from_secs(if n % 5 == 0 { 2 } else { 0 });
            breaker.record_after(permit, now, outcome, took);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
}

#[test]
fn the_totals_of_a_time_window_are_exact_at_rest() {
    for buckets in [1, 10, 64] {
        let window = WindowKind::Time { length: Span::from_secs(64), buckets };
        let config =
            if buckets == 10 { WindowKind::Time { length: Span::from_secs(10), buckets } } else { window };
        let breaker = Breaker::new(shadow(config), 1, START).unwrap();
        hammer(&breaker, START);
        let counts = breaker.snapshot(START).counts;
        assert_eq!(counts.calls, THREADS * CALLS);
        assert_eq!(counts.failures, THREADS * CALLS.div_ceil(7));
        assert_eq!(counts.slow, THREADS * CALLS.div_ceil(5));
    }
}

#[test]
fn a_full_count_window_holds_its_size_at_rest() {
    for size in [1, 2, 100, 65_535] {
        let breaker = Breaker::new(shadow(WindowKind::Count { size }), 1, START).unwrap();
        hammer(&breaker, START);
        let counts = breaker.snapshot(START).counts;
        assert_eq!(counts.calls, u64::from(size).min(THREADS * CALLS));
        assert!(counts.failures <= counts.calls && counts.slow <= counts.calls);
        // the next calls push out whatever the race left
        for _ in 0..size {
            let permit = breaker.admit(START).unwrap();
            breaker.record(permit, START, Outcome::Success);
        }
        let counts = breaker.snapshot(START).counts;
        assert_eq!((counts.calls, counts.failures, counts.slow), (size.into(), 0, 0));
    }
}

#[test]
fn all_calls_in_flight_are_known_at_rest() {
    let window = WindowKind::Time { length: Span::from_secs(10), buckets: 10 };
    let breaker = Breaker::new(Config { overdue: true, ..shadow(window) }, 1, START).unwrap();
    let work = &|thread| {
        let mut held = Vec::new();
        for n in 0..CALLS {
            let now = START + Span::from_millis(n * 3 + thread);
            held.push(breaker.admit(now).unwrap());
            if n % 3 == 2 {
                held.drain(..).for_each(|permit| breaker.record(permit, now, Outcome::Success));
            }
        }
        // 20 000 = 3 * 6 666 + 2
        assert_eq!(held.len(), 2);
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || work(thread));
        }
    });
    let later = START + Span::from_secs(3_600);
    assert_eq!(breaker.snapshot(later).counts.overdue, 2 * THREADS);
}

#[test]
fn one_opening_for_all_threads() {
    for _ in 0..100 {
        let config = Config { window: WindowKind::Count { size: 10 }, minimum_calls: 5, ..Config::default() };
        let breaker = Breaker::new(config, 1, START).unwrap();
        let barrier = Barrier::new(4);
        let work = || {
            let held: Vec<_> = (0..50).map(|_| breaker.admit(START).unwrap()).collect();
            barrier.wait();
            held.into_iter().for_each(|permit| breaker.record(permit, START, Outcome::Failure));
        };
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(work));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        let seen = breaker.snapshot(START);
        assert_eq!((seen.mode, seen.epoch, seen.attempts), (Mode::Open, 1, 1));
        let reason = breaker.take_transition().unwrap().reason;
        assert!(matches!(reason, Reason::FailureRate { .. }), "{reason:?}");
        assert_eq!(breaker.take_transition(), None);
        // those that were between the check of their epoch and the window when it opened are in neither
        assert!(seen.late >= 180 && seen.late + seen.counts.calls <= 200, "{seen:?}");
    }
}

/// Outcomes of an older epoch, all failures, while probes are judged, all successes: it closes each time.
#[test]
fn late_failures_never_reach_the_probes() {
    let half_open = HalfOpen { permits: 4, verdict: Verdict::Successes { needed: 4 }, ..HalfOpen::default() };
    let wait = Wait { base: Span::ZERO, jitter: Ratio::percent(0).unwrap(), ..Wait::default() };
    let config = Config { half_open, wait, window: WindowKind::Count { size: 100 }, ..Config::default() };
    let breaker = Breaker::new(config, 1, START).unwrap();
    let admit = |n| (0..n).map(|_| breaker.admit(START).unwrap()).collect::<Vec<_>>();
    let end = |held: Vec<Permit>, outcome| {
        held.into_iter().for_each(|permit| breaker.record(permit, START, outcome));
    };
    for round in 0..300 {
        let late = admit(100);
        end(admit(10), Outcome::Failure);
        let probes = admit(4);
        std::thread::scope(|scope| {
            scope.spawn(|| end(late, Outcome::Failure));
            scope.spawn(|| end(probes, Outcome::Success));
        });
        let seen = breaker.snapshot(START);
        assert_eq!((seen.mode, seen.counts.calls), (Mode::Closed, 0), "round {round}");
        assert_eq!(seen.late, (round + 1) * 100);
    }
}

/// Orders, probes, outcomes and looks at random from all threads, and all threads take transitions: each is
/// taken once, none is missing, and each starts where the one before it ended.
#[test]
fn transitions_form_one_chain() {
    let wait = Wait { base: Span::from_millis(1), ..Wait::default() };
    let config =
        Config { wait, window: WindowKind::Count { size: 10 }, minimum_calls: 3, ..Config::default() };
    let breaker = Breaker::new(config, 1, START).unwrap();
    let clock = AtomicU64::new(0);
    let work = &|thread: u64| {
        let mut taken = Vec::new();
        for n in 0..CALLS {
            let now = START + Span::from_micros(clock.fetch_add(70, Ordering::Relaxed));
            step(&breaker, now, (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) ^ thread);
            taken.extend(std::iter::from_fn(|| breaker.take_transition()));
        }
        taken
    };
    let mut chain: Vec<Transition> = std::thread::scope(|scope| {
        let workers = [0, 1, 2].map(|thread| scope.spawn(move || work(thread)));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let seen = breaker.snapshot(START);
    chain.extend(std::iter::from_fn(|| breaker.take_transition()));
    assert_eq!(seen.transitions_dropped, 0);
    chain.retain(|change| !is_shadow(change));
    chain.sort_by_key(|change| change.epoch);
    assert!(chain.len() > 100, "{} changes", chain.len());
    let epochs: Vec<u32> = chain.iter().map(|change| change.epoch).collect();
    assert_eq!(epochs, (1..=seen.epoch).collect::<Vec<_>>());
    for pair in chain.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
    }
}

fn is_shadow(change: &Transition) -> bool {
    change.from == Mode::MetricsOnly && change.to == Mode::MetricsOnly
}

fn step(breaker: &Breaker, now: Time, random: u64) {
    let manual = || Manual { reason: "why".into(), actor: "who".into(), ttl: Some(Span::from_millis(2)) };
    match random % 200 {
        0 => breaker.force_open(now, manual()),
        1 => breaker.metrics_only(now, manual()),
        2 => breaker.disable(now, manual()),
        3 => breaker.reset(now, Manual { ttl: None, ..manual() }).unwrap(),
        4..20 => assert!(breaker.snapshot(now).counts.failures <= 10),
        _ => {
            if let Ok(permit) = breaker.admit(now) {
                let outcome = if random.is_multiple_of(3) { Outcome::Failure } else { Outcome::Success };
                breaker.record(permit, now, outcome);
            }
        }
    }
}
