//! Nanoseconds per decision on one hot state, by algorithm. Medians of five interleaved runs.
//!
//! Time moves on with every decision, so that refills, new windows and refusals take part in the figures;
//! the share of admitted requests is printed to show that something was decided.

use std::hint::black_box;
use std::time::Instant;

use tollgate_core::limit::{
    Ask, Calendar, CalendarUnit, FixedWindow, LeakyBucket, Limit, LimitError, Rate, Refused, SlidingLog,
    SlidingWindow, TokenBucket, Window,
};
use tollgate_core::time::{Span, Time};

const RUNS: usize = 5;
const ROUNDS: u32 = 500_000;
/// Between two decisions; every limit below allows about half as many.
const GAP: Span = Span::from_micros(50);

/// Limits of about 10 000 per second.
fn limits() -> Result<Vec<(&'static str, Limit)>, LimitError> {
    let rate = Rate::new(10_000, Span::SECOND)?;
    let odd = Rate::new(9_999_991, Span::from_micros(999_999_937))?;
    let fixed = |limit, window| FixedWindow::new(limit, window, Refused::Counts).map(Limit::FixedWindow);
    let berlin = |unit| Calendar::new(unit, 1, "Europe/Berlin").map(Window::Calendar);
    Ok(vec![
        ("token bucket", Limit::TokenBucket(TokenBucket::new(rate, 100)?)),
        ("token bucket, odd rate", Limit::TokenBucket(TokenBucket::new(odd, 100)?)),
        ("leaky bucket", Limit::LeakyBucket(LeakyBucket::new(rate, 100)?)),
        ("fixed window", fixed(10_000, Window::Epoch(Span::SECOND))?),
        ("fixed window, anchored", fixed(10_000, Window::Anchored(Span::SECOND))?),
        ("calendar second", fixed(10_000, berlin(CalendarUnit::Second)?)?),
        ("calendar hour", fixed(36_000_000, berlin(CalendarUnit::Hour)?)?),
        ("calendar day", fixed(864_000_000, berlin(CalendarUnit::Day)?)?),
        ("calendar month", fixed(4_000_000_000, berlin(CalendarUnit::Month)?)?),
        ("sliding window", Limit::SlidingWindow(SlidingWindow::new(10_000, Span::SECOND)?)),
        ("sliding log of 10", Limit::SlidingLog(SlidingLog::new(10, Span::from_millis(1))?)),
        ("sliding log of 100", Limit::SlidingLog(SlidingLog::new(100, Span::from_millis(10))?)),
        ("sliding log of 1000", Limit::SlidingLog(SlidingLog::new(1_000, Span::from_millis(100))?)),
    ])
}

/// Nanoseconds per decision, and how many were admitted.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn run(limit: &Limit) -> (f64, u32) {
    let mut now = Time::from_micros(1_795_000_000_000_000);
    let mut state = None;
    let mut admitted = 0;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        now = now + GAP;
        let step = black_box(limit).step(state.as_ref(), black_box(now), black_box(Ask::take(1)));
        admitted += u32::from(black_box(step.verdict).allowed);
        if step.state.is_some() {
            state = step.state;
        }
    }
    (start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS), admitted)
}

fn main() -> Result<(), LimitError> {
    let limits = limits()?;
    let mut runs = vec![Vec::new(); limits.len()];
    for _ in 0..RUNS {
        for ((_, limit), runs) in limits.iter().zip(&mut runs) {
            runs.push(run(limit));
        }
    }
    println!("{:<24}{:>14}{:>10}", "", "ns/decision", "admitted");
    for ((name, _), mut runs) in limits.into_iter().zip(runs) {
        runs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (nanos, admitted) = runs[RUNS / 2];
        println!("{name:<24}{nanos:>14.1}{:>9}%", admitted / (ROUNDS / 100));
    }
    Ok(())
}
