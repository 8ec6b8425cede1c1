//! Faults that other breakers have or had. Each test is the history that shows one of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use tollgate_core::breaker::{
    Breaker, Config, HalfOpen, Mode, Outcome, Permit, Rate, Ratio, Reason, Slow, Transition, Verdict, Wait,
    WindowKind,
};
use tollgate_core::time::{Span, Time};

const START: Time = Time::from_micros(1_795_000_000_000_000);
const DAY: Span = Span::from_secs(86_400);

fn count_window(size: u32, minimum_calls: u32) -> Config {
    Config { consecutive: None, window: WindowKind::Count { size }, minimum_calls, ..steady() }
}

/// The defaults without a spread of the waits.
fn steady() -> Config {
    let wait = Wait { jitter: Ratio::percent(0).unwrap(), ..Wait::default() };
    Config { wait, ..Config::default() }
}

fn made(config: Config) -> Breaker {
    Breaker::new(config, 1, START).unwrap()
}

fn call(breaker: &Breaker, now: Time, outcome: Outcome) {
    let permit = breaker.admit(now).unwrap();
    breaker.record(permit, now, outcome);
}

/// Opens a breaker with ten failures in a row, and waits until it admits probes.
fn half_opened(config: Config) -> (Breaker, Time) {
    let breaker = made(config);
    for _ in 0..10 {
        call(&breaker, START, Outcome::Failure);
    }
    assert_eq!(breaker.mode(START), Mode::Open);
    (breaker, START + Span::from_secs(5))
}

/// 1: a window that never forgets.
#[test]
fn old_successes_are_forgotten() {
    let breaker = made(count_window(100, 100));
    for _ in 0..1_000_000 {
        call(&breaker, START, Outcome::Success);
    }
    for _ in 0..49 {
        call(&breaker, START, Outcome::Failure);
    }
    assert_eq!(breaker.mode(START), Mode::Closed);
    call(&breaker, START, Outcome::Failure);
    assert_eq!(breaker.mode(START), Mode::Open);
    let reason = breaker.take_transition().unwrap().reason;
    assert_eq!(reason, Reason::FailureRate { failures: 50, calls: 100 });
}

/// 2: a minimum that only counts when the window is full.
#[test]
fn the_minimum_is_enough() {
    let breaker = made(count_window(100, 5));
    for _ in 0..4 {
        call(&breaker, START, Outcome::Failure);
    }
    assert_eq!(breaker.mode(START), Mode::Closed);
    call(&breaker, START, Outcome::Failure);
    assert_eq!(breaker.mode(START), Mode::Open);
}

/// 3: all calls pass in HALF_OPEN.
#[test]
fn a_thousand_threads_share_the_probes() {
    for permits in [1, 5, 100] {
        let half_open = HalfOpen { permits, ..HalfOpen::default() };
        let (breaker, now) = half_opened(Config { half_open, ..steady() });
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..125).filter(|_| breaker.admit(now).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, usize::try_from(permits).unwrap());
        assert_eq!(breaker.snapshot(now).not_permitted, 1_000 - u64::from(permits));
    }
}

/// 4: calls that began before the opening judge the probes.
#[test]
fn late_results_decide_nothing() {
    let breaker = made(steady());
    let held: Vec<Permit> = (0..50).map(|_| breaker.admit(START).unwrap()).collect();
    for _ in 0..10 {
        call(&breaker, START, Outcome::Failure);
    }
    let now = START + Span::from_secs(5);
    let probe = breaker.admit(now).unwrap();
    let before = breaker.snapshot(now);
    for permit in held {
        breaker.record(permit, now, Outcome::Failure);
    }
    let after = breaker.snapshot(now);
    assert_eq!((after.mode, after.counts, after.late), (Mode::HalfOpen, before.counts, 50));
    assert_eq!(after.permits_left, before.permits_left);
    breaker.record(probe, now, Outcome::Success);
    assert_eq!(breaker.snapshot(now).counts.calls, 1);
}

