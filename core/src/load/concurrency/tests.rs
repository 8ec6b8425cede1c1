use super::*;

fn at(micros: u64) -> Time {
    Time::from_micros(micros)
}

fn limiter(config: &LimiterConfig) -> Limiter {
    Limiter::new(config, at(0)).unwrap()
}

fn fixed(initial: u32, partitions: &[(&str, u32)]) -> Limiter {
    let share = |(name, percent): &(&str, u32)| PartitionConfig {
        name: (*name).to_string(),
        share: Ratio::from_percent(*percent),
    };
    limiter(&LimiterConfig {
        bounds: Bounds { initial, ..Bounds::default() },
        algorithm: AlgorithmConfig::Fixed,
        partitions: partitions.iter().map(share).collect(),
        ..LimiterConfig::default()
    })
}

/// `windows` seconds of calls at the limit, each of which takes `rtt(limit)`.
fn run(limiter: &Limiter, start: u64, windows: u64, rtt: impl Fn(u32) -> Span) -> u32 {
    for second in start..start + windows {
        let begin = at(second * 1_000_000);
        let slots: Vec<Slot> = std::iter::from_fn(|| limiter.acquire(begin).ok()).collect();
        let took = rtt(limiter.limit());
        let rounds = 10_u32.div_ceil(limiter.limit()).max(2);
        for slot in slots {
            limiter.release(slot, begin + took, Outcome::Done);
        }
        for _ in 1..rounds {
            let slots: Vec<Slot> = std::iter::from_fn(|| limiter.acquire(begin).ok()).collect();
            for slot in slots {
                limiter.release(slot, begin + took, Outcome::Done);
            }
        }
        let last = limiter.acquire(at((second + 1) * 1_000_000 - 1)).unwrap();
        limiter.release(last, at((second + 1) * 1_000_000 - 1) + took, Outcome::Done);
    }
    limiter.limit()
}

#[test]
fn a_full_limiter_refuses_and_a_released_slot_makes_room() {
    let limiter = fixed(2, &[]);
    let (one, two) = (limiter.acquire(at(0)).unwrap(), limiter.acquire(at(0)).unwrap());
    assert_eq!(limiter.acquire(at(0)).unwrap_err(), Full { limit: 2 });
    limiter.release(one, at(1), Outcome::Ignored);
    let three = limiter.acquire(at(1)).unwrap();
    assert_eq!(limiter.in_flight(), 2);
    limiter.release(two, at(2), Outcome::Done);
    limiter.release(three, at(2), Outcome::Dropped);
    assert_eq!(limiter.in_flight(), 0);
}

#[test]
fn a_share_counts_only_at_the_limit() {
    let limiter = fixed(10, &[("live", 30), ("batch", 20)]);
    let (live, batch) = (limiter.partition("live").unwrap(), limiter.partition("batch").unwrap());
    assert_eq!(limiter.partition("other"), None);
    let mut slots: Vec<Slot> = (0..10).map(|_| limiter.acquire_for(at(0), batch).unwrap()).collect();
    assert_eq!(limiter.acquire_for(at(0), batch).unwrap_err(), Full { limit: 10 });
    assert!(limiter.acquire(at(0)).is_err());
    slots.extend((0..3).map(|_| limiter.acquire_for(at(0), live).unwrap()));
    assert!(limiter.acquire_for(at(0), live).is_err(), "its share is used");
    assert_eq!(limiter.in_flight(), 13);
    for slot in slots {
        limiter.release(slot, at(1), Outcome::Ignored);
    }
    assert_eq!(limiter.in_flight(), 0);
    let counts: Vec<u32> =
        limiter.partitions.iter().map(|partition| partition.in_flight.load(Ordering::Relaxed)).collect();
    assert_eq!(counts, [0, 0]);
}

#[test]
fn a_small_share_is_one_call() {
    let limiter = fixed(2, &[("live", 10)]);
    let live = limiter.partition("live").unwrap();
    let slots: Vec<Slot> = std::iter::from_fn(|| limiter.acquire(at(0)).ok()).collect();
    let own = limiter.acquire_for(at(0), live).unwrap();
    assert_eq!(limiter.acquire_for(at(0), live).unwrap_err(), Full { limit: 2 });
    limiter.release(own, at(1), Outcome::Ignored);
    assert_eq!((slots.len(), limiter.in_flight()), (2, 2));
}

