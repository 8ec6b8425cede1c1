//! What many threads at once must not break.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use tollgate_core::load::algorithm::{AimdConfig, AlgorithmConfig, Bounds};
use tollgate_core::load::budget::{Attempt, BudgetConfig, RetryBudget};
use tollgate_core::load::concurrency::{Limiter, LimiterConfig, Outcome, PartitionConfig};
use tollgate_core::load::criticality::Criticality;
use tollgate_core::load::ewma::{EwmaConfig, PeakEwma};
use tollgate_core::load::outlier::{Outlier, OutlierConfig, Pool};
use tollgate_core::load::random::SplitMix64;
use tollgate_core::load::ratio::Ratio;
use tollgate_core::load::shed::{Admission, Level, ShedConfig};
use tollgate_core::load::throttle::{Throttle, ThrottleConfig};
use tollgate_core::time::{Span, Time};

const THREADS: u64 = 4;
const ROUNDS: u64 = 50_000;
const START: Time = Time::from_micros(1_000_000_000);

/// Runs `work` in every thread, with its number.
fn together(work: impl Fn(u64) + Sync) {
    let work = &work;
    thread::scope(|scope| (0..THREADS).for_each(|number| drop(scope.spawn(move || work(number)))));
}

#[test]
fn a_limiter_is_never_over_its_limit() {
    let limiter = Limiter::new(
        &LimiterConfig {
            bounds: Bounds { min: 1, initial: 2, max: 3 },
            algorithm: AlgorithmConfig::Aimd(AimdConfig::default()),
            partitions: vec![PartitionConfig { name: "a".into(), share: Ratio::from_percent(10) }],
            ..LimiterConfig::default()
        },
        START,
    )
    .unwrap();
    let own = limiter.partition("a").unwrap();
    let (clock, held, most, refused) =
        (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    together(|number| {
        let mut random = SplitMix64::new(number);
        for _ in 0..ROUNDS {
            let now = START + Span::from_micros(clock.fetch_add(50, Ordering::Relaxed));
            let slot = if number == 0 { limiter.acquire_for(now, own) } else { limiter.acquire(now) };
            let Ok(slot) = slot else {
                refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if random.next_u32().is_multiple_of(4) {
                thread::yield_now();
            }
            let outcome = if random.next_u32().is_multiple_of(50) { Outcome::Dropped } else { Outcome::Done };
            held.fetch_sub(1, Ordering::SeqCst);
            limiter.release(slot, now + Span::from_millis(1), outcome);
        }
    });
    assert_eq!(limiter.in_flight(), 0);
    let most = most.into_inner();
    assert!((2..=4).contains(&most), "three and one of the share: {most}");
    assert!((1..=3).contains(&limiter.limit()));
}

#[test]
fn a_budget_gives_exactly_what_it_has() {
    let ratio = Ratio::from_percent(60);
    let config = BudgetConfig { ratio, min_rps: 1, ..BudgetConfig::default() };
    let budget = RetryBudget::new(&config, START).unwrap();
    let taken = AtomicU64::new(0);
    together(|_| {
        for _ in 0..ROUNDS {
            budget.deposit(START);
            let got = budget.try_withdraw(START, Attempt::Retry);
            taken.fetch_add(u64::from(got), Ordering::Relaxed);
        }
    });
    while budget.try_withdraw(START, Attempt::Retry) {
        taken.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(taken.into_inner(), THREADS * ROUNDS * 6 / 10 + 10);
}

#[test]
fn a_budget_stays_below_its_share_while_time_goes_on() {
    let config = BudgetConfig { min_rps: 0, ..BudgetConfig::default() };
    let budget = RetryBudget::new(&config, START).unwrap();
    let (clock, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    together(|_| {
        for _ in 0..ROUNDS {
            let now = START + Span::from_micros(clock.fetch_add(1_000, Ordering::Relaxed));
            budget.deposit(now);
            let got = budget.try_withdraw(now, Attempt::Retry);
            taken.fetch_add(u64::from(got), Ordering::Relaxed);
        }
    });
    let (taken, most) = (taken.into_inner(), THREADS * ROUNDS / 5);
    // each turn of the window can strand what threads were about to count, never more than a few
    assert!(taken <= most + most / 100 && taken >= most / 2, "{taken} of {most}");
}

#[test]
fn a_throttle_counts_every_request() {
    let config = ThrottleConfig { min_rps: 0, ..ThrottleConfig::default() };
    let throttle = Throttle::new(&config, START).unwrap();
    together(|number| {
        for round in 0..ROUNDS {
            // the largest roll is never refused below a probability of one
            assert!(throttle.admit(START, u32::MAX, Criticality::Critical).is_ok());
            throttle.record(START, (round + number) % 4 == 0);
        }
    });
    // a quarter accepted, k = 2: one half of all, less the one in the denominator
    let all = THREADS * ROUNDS;
    let expected = (all - 2 * all / 4) * 1_000_000 / (all + 1);
    assert_eq!(u64::from(throttle.probability(START, Criticality::Critical).millionths()), expected);
}

#[test]
fn an_average_stays_within_what_was_seen() {
    let ewma = PeakEwma::new(&EwmaConfig::default(), START).unwrap();
    let clock = AtomicU64::new(0);
    together(|number| {
        let mut random = SplitMix64::new(number);
        for _ in 0..ROUNDS {
            let now = START + Span::from_micros(clock.fetch_add(10, Ordering::Relaxed));
            ewma.observe(now, Span::from_micros(1_000 + u64::from(random.next_u32() % 1_000)));
            let load = ewma.load(now, 0);
            assert!((900.0..2_000.0).contains(&load), "{load}");
        }
    });
}

#[test]
fn an_endpoint_is_ejected_once() {
    for _ in 0..200 {
        let outlier = Outlier::new(OutlierConfig::default(), START).unwrap();
        let ejected = AtomicU32::new(0);
        together(|_| {
            for _ in 0..20 {
                let wanted = outlier.record(START, false);
                let pool = Pool { endpoints: 4, ..Pool::default() };
                let span = wanted.then(|| outlier.eject(START, pool, 0)).flatten();
                ejected.fetch_add(u32::from(span.is_some()), Ordering::Relaxed);
            }
        });
        assert_eq!(ejected.into_inner(), 1);
    }
}

#[test]
fn an_admission_goes_up_and_down_under_threads() {
    let admission = Admission::new(ShedConfig::default(), START).unwrap();
    let clock = AtomicU64::new(0);
    let call = |random: &mut SplitMix64, queued| {
        let now = START + Span::from_micros(clock.fetch_add(100, Ordering::Relaxed));
        if admission.admit(now, Level::new(Criticality::Critical, random.next_u64(), now)) {
            admission.queued(queued);
        }
        assert!((1..=512).contains(&admission.admitted()));
    };
    let run = |queued: Span| {
        together(|number| {
            let mut random = SplitMix64::new(number);
            (0..ROUNDS).for_each(|_| call(&mut random, queued));
        });
        admission.admitted()
    };
    let overloaded = run(Span::from_millis(50));
    assert!(overloaded < 256, "{overloaded}");
    assert_eq!(run(Span::ZERO), 512);
}
