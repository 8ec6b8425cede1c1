//! What has no counterpart in other breakers: orders that end, hints, the ramp, hung calls, events.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use tollgate_core::breaker::{
    Breaker, Config, ConfigError, HalfOpen, MAX_TRANSITIONS, Manual, ManualError, Mode, OnMaxWait, Outcome,
    Ratio, Reason, Recovery, Slow, Verdict, Wait, WindowKind,
};
use tollgate_core::time::{Span, Time};

const START: Time = Time::from_micros(1_795_000_000_000_000);

fn at(millis: u64) -> Time {
    START + Span::from_millis(millis)
}

fn steady() -> Config {
    let wait = Wait { jitter: Ratio::percent(0).unwrap(), ..Wait::default() };
    Config { wait, consecutive: Some(3), ..Config::default() }
}

fn made(config: Config) -> Breaker {
    Breaker::new(config, 1, START).unwrap()
}

fn by(ttl: Option<u64>) -> Manual {
    Manual { reason: "maintenance".into(), actor: "ann".into(), ttl: ttl.map(Span::from_secs) }
}

fn call(breaker: &Breaker, now: Time, outcome: Outcome) {
    let permit = breaker.admit(now).unwrap();
    breaker.record(permit, now, outcome);
}

fn tripped(config: Config) -> Breaker {
    let breaker = made(config);
    for _ in 0..3 {
        call(&breaker, START, Outcome::Failure);
    }
    assert_eq!(breaker.mode(START), Mode::Open);
    breaker
}

#[test]
fn orders_end_by_themselves_in_closed() {
    type Order = fn(&Breaker, Time, Manual);
    let orders: [(Order, Mode); 3] = [
        (Breaker::force_open, Mode::ForcedOpen),
        (Breaker::disable, Mode::Disabled),
        (Breaker::metrics_only, Mode::MetricsOnly),
    ];
    for (order, mode) in orders {
        let breaker = made(steady());
        order(&breaker, START, by(Some(60)));
        assert_eq!(breaker.next_wake(), Some(at(60_000)));
        assert_eq!(breaker.mode(at(59_999)), mode);
        assert_eq!(breaker.snapshot(at(10_000)).remaining, Some(Span::from_secs(50)));
        // again: longer, and no second transition
        order(&breaker, at(59_000), by(Some(60)));
        assert_eq!(breaker.mode(at(118_999)), mode);
        assert!(breaker.admit(at(119_000)).is_ok());
        assert_eq!(breaker.mode(at(119_000)), Mode::Closed);
        let first = breaker.take_transition().unwrap();
        assert_eq!((first.to, first.reason), (mode, Reason::Manual(by(Some(60)))));
        let second = breaker.take_transition().unwrap();
        assert_eq!((second.at, second.to, second.reason), (at(119_000), Mode::Closed, Reason::ManualOver));
        assert_eq!(breaker.take_transition(), None);
    }
}

#[test]
fn a_forced_breaker_tells_when_it_ends_if_it_does() {
    let breaker = made(steady());
    breaker.force_open(START, by(Some(60)));
    assert_eq!(breaker.admit(START).unwrap_err().retry_after, Some(Span::from_secs(60)));
    breaker.force_open(START, by(None));
    assert_eq!(breaker.admit(START).unwrap_err().retry_after, None);
    assert!(!breaker.open_for(START, Span::SECOND, Reason::Fleet), "a person has the last word");
    assert_eq!(breaker.mode(at(1_000_000)), Mode::ForcedOpen);
    assert_eq!(breaker.next_wake(), None);
}

#[test]
fn a_breaker_that_is_opened_again_goes_on_with_the_backoff_of_so_many_openings() {
    let breaker = made(steady());
    let openings = |breaker: &Breaker| breaker.snapshot(START).attempts;
    assert!(breaker.open_again(START, Span::SECOND, 3, Reason::Fleet));
    assert_eq!((openings(&breaker), breaker.mode(START)), (3, Mode::Open));
    assert!(breaker.open_again(START, Span::SECOND, 1, Reason::Fleet));
    assert_eq!(openings(&breaker), 3, "no fewer than there were");
    breaker.force_open(START, by(None));
    assert!(!breaker.open_again(START, Span::SECOND, 9, Reason::Fleet));
    assert_eq!(openings(&breaker), 3, "a person has the last word");
}

