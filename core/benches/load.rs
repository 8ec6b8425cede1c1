//! Nanoseconds per call of what a client does around every request, with one thread and with two on one
//! value. Medians of five interleaved runs. Time moves on with every call, so that windows turn.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use tollgate_core::load::OutOfRange;
use tollgate_core::load::budget::{Attempt, BudgetConfig, RetryBudget};
use tollgate_core::load::concurrency::{Limiter, LimiterConfig, Outcome};
use tollgate_core::load::criticality::Criticality;
use tollgate_core::load::ewma::{EwmaConfig, PeakEwma};
use tollgate_core::load::outlier::{Outlier, OutlierConfig};
use tollgate_core::load::random::mix64;
use tollgate_core::load::rendezvous::{Member, Rendezvous};
use tollgate_core::load::shed::{Admission, Level, ShedConfig};
use tollgate_core::load::throttle::{Throttle, ThrottleConfig};
use tollgate_core::time::{Span, Time};

const RUNS: usize = 5;
const ROUNDS: u32 = 500_000;
const START: Time = Time::from_micros(1_795_000_000_000_000);
/// Between two calls: 100 000 a second.
const GAP: u64 = 10;

/// A name and what one call does, given the time and a random number.
type Case = (&'static str, Box<dyn Fn(Time, u32) + Sync>);

fn cases() -> Result<Vec<Case>, OutOfRange> {
    let mut cases = sending()?;
    cases.extend(routing()?);
    cases.extend(ranking()?);
    Ok(cases)
}

/// Whether a call is made at all.
fn sending() -> Result<Vec<Case>, OutOfRange> {
    let limiter = Limiter::new(&LimiterConfig::default(), START)?;
    let acquire = move |now, _| {
        if let Ok(slot) = limiter.acquire(now) {
            limiter.release(slot, now + Span::from_millis(1), Outcome::Done);
        }
    };
    let throttle = Throttle::new(&ThrottleConfig::default(), START)?;
    let accepted = move |now, roll| {
        let admitted = throttle.admit(now, roll, Criticality::Critical).is_ok();
        throttle.record(now, admitted);
    };
    let throttle = Throttle::new(&ThrottleConfig::default(), START)?;
    let refused = move |now, roll: u32| {
        if throttle.admit(now, roll, Criticality::Critical).is_ok() {
            throttle.record(now, roll.is_multiple_of(8));
        }
    };
    let budget = RetryBudget::new(&BudgetConfig::default(), START)?;
    let deposit = move |now, _| budget.deposit(now);
    let budget = RetryBudget::new(&BudgetConfig::default(), START)?;
    let withdraw = move |now, _| {
        budget.deposit(now);
        black_box(budget.try_withdraw(now, Attempt::Retry));
    };
    Ok(vec![
        ("limiter: acquire, release", Box::new(acquire)),
        ("throttle: admit, record", Box::new(accepted)),
        ("throttle, target refuses", Box::new(refused)),
        ("budget: deposit", Box::new(deposit)),
        ("budget: deposit, withdraw", Box::new(withdraw)),
    ])
}

/// Where a call goes to, and whether it is served there.
fn routing() -> Result<Vec<Case>, OutOfRange> {
    let ewma = PeakEwma::new(&EwmaConfig::default(), START)?;
    let observe = move |now, roll: u32| ewma.observe(now, Span::from_micros(u64::from(roll % 1_000)));
    let ewma = PeakEwma::new(&EwmaConfig::default(), START)?;
    ewma.observe(START, Span::from_millis(1));
    let load = move |now, roll: u32| {
        black_box(ewma.load(now, roll % 8));
    };
    let outlier = Outlier::new(OutlierConfig::default(), START)?;
    let record = move |now, roll: u32| {
        black_box(outlier.record(now, !roll.is_multiple_of(16)));
    };
    let admission = Admission::new(ShedConfig::default(), START)?;
    let admit = move |now, roll: u32| {
        if admission.admit(now, Level::new(Criticality::Critical, u64::from(roll), now)) {
            admission.queued(Span::from_millis(1));
        }
    };
    Ok(vec![
        ("ewma: observe", Box::new(observe)),
        ("ewma: load", Box::new(load)),
        ("outlier: record", Box::new(record)),
        ("shed: level, admit, queued", Box::new(admit)),
    ])
}

/// Who owns a key.
fn ranking() -> Result<Vec<Case>, OutOfRange> {
    let case = |name, count: u32, uneven| -> Result<Case, OutOfRange> {
        let member = |index: u32| Member { id: mix64(u64::from(index)), weight: 1 + index % 2 * uneven };
        let rendezvous = Rendezvous::new((0..count).map(member).collect::<Vec<_>>())?;
        let owner = move |_, roll: u32| {
            black_box(rendezvous.owner(u64::from(roll)));
        };
        Ok((name, Box::new(owner)))
    };
    Ok(vec![
        case("rendezvous of 4", 4, 0)?,
        case("rendezvous of 32", 32, 0)?,
        case("rendezvous of 32, weighted", 32, 1)?,
    ])
}

/// Nanoseconds per call, from `start` on, by one thread.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn run(case: &(dyn Fn(Time, u32) + Sync), start: u64) -> f64 {
    let mut roll = 7_u32;
    let begin = Instant::now();
    for round in 0..u64::from(ROUNDS) {
        roll = roll.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        case(black_box(START + Span::from_micros(start + round * GAP)), black_box(roll));
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}

/// The same of two threads at once: the mean of both.
fn run_two(case: &(dyn Fn(Time, u32) + Sync), start: u64) -> f64 {
    thread::scope(|scope| {
        let other = scope.spawn(|| run(case, start));
        let own = run(case, start);
        other.join().map_or(f64::NAN, |other| f64::midpoint(own, other))
    })
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}

fn main() -> Result<(), OutOfRange> {
    let cases = cases()?;
    let mut runs = vec![(Vec::new(), Vec::new()); cases.len()];
    let mut start = 0;
    for _ in 0..RUNS {
        for ((_, case), (one, two)) in cases.iter().zip(&mut runs) {
            one.push(run(case, start));
            two.push(run_two(case, start + u64::from(ROUNDS) * GAP));
        }
        start += 2 * u64::from(ROUNDS) * GAP;
    }
    println!("{:<30}{:>12}{:>14}", "", "ns, alone", "ns, of two");
    for ((name, _), (one, two)) in cases.iter().zip(runs) {
        println!("{name:<30}{:>12.1}{:>14.1}", median(one), median(two));
    }
    Ok(())
}
