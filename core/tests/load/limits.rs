//! Limits, throttles and budgets against plain models of themselves.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate_core::load::algorithm::{Algorithm, AlgorithmConfig, Bounds, GuardConfig, Sample};
use tollgate_core::load::budget::{Attempt, BudgetConfig, RetryBudget};
use tollgate_core::load::concurrency::{Limiter, LimiterConfig, Outcome, PartitionConfig, Slot};
use tollgate_core::load::criticality::Criticality;
use tollgate_core::load::ratio::Ratio;
use tollgate_core::load::throttle::{Throttle, ThrottleConfig};
use tollgate_core::time::{Span, Time};

const START: u64 = 1_000_000_000;

fn algorithms() -> impl Strategy<Value = AlgorithmConfig> {
    prop_oneof![
        Just(AlgorithmConfig::Fixed),
        Just(AlgorithmConfig::Aimd(Default::default())),
        Just(AlgorithmConfig::Vegas(Default::default())),
        Just(AlgorithmConfig::Gradient2(Default::default())),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let ordered = |(one, two, three): (u32, u32, u32)| {
        let mut sorted = [one, two, three];
        sorted.sort_unstable();
        Bounds { min: sorted[0], initial: sorted[1], max: sorted[2] }
    };
    prop_oneof![(1..50_u32, 1..50_u32, 1..50_u32), (1..=1_000_000_u32, 1..1_000_u32, 1..1_000_000_u32)]
        .prop_map(ordered)
}

fn samples() -> impl Strategy<Value = Sample> {
    let rtt = prop_oneof![0..1_000_u64, 0..1_000_000_u64, any::<u64>()];
    let in_flight = prop_oneof![0..100_u32, any::<u32>()];
    let sample = |(rtt, in_flight, dropped)| Sample { rtt: Span::from_micros(rtt), in_flight, dropped };
    (rtt, in_flight, prop::bool::weighted(0.1)).prop_map(sample)
}

proptest! {
    #[test]
    fn a_limit_stays_within_its_bounds(
        config in algorithms(),
        bounds in bounds(),
        seed in any::<u64>(),
        samples in vec((samples(), proptest::option::weighted(0.05, any::<u32>())), 0..300),
    ) {
        let mut algorithm = Algorithm::new(&config, bounds, seed).unwrap();
        for (sample, set) in samples {
            let limit = algorithm.update(&sample);
            prop_assert!((bounds.min..=bounds.max).contains(&limit), "{limit} {bounds:?}");
            prop_assert_eq!(limit, algorithm.limit());
            if let Some(set) = set {
                let limit = algorithm.set(set);
                prop_assert!((bounds.min..=bounds.max).contains(&limit), "{limit} {bounds:?}");
            }
        }
    }

    #[test]
    fn a_drop_never_raises_and_unused_room_never_grows(
        config in algorithms(),
        bounds in bounds(),
        samples in vec(samples(), 1..100),
    ) {
        let mut algorithm = Algorithm::new(&config, bounds, 1).unwrap();
        for sample in samples {
            let before = algorithm.limit();
            let after = algorithm.update(&sample);
            let unused = u64::from(sample.in_flight) * 2 < u64::from(before);
            prop_assert!(after <= before || !(sample.dropped || unused), "{before} -> {after} {sample:?}");
        }
    }

    #[test]
    fn slots_are_counted_and_bounded(
        config in algorithms(),
        guarded in any::<bool>(),
        moves in vec((0..6_u8, 0..400_000_u64, any::<prop::sample::Index>()), 0..400),
    ) {
        let partition = |name: &str, percent| PartitionConfig { name: name.into(), share: Ratio::from_percent(percent) };
        let config = LimiterConfig {
            bounds: Bounds { min: 1, initial: 3, max: 8 },
            algorithm: config,
            guard: guarded.then(GuardConfig::default),
            partitions: vec![partition("a", 25), partition("b", 10)],
            ..LimiterConfig::default()
        };
        let mut now = START;
        let limiter = Limiter::new(&config, Time::from_micros(now)).unwrap();
        let ids = ["a", "b"].map(|name| limiter.partition(name).unwrap());
        let mut slots: Vec<Slot> = Vec::new();
        for (kind, gap, index) in moves {
            now += gap;
            let at = Time::from_micros(now);
            let got = match kind {
                0 | 1 => limiter.acquire(at),
                2 | 3 => limiter.acquire_for(at, ids[usize::from(kind - 2)]),
                _ if slots.is_empty() => continue,
                _ => {
                    let slot = slots.swap_remove(index.index(slots.len()));
                    let outcomes = [Outcome::Done, Outcome::Dropped, Outcome::Ignored];
                    limiter.release(slot, at, outcomes[index.index(3)]);
                    continue;
                }
            };
            let full = slots.len() >= usize::try_from(limiter.limit()).unwrap();
            prop_assert_eq!(got.is_err() && !full, false, "refused below the limit");
            prop_assert!(got.is_err() || !full || kind >= 2, "only a share goes beyond the limit");
            slots.extend(got);
            prop_assert_eq!(usize::try_from(limiter.in_flight()).unwrap(), slots.len());
            // the shares of 8 are 2 and 1
            prop_assert!(slots.len() <= 8 + 3);
        }
        for slot in slots {
            limiter.release(slot, Time::from_micros(now), Outcome::Ignored);
        }
        prop_assert_eq!(limiter.in_flight(), 0);
    }
}

/// Events of the last slots, as a plain list: what a rolling window of `slots` of `width` must show.
struct Model {
    width: u64,
    slots: u64,
    start: u64,
    events: VecDeque<(u64, i64)>,
}

impl Model {
    fn new(width: u64, slots: u64) -> Model {
        Model { width, slots, start: START, events: VecDeque::new() }
    }

    fn add(&mut self, now: u64, value: i64) {
        self.events.push_back(((now - self.start) / self.width, value));
    }

    fn sum(&mut self, now: u64) -> i64 {
        let slot = (now - self.start) / self.width;
        self.events.retain(|(of, _)| of + self.slots > slot);
        self.events.iter().map(|(_, value)| value).sum()
    }
}

proptest! {
    #[test]
    fn a_budget_is_its_model_and_never_below_zero_nor_above_its_cap(
        percent in 0..=100_u32,
        min_rps in 0..5_u32,
        timeout_cost in 1..4_u32,
        moves in vec((0..6_u8, prop_oneof![Just(0), 0..3_000_000_u64]), 0..300),
    ) {
        let ratio = Ratio::from_percent(percent);
        let config = BudgetConfig { ratio, min_rps, timeout_cost, ..BudgetConfig::default() };
        let budget = RetryBudget::new(&config, Time::from_micros(START)).unwrap();
        let reserve = i64::from(min_rps) * 10_000_000;
        let mut balance = Model::new(1_000_000, 10);
        let mut deposits = Model::new(1_000_000, 10);
        let mut now = START;
        for (kind, gap) in moves {
            now += gap;
            let at = Time::from_micros(now);
            let (attempt, cost) = match kind {
                0..=2 => {
                    budget.deposit(at);
                    balance.add(now, i64::from(percent) * 10_000);
                    deposits.add(now, i64::from(percent) * 10_000);
                    continue;
                }
                3 => (Attempt::Retry, 1_000_000),
                4 => (Attempt::Hedge, 1_000_000),
                _ => (Attempt::AfterTimeout, i64::from(timeout_cost) * 1_000_000),
            };
            let left = balance.sum(now) + reserve;
            prop_assert_eq!(budget.available(at), u64::try_from(left).unwrap_or(0));
            prop_assert!(left <= reserve + deposits.sum(now));
            prop_assert_eq!(budget.try_withdraw(at, attempt), left >= cost, "{} of {}", cost, left);
            if left >= cost {
                balance.add(now, -cost);
            }
        }
    }

    #[test]
    fn a_throttle_is_its_model_and_never_above_its_cap(
        cap in 0..=100_u32,
        k in 100..300_u32,
        moves in vec((0..4_u8, prop_oneof![Just(0), 0..20_000_000_u64], any::<u32>()), 0..300),
    ) {
        let config = ThrottleConfig {
            k: Ratio::from_percent(k),
            max_rejection: Ratio::from_percent(cap),
            min_rps: 0,
            ..ThrottleConfig::default()
        };
        let throttle = Throttle::new(&config, Time::from_micros(START)).unwrap();
        let (mut requests, mut accepts) = (Model::new(5_000_000, 24), Model::new(5_000_000, 24));
        let mut now = START;
        for (kind, gap, roll) in moves {
            now += gap;
            let at = Time::from_micros(now);
            if kind == 0 {
                throttle.record(at, true);
                accepts.add(now, 1);
                continue;
            }
            let (sent, good) = (requests.sum(now), accepts.sum(now));
            let surplus = (sent * 1_000_000 - i64::from(k) * 10_000 * good).max(0);
            let expected = u32::try_from(surplus / (sent + 1)).unwrap().min(cap * 10_000);
            prop_assert_eq!(throttle.probability(at, Criticality::Critical).millionths(), expected);
            let rejected = u64::from(roll) * 1_000_000 < u64::from(expected) << 32;
            let found = throttle.admit(at, roll, Criticality::Critical);
            prop_assert_eq!(found.is_err(), rejected, "{} {}", roll, expected);
            requests.add(now, 1);
        }
    }

    #[test]
    fn a_higher_class_is_never_held_back_more(sent in 0..300_u32, accepted in 0..300_u32) {
        let now = Time::from_micros(START);
        let throttle = Throttle::new(&ThrottleConfig::default(), now).unwrap();
        for _ in 0..sent {
            prop_assert!(throttle.admit(now, u32::MAX, Criticality::Critical).is_ok());
        }
        (0..accepted).for_each(|_| throttle.record(now, true));
        let shares = Criticality::ALL.map(|class| throttle.probability(now, class));
        prop_assert!(shares.windows(2).all(|pair| pair[0] >= pair[1]), "{shares:?}");
        prop_assert!(shares[0] <= Ratio::from_percent(90));
    }
}