#[test]
fn orders_that_make_no_sense_are_errors() {
    let breaker = made(steady());
    assert_eq!(breaker.force_half_open(START, by(None)), Err(ManualError::HalfOpen(Mode::Closed)));
    assert_eq!(breaker.force_closed(START, by(Some(1))), Err(ManualError::Ttl));
    assert_eq!(breaker.reset(START, by(Some(1))), Err(ManualError::Ttl));
    breaker.force_open(START, by(None));
    assert_eq!(breaker.force_half_open(START, by(None)), Ok(()));
    assert_eq!(breaker.mode(START), Mode::HalfOpen);
}

#[test]
fn a_reset_is_a_new_breaker() {
    let breaker = tripped(steady());
    assert!(breaker.admit(START).is_err());
    breaker.reset(START, by(None)).unwrap();
    let seen = breaker.snapshot(START);
    assert_eq!((seen.mode, seen.attempts, seen.not_permitted, seen.late), (Mode::Closed, 0, 0, 0));
    assert_eq!((seen.counts.calls, seen.consecutive), (0, 0));
}

#[test]
fn a_throttled_call_opens_for_the_hint_and_counts_nowhere() {
    let breaker = made(steady());
    call(&breaker, START, Outcome::Throttled { retry_after: None });
    assert_eq!(breaker.snapshot(START).counts.calls, 0);
    call(&breaker, START, Outcome::Throttled { retry_after: Some(Span::from_secs(7)) });
    let seen = breaker.snapshot(START);
    assert_eq!((seen.mode, seen.attempts, seen.remaining), (Mode::Open, 0, Some(Span::from_secs(7))));
    assert_eq!(breaker.take_transition().unwrap().reason, Reason::Hint { wait: Span::from_secs(7) });
    // a hint is capped
    let breaker = made(steady());
    call(&breaker, START, Outcome::Throttled { retry_after: Some(Span::MAX) });
    assert_eq!(breaker.snapshot(START).remaining, Some(Span::from_secs(300)));
}

#[test]
fn a_throttled_probe_has_failed_and_its_hint_raises_the_wait() {
    let half_open = HalfOpen { permits: 1, ..HalfOpen::default() };
    let breaker = tripped(Config { half_open, ..steady() });
    call(&breaker, at(5_000), Outcome::Throttled { retry_after: Some(Span::from_secs(40)) });
    let seen = breaker.snapshot(at(5_000));
    assert_eq!((seen.mode, seen.remaining), (Mode::Open, Some(Span::from_secs(40))));
    assert_eq!(breaker.admit(at(44_999)).unwrap_err().retry_after, Some(Span::from_millis(1)));
    assert!(breaker.admit(at(45_000)).is_ok());
}

#[test]
fn a_hint_of_a_failure_only_makes_the_wait_longer() {
    for (hint, wait) in [(2, 5), (9, 9), (1_000, 300)] {
        let breaker = made(steady());
        let hinted = Outcome::Unavailable { retry_after: Span::from_secs(hint) };
        for outcome in [hinted, Outcome::Failure] {
            call(&breaker, START, outcome);
            assert_eq!(breaker.mode(START), Mode::Closed, "a hint of a failure opens nothing by itself");
        }
        call(&breaker, START, Outcome::Failure);
        assert_eq!(breaker.admit(START).unwrap_err().retry_after, Some(Span::from_secs(wait)));
    }
}

#[test]
fn the_later_end_of_two_openings_holds() {
    let breaker = tripped(steady());
    assert!(breaker.open_until(START, at(3_000), Reason::Fleet));
    assert_eq!(breaker.snapshot(START).remaining, Some(Span::from_secs(5)));
    assert!(breaker.open_until(START, at(9_000), Reason::Fleet));
    let seen = breaker.snapshot(START);
    assert_eq!((seen.remaining, seen.reason, seen.epoch), (Some(Span::from_secs(9)), Reason::Fleet, 1));
}