/// 5: a probe that says nothing closes the breaker.
#[test]
fn a_cancelled_probe_gives_its_permit_back() {
    let half_open = HalfOpen { permits: 1, verdict: Verdict::Successes { needed: 1 }, ..HalfOpen::default() };
    let (breaker, now) = half_opened(Config { half_open, ..steady() });
    for _ in 0..100 {
        call(&breaker, now, Outcome::Ignored);
        assert_eq!(breaker.mode(now), Mode::HalfOpen);
    }
    call(&breaker, now, Outcome::Success);
    assert_eq!(breaker.mode(now), Mode::Closed);
}

/// 6: a probe that is lost keeps the breaker open for ever.
#[test]
fn a_lost_probe_is_given_to_somebody_else() {
    let half_open = HalfOpen { permits: 1, max_wait: None, ..HalfOpen::default() };
    let (breaker, now) = half_opened(Config { half_open, ..steady() });
    let lost = breaker.admit(now).unwrap();
    let almost = now + Span::from_micros(9_999_999);
    assert_eq!(breaker.admit(almost).unwrap_err().mode, Mode::HalfOpen);
    let ttl = now + Span::from_secs(10);
    let second = breaker.admit(ttl).unwrap();
    assert!(breaker.admit(ttl).is_err(), "one probe, one holder");
    breaker.record(lost, ttl, Outcome::Failure);
    assert_eq!((breaker.mode(ttl), breaker.snapshot(ttl).late), (Mode::HalfOpen, 1));
    breaker.record(second, ttl, Outcome::Success);
    assert_eq!(breaker.mode(ttl), Mode::Closed);
}

/// 7: a rate exactly at its threshold does not open, or a threshold of 100 % never does.
#[test]
fn exactly_at_the_threshold_opens() {
    for (num, den, failures, calls) in [(1, 2, 5, 10), (1, 1, 10, 10), (2, 3, 6, 9), (1, 10, 1, 10)] {
        let rate = Ratio::new(num, den).unwrap();
        let at = |failures: u32| {
            let breaker = made(Config { failure_rate: Some(rate), ..count_window(calls, calls) });
            for n in 0..calls {
                call(&breaker, START, [Outcome::Success, Outcome::Failure][usize::from(n < failures)]);
            }
            breaker.mode(START)
        };
        assert_eq!((at(failures), at(failures - 1)), (Mode::Open, Mode::Closed), "{num}/{den}");
    }
    let slow = Slow { duration: Span::SECOND, rate: Ratio::new(1, 1).unwrap() };
    let breaker = made(Config { slow: Some(slow), ..count_window(2, 2) });
    for duration in [Span::SECOND, Span::SECOND, Span::SECOND + Span::MICRO] {
        let permit = breaker.admit(START).unwrap();
        breaker.record_after(permit, START, Outcome::Success, duration);
    }
    assert_eq!(breaker.mode(START), Mode::Closed, "as long as the limit is not slow");
    let permit = breaker.admit(START).unwrap();
    breaker.record_after(permit, START, Outcome::Success, Span::SECOND + Span::MICRO);
    assert_eq!(breaker.mode(START), Mode::Open);
}

/// 8: some part reads a clock of its own. All of it happens at whatever instants the caller gives.
#[test]
fn only_the_given_time_counts() {
    let history = |origin: Time| -> Vec<(Span, Mode, Mode)> {
        let breaker = Breaker::new(steady(), 1, origin).unwrap();
        for step in 0..400_u64 {
            let now = origin + Span::from_millis(step * 250);
            let outcome = if step % 100 < 60 { Outcome::Failure } else { Outcome::Success };
            if let Ok(permit) = breaker.admit(now) {
                breaker.record(permit, now, outcome);
            }
        }
        let mut transitions = Vec::new();
        while let Some(Transition { at, from, to, .. }) = breaker.take_transition() {
            transitions.push((at - origin, from, to));
        }
        transitions
    };
    let here = history(START);
    assert!(here.len() > 6, "{here:?}");
    assert_eq!(here, history(Time::EPOCH));
    assert_eq!(here, history(Time::MAX - DAY));
}

