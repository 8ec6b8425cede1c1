//! Nanoseconds per call of a circuit breaker: closed, with one thread and with two on one breaker, and
//! refused. Medians of five interleaved runs.
//!
//! "given" calls get their time from a counter, "read" calls read the clock at both ends.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use tollgate_core::breaker::{Breaker, Config, ConfigError, Outcome, Ratio, Reason, Slow, WindowKind};
use tollgate_core::time::{Span, Time};

const RUNS: usize = 5;
const CALLS: u64 = 2_000_000;
const START: Time = Time::from_micros(1_795_000_000_000_000);

type Case = (&'static str, Config, Work);

#[derive(Clone, Copy)]
struct Work {
    threads: u64,
    read_clock: bool,
    /// One call in so many fails.
    failing: u64,
    open: bool,
}

fn cases() -> Result<Vec<Case>, ConfigError> {
    let time = Config::default();
    let count = Config { window: WindowKind::Count { size: 100 }, ..Config::default() };
    let slow = Some(Slow { duration: Span::SECOND, rate: Ratio::percent(80)? });
    let overdue = Config { slow, overdue: true, ..Config::default() };
    let durations = Config { durations: true, ..Config::default() };
    let plain = Work { threads: 1, read_clock: false, failing: u64::MAX, open: false };
    let two = Work { threads: 2, ..plain };
    let read = |work| Work { read_clock: true, ..work };
    Ok(vec![
        ("time window", time.clone(), plain),
        ("time window, 2 threads", time.clone(), two),
        ("time window, clock read", time.clone(), read(plain)),
        ("time window, clock read, 2 threads", time.clone(), read(two)),
        ("time window, 5 % fail", time.clone(), Work { failing: 20, ..plain }),
        ("time window, 5 % fail, 2 threads", time.clone(), Work { failing: 20, ..two }),
        ("count window", count.clone(), plain),
        ("count window, 2 threads", count.clone(), two),
        ("count window, 5 % fail", count, Work { failing: 20, ..plain }),
        ("overdue", overdue.clone(), plain),
        ("overdue, 2 threads", overdue, two),
        ("durations", durations, plain),
        ("refused", time.clone(), Work { open: true, ..plain }),
        ("refused, 2 threads", time, Work { open: true, ..two }),
    ])
}

/// The time of one call, read or given.
struct Clock {
    start: Instant,
    read: bool,
    given: u64,
}

impl Clock {
    #[inline]
    fn now(&mut self) -> Time {
        if !self.read {
            // a call every 100 ns or so
            self.given += 1;
            return START + Span::from_micros(self.given / 16);
        }
        START + Span::from_wide(self.start.elapsed().as_micros())
    }
}

fn calls(breaker: &Breaker, clock: &mut Clock, failing: u64) -> u64 {
    let mut admitted = 0;
    for n in 1..=CALLS {
        if let Ok(permit) = black_box(breaker).admit(clock.now()) {
            let outcome = if n % failing == 0 { Outcome::Failure } else { Outcome::Success };
            breaker.record(permit, clock.now(), black_box(outcome));
            admitted += 1;
        }
    }
    admitted
}

/// Nanoseconds per call of each thread, from the first start to the last end, and how many calls were
/// admitted. Threads that had to share a core do not look cheap.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn run(config: &Config, work: Work) -> Result<(f64, u64), ConfigError> {
    let breaker = Breaker::new(config.clone(), 1, START)?;
    if work.open {
        breaker.open_for(START, Span::from_secs(3_600), Reason::Fleet);
    }
    let barrier = Barrier::new(usize::try_from(work.threads).unwrap_or(1));
    let caller = || {
        barrier.wait();
        let start = Instant::now();
        let mut clock = Clock { start, read: work.read_clock, given: 0 };
        let admitted = calls(&breaker, &mut clock, work.failing);
        (start, Instant::now(), admitted)
    };
    let results: Vec<(Instant, Instant, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..work.threads).map(|_| scope.spawn(caller)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let start = results.iter().map(|(start, _, _)| *start).min();
    let end = results.iter().map(|(_, end, _)| *end).max();
    let seconds = start.zip(end).map_or(f64::NAN, |(start, end)| (end - start).as_secs_f64());
    let admitted = results.iter().map(|(_, _, admitted)| admitted).sum();
    Ok((seconds * 1e9 / CALLS as f64, admitted))
}

fn main() -> Result<(), ConfigError> {
    let cases = cases()?;
    let mut runs = vec![Vec::new(); cases.len()];
    for _ in 0..RUNS {
        for ((_, config, work), runs) in cases.iter().zip(&mut runs) {
            runs.push(run(config, *work)?);
        }
    }
    println!("{:<38}{:>10}{:>10}{:>10}", "", "ns/call", "best", "admitted");
    for ((name, _, work), mut runs) in cases.into_iter().zip(runs) {
        runs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let ((best, _), (nanos, admitted)) = (runs[0], runs[RUNS / 2]);
        println!("{name:<38}{nanos:>10.1}{best:>10.1}{:>9}%", admitted * 100 / (work.threads * CALLS));
    }
    Ok(())
}