fn recovering() -> (Breaker, Time) {
    let recover = Some(Recovery { start: 10, step: 30, every: Span::SECOND });
    let half_open = HalfOpen { permits: 1, ..HalfOpen::default() };
    let breaker = tripped(Config { recover, half_open, ..steady() });
    call(&breaker, at(5_000), Outcome::Success);
    assert_eq!(breaker.mode(at(5_000)), Mode::Recovering);
    (breaker, at(5_000))
}

#[test]
fn the_ramp_admits_its_share_evenly_and_ends_closed() {
    let (breaker, from) = recovering();
    for (second, share) in [(0, 10), (1, 40), (2, 70)] {
        let now = from + Span::from_secs(second);
        assert_eq!(breaker.snapshot(now).share, Some(share));
        let admitted = (0..100).filter(|_| breaker.admit(now).is_ok()).count();
        assert_eq!(admitted, usize::try_from(share).unwrap());
    }
    assert_eq!(breaker.next_wake(), Some(from + Span::from_secs(3)));
    assert_eq!(breaker.mode(from + Span::from_secs(3)), Mode::Closed);
    let reasons: Vec<_> =
        std::iter::from_fn(|| breaker.take_transition()).map(|change| change.reason).collect();
    assert_eq!(reasons.last(), Some(&Reason::Recovered));
}

#[test]
fn failures_on_the_ramp_open_again_for_longer() {
    let (breaker, now) = recovering();
    let mut failed = 0;
    while breaker.mode(now) == Mode::Recovering {
        if let Ok(permit) = breaker.admit(now) {
            breaker.record(permit, now, Outcome::Failure);
            failed += 1;
        }
    }
    let seen = breaker.snapshot(now);
    assert_eq!((failed, seen.mode, seen.attempts), (3, Mode::Open, 2));
    assert_eq!(seen.remaining, Some(Span::from_millis(7_500)));
}

#[test]
fn calls_that_hang_open_before_they_end_and_not_again_afterwards() {
    let slow = Slow { duration: Span::SECOND, rate: Ratio::HALF };
    let breaker = made(Config { slow: Some(slow), overdue: true, minimum_calls: 5, ..steady() });
    let held: Vec<_> = (0..5).map(|_| breaker.admit(START).unwrap()).collect();
    // nobody looks, but somebody calls
    assert_eq!(breaker.admit(at(1_000)).unwrap_err().mode, Mode::Open);
    let half_open_at = at(6_000);
    for _ in 0..3 {
        call(&breaker, half_open_at, Outcome::Success);
    }
    assert_eq!(breaker.mode(half_open_at), Mode::Closed);
    assert_eq!(breaker.snapshot(half_open_at).counts.overdue, 0, "they are of an older epoch");
    held.into_iter().for_each(|permit| breaker.record(permit, half_open_at, Outcome::Success));
    let seen = breaker.snapshot(half_open_at);
    assert_eq!((seen.mode, seen.late, seen.counts.calls), (Mode::Closed, 5, 0));
}