/// 9: a long gap without calls overflows.
#[test]
fn idle_gaps_of_sixty_days_and_ten_years() {
    let ten_years = Span::from_secs(10 * 366 * 86_400);
    let sixty_days = Span::from_secs(60 * 86_400);
    for gap in [sixty_days, ten_years, Span::MAX] {
        for (length, buckets) in [(Span::from_millis(64), 64), (Span::from_secs(10), 10), (DAY, 24)] {
            let window = WindowKind::Time { length, buckets };
            let breaker = made(Config { window, minimum_calls: 3, consecutive: None, ..steady() });
            call(&breaker, START, Outcome::Failure);
            call(&breaker, START, Outcome::Failure);
            let now = START + gap;
            call(&breaker, now, Outcome::Failure);
            let seen = breaker.snapshot(now);
            assert_eq!((seen.mode, seen.counts.calls, seen.counts.failures), (Mode::Closed, 1, 1));
        }
    }
}

/// The same in every other mode.
#[test]
fn an_idle_decade_in_any_mode_leaves_a_breaker_that_works() {
    let ten_years = Span::from_secs(10 * 366 * 86_400);
    for automatic_half_open in [false, true] {
        let (breaker, now) = half_opened(Config { automatic_half_open, ..steady() });
        let _lost = breaker.admit(now).unwrap();
        let now = now + ten_years;
        assert_ne!(breaker.mode(now), Mode::Closed);
        let mut modes = Vec::new();
        for second in 0..20 {
            let now = now + Span::from_secs(second);
            if let Ok(permit) = breaker.admit(now) {
                breaker.record(permit, now, Outcome::Success);
            }
            modes.push(breaker.mode(now));
        }
        assert_eq!(modes.last(), Some(&Mode::Closed), "{modes:?}");
    }
}

/// 11: more probes than permits while threads race through the opening, and a window that loses counts.
#[test]
fn races_neither_admit_too_many_nor_lose_counts() {
    for round in 0..200_u64 {
        let (breaker, now) = half_opened(steady());
        let held = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..50).filter_map(|_| breaker.admit(now).ok()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(held.len(), 5, "round {round}");
        let outcome = if round % 2 == 0 { Outcome::Success } else { Outcome::Failure };
        std::thread::scope(|scope| {
            for permit in held {
                let breaker = &breaker;
                scope.spawn(move || breaker.record(permit, now, outcome));
            }
        });
        let expected = if round % 2 == 0 { Mode::Closed } else { Mode::Open };
        assert_eq!(breaker.mode(now), expected);
        let seen = breaker.snapshot(now);
        // decided early: what came after the verdict is late
        assert_eq!(seen.late, 2);
        assert_eq!(seen.epoch, 3);
    }
}

/// 13: callers with a tiny deadline open the breaker. Their outcomes are ignored.
#[test]
fn ignored_outcomes_count_nowhere() {
    let breaker = made(Config { minimum_calls: 5, ..steady() });
    for _ in 0..1_000 {
        call(&breaker, START, Outcome::Ignored);
    }
    let seen = breaker.snapshot(START);
    assert_eq!((seen.mode, seen.counts.calls, seen.consecutive), (Mode::Closed, 0, 0));
    for _ in 0..4 {
        call(&breaker, START, Outcome::Failure);
        call(&breaker, START, Outcome::Ignored);
    }
    let seen = breaker.snapshot(START);
    assert_eq!((seen.counts.calls, seen.consecutive, seen.failure_rate), (4, 4, None));
    call(&breaker, START, Outcome::Success);
    assert_eq!(breaker.snapshot(START).failure_rate, Some(Rate { part: 4, of: 5 }));
}