#[test]
fn it_learns_once_a_window_and_not_from_few_calls() {
    let limiter = limiter(&LimiterConfig {
        algorithm: AlgorithmConfig::Aimd(Default::default()),
        ..Default::default()
    });
    let call = |begin: u64, end: u64, outcome| {
        let slots: Vec<Slot> = (0..10).map(|_| limiter.acquire(at(begin)).unwrap()).collect();
        for slot in slots {
            limiter.release(slot, at(end), outcome);
        }
    };
    call(0, 500_000, Outcome::Done);
    assert_eq!(limiter.limit(), 20, "the window goes on");
    call(900_000, 1_000_000, Outcome::Done);
    assert_eq!(limiter.limit(), 21);
    call(1_999_950, 2_000_000, Outcome::Done);
    assert_eq!(limiter.limit(), 21, "50 us is too short to count");
    call(1_900_000, 2_100_000, Outcome::Ignored);
    assert_eq!(limiter.limit(), 21, "ignored calls do not count");
    call(1_900_000, 2_200_000, Outcome::Dropped);
    assert_eq!(limiter.limit(), 18);
}

#[test]
fn a_tolerated_share_of_drops_is_no_drop() {
    let window = WindowConfig { tolerated_drops: Ratio::from_percent(10), ..WindowConfig::default() };
    let algorithm = AlgorithmConfig::Aimd(Default::default());
    let limiter = limiter(&LimiterConfig { algorithm, window, ..Default::default() });
    let calls = |second: u64, drops: usize| {
        let slots: Vec<Slot> = (0..20).map(|_| limiter.acquire(at(second * 1_000_000)).unwrap()).collect();
        for (index, slot) in slots.into_iter().enumerate() {
            let outcome = if index < drops { Outcome::Dropped } else { Outcome::Done };
            let end = if index == 19 { 1_000_000 } else { 900_000 };
            limiter.release(slot, at(second * 1_000_000 + end), outcome);
        }
        limiter.limit()
    };
    assert_eq!(calls(0, 2), 21, "two of twenty");
    assert_eq!(calls(1, 3), 18, "three of twenty");
}

/// A target that does `room` calls at once in 10 ms each; more of them wait.
fn target(room: u32) -> impl Fn(u32) -> Span {
    move |in_flight| Span::from_micros(10_000 * u64::from(in_flight.max(room)) / u64::from(room))
}

#[test]
fn every_algorithm_grows_on_a_target_with_room() {
    for algorithm in [
        AlgorithmConfig::Aimd(Default::default()),
        AlgorithmConfig::Vegas(Default::default()),
        AlgorithmConfig::Gradient2(Default::default()),
    ] {
        let limiter = limiter(&LimiterConfig { algorithm, ..Default::default() });
        let limit = run(&limiter, 0, 50, target(1_000));
        assert!(limit > 55, "{algorithm:?}: {limit}");
    }
}

#[test]
fn gradient_falls_when_the_target_gets_slow() {
    let limiter = limiter(&LimiterConfig::default());
    let before = run(&limiter, 0, 60, target(1_000));
    let after = run(&limiter, 60, 30, |_| Span::from_millis(100));
    assert!(after * 3 < before, "{before} -> {after}");
}

#[test]
fn the_guard_stops_the_drift_that_latency_alone_does_not_see() {
    let drift = |guard| {
        let limiter = limiter(&LimiterConfig { guard, ..Default::default() });
        run(&limiter, 0, 2_000, target(40))
    };
    let (without, with) = (drift(None), drift(Some(GuardConfig::default())));
    assert!(without > 200, "{without}");
    assert!((20..=80).contains(&with), "{with}");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let error = |config: LimiterConfig| Limiter::new(&config, at(0)).unwrap_err().to_string();
    let window = WindowConfig { samples: 0, ..WindowConfig::default() };
    let config = LimiterConfig { window, ..Default::default() };
    assert_eq!(error(config), "window.samples 0 is out of range: 1 to 10000");
    let partition =
        |name: &str, percent| PartitionConfig { name: name.into(), share: Ratio::from_percent(percent) };
    let with = |partitions| LimiterConfig { partitions, ..Default::default() };
    assert!(error(with(vec![partition("a", 0)])).starts_with("partitions.share 0 is out of range"));
    let sum = error(with(vec![partition("a", 60), partition("b", 50)]));
    assert_eq!(sum, "the sum of partitions.share 1.1 is out of range: 0 to 1");
    let twice = error(with(vec![partition("a", 10), partition("a", 10)]));
    assert_eq!(twice, "partitions.name a is out of range: each name once");
}