#[test]
fn each_seed_waits_differently_within_the_spread() {
    let mut waits: Vec<u64> = (0..200)
        .map(|seed| {
            let config = Config { consecutive: Some(1), ..Config::default() };
            let breaker = Breaker::new(config, seed, START).unwrap();
            call(&breaker, START, Outcome::Failure);
            breaker.admit(START).unwrap_err().retry_after.unwrap().as_micros()
        })
        .collect();
    assert!(waits.iter().all(|wait| (2_500_000..=7_500_000).contains(wait)));
    let mean = waits.iter().sum::<u64>() / 200;
    assert!((4_500_000..5_500_000).contains(&mean), "{mean}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 190);
}

#[test]
fn transitions_that_nobody_takes_push_out_the_oldest() {
    let breaker = made(steady());
    let orders = u64::try_from(MAX_TRANSITIONS).unwrap() + 10;
    for n in 0..orders {
        if n % 2 == 0 {
            breaker.force_open(START, by(None));
        } else {
            breaker.force_closed(START, by(None)).unwrap();
        }
    }
    assert_eq!(breaker.snapshot(START).transitions_dropped, 10);
    let left: Vec<_> = std::iter::from_fn(|| breaker.take_transition()).collect();
    assert_eq!((left.len(), left[0].epoch), (MAX_TRANSITIONS, 11));
}

#[test]
fn half_open_without_calls_does_not_punish_the_next_one() {
    let half_open =
        HalfOpen { max_wait: Some(Span::SECOND), on_max_wait: OnMaxWait::Open, ..HalfOpen::default() };
    let breaker = tripped(Config { half_open, ..steady() });
    let _probe = breaker.admit(at(5_000)).unwrap();
    // it ran out at 6 s, and the wait after that at 11 s
    assert!(breaker.admit(at(11_000)).is_ok());
    assert_eq!(breaker.snapshot(at(11_000)).attempts, 1);
}

#[test]
fn bad_settings_are_named() {
    let zero = Ratio::percent(0).unwrap();
    let slow = Slow { duration: Span::SECOND, rate: zero };
    let time = |length, buckets| WindowKind::Time { length: Span::from_micros(length), buckets };
    let probes = |half_open| Config { half_open, ..steady() };
    let with_wait = |wait| Config { wait, ..steady() };
    let (half_open, wait) = (HalfOpen::default(), Wait::default());
    let ramp = Recovery { start: 5, step: 5, every: Span::SECOND };
    let bad = [
        (Config { failure_rate: Some(zero), ..steady() }, "failure_rate"),
        (Config { slow: Some(slow), ..steady() }, "slow.rate"),
        (
            Config { slow: Some(Slow { duration: Span::ZERO, rate: Ratio::HALF }), ..steady() },
            "slow.duration",
        ),
        (Config { failures: Some(0), ..steady() }, "failures"),
        (Config { consecutive: Some(0), ..steady() }, "consecutive"),
        (Config { minimum_calls: 0, ..steady() }, "minimum_calls"),
        (Config { window: WindowKind::Count { size: 0 }, ..steady() }, "window.size"),
        (Config { window: WindowKind::Count { size: 65_536 }, ..steady() }, "window.size"),
        (Config { window: WindowKind::Count { size: 19 }, ..steady() }, "minimum_calls"),
        (Config { window: time(10, 0), ..steady() }, "window.buckets"),
        (Config { window: time(1_000_000, 65), ..steady() }, "window.buckets"),
        (Config { window: time(9_999, 10), ..steady() }, "window.length"),
        (Config { window: time(1_000_001, 10), ..steady() }, "window.length"),
        (Config { window: time(86_400_000_001, 1), ..steady() }, "window.length"),
        (probes(HalfOpen { permits: 0, ..half_open }), "half_open.permits"),
        (probes(HalfOpen { permits: 8_192, ..half_open }), "half_open.permits"),
        (probes(HalfOpen { permit_ttl: Span::ZERO, ..half_open }), "half_open.permit_ttl"),
        (probes(HalfOpen { max_wait: Some(Span::ZERO), ..half_open }), "half_open.max_wait"),
        (probes(HalfOpen { verdict: Verdict::Rates { minimum: Some(6) }, ..half_open }), "half_open.verdict"),
        (probes(HalfOpen { verdict: Verdict::Successes { needed: 0 }, ..half_open }), "half_open.verdict"),
        (with_wait(Wait { multiplier: 999, ..wait }), "wait.multiplier"),
        (with_wait(Wait { multiplier: 10_001, ..wait }), "wait.multiplier"),
        (with_wait(Wait { cap: Span::SECOND, ..wait }), "wait.cap"),
        (Config { recover: Some(Recovery { start: 0, ..ramp }), ..steady() }, "recover.start"),
        (Config { recover: Some(Recovery { step: 0, ..ramp }), ..steady() }, "recover.step"),
        (Config { recover: Some(Recovery { every: Span::ZERO, ..ramp }), ..steady() }, "recover.every"),
        (Config { overdue: true, ..steady() }, "overdue"),
        (Config { failure_rate: None, ..steady() }, "half_open.verdict"),
        (Config { failure_rate: None, consecutive: None, ..steady() }, "failure_rate"),
        (Config { initial: Mode::HalfOpen, ..steady() }, "initial"),
    ];
    for (config, field) in bad {
        let error = Breaker::new(config, 1, START).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(field), "{field}: {error:?}");
    }
    assert!(matches!(Ratio::new(2, 1), Err(ConfigError::Range { .. })));
    assert!(Ratio::new(0, 0).is_err() && Ratio::percent(101).is_err());
    assert!(Config::default().check().is_ok());
}
