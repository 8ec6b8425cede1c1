//! What is spent from leases and what requests are admitted stay together within the limit, over any interval;
//! and leases do not slow it down.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "leases/world.rs"]
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate_core::invariant::{Admission, broken};
use tollgate_core::lease::{Draft, Draw, MAX_TTL, MIN_TTL, Offer, Terms, divide};
use tollgate_core::limit::{
    Ask, FixedWindow, Limit, Rate, Refused, Retry, SlidingWindow, TokenBucket, Verdict, Window,
};
use tollgate_core::rules::{Accuracy, Answer, By};
use tollgate_core::time::{Span, Time};
use world::{World, matcher, query};

/// An instant that no window begins with.
const START: Time = Time::from_micros(1_789_000_000_123_457);

fn bucket(count: u64, burst: u64) -> Limit {
    Limit::TokenBucket(TokenBucket::new(Rate::new(count, Span::SECOND).unwrap(), burst).unwrap())
}

fn sliding(limit: u64, length: Span) -> Limit {
    Limit::SlidingWindow(SlidingWindow::new(limit, length).unwrap())
}

fn window(limit: u64, window: Window) -> Limit {
    Limit::FixedWindow(FixedWindow::new(limit, window, Refused::Counts).unwrap())
}

/// Limits that can be leased.
fn limits() -> impl Strategy<Value = Limit> {
    prop_oneof![
        3 => (1..7_000_u64, 1_000..8_000_u64).prop_map(|(count, burst)| bucket(count, burst)),
        2 => (1_000..8_000_u64, 1_100..60_000_u64)
            .prop_map(|(limit, millis)| sliding(limit, Span::from_millis(millis))),
        1 => (1..3_000_u64, 30..2_000_u64)
            .prop_map(|(limit, millis)| window(limit, Window::Epoch(Span::from_millis(millis)))),
        1 => (1..3_000_u64, 30..2_000_u64)
            .prop_map(|(limit, millis)| window(limit, Window::Anchored(Span::from_millis(millis)))),
    ]
    .prop_filter("can be leased", |limit| Terms::of(limit, Accuracy::Leased).is_some())
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Check(u64),
    /// Wanted, part of the longest life in 1/16, part of it that the request was on its way in 1/256.
    Buy(u64, u64, u64),
    /// As many leases as there are, one after the other.
    BuyAll,
    Spend(usize, u64),
    GiveBack(usize),
    SpendAll,
}

fn moves() -> impl Strategy<Value = Vec<(u64, Move)>> {
    let next = prop_oneof![
        2 => (1..400_u64).prop_map(Move::Check),
        5 => (1..3_000_u64, 1..=16_u64, 0..64_u64).prop_map(|(wanted, ttl, late)| Move::Buy(wanted, ttl, late)),
        2 => Just(Move::BuyAll),
        3 => (0..40_usize, 1..500_u64).prop_map(|(lease, units)| Move::Spend(lease, units)),
        3 => (0..40_usize).prop_map(Move::GiveBack),
        2 => Just(Move::SpendAll),
    ];
    // in 1/256 of the longest life: most moves follow at once, some leave time for leases to end
    let gap = prop_oneof![4 => Just(0_u64), 4 => 0..40_u64, 2 => 100..260_u64, 1 => 0..2_000_u64];
    vec((gap, next), 1..120)
}

/// A time that leases of `limit` can live for, in which the moves are measured.
fn life(limit: &Limit) -> Span {
    match (Terms::of(limit, Accuracy::Leased), limit) {
        (Some(Terms::Pool(pool)), _) => pool.ttl(),
        (_, Limit::FixedWindow(fixed)) => match fixed.window() {
            Window::Epoch(length) | Window::Anchored(length) => *length,
            Window::Calendar(_) => Span::SECOND,
        },
        _ => Span::SECOND,
    }
}

fn part(of: Span, number: u64, parts: u64) -> Span {
    Span::from_micros(of.as_micros() * number / parts)
}

fn play(limit: &Limit, moves: &[(u64, Move)]) -> World {
    let mut world = World::new(limit.clone(), START);
    let life = life(limit);
    for (gap, next) in moves {
        world.now = world.now + part(life, *gap, 256);
        match *next {
            Move::Check(units) => {
                world.check(units);
            }
            Move::Buy(wanted, ttl, late) => {
                world.buy(wanted, part(life, ttl, 16), part(life, late, 256));
            }
            Move::BuyAll => {
                while world.leases.len() < 200 && world.buy(u64::MAX, MAX_TTL, Span::ZERO).is_some() {}
            }
            Move::Spend(lease, units) => {
                world.spend(lease, units);
            }
            Move::GiveBack(lease) => world.give_back(lease),
            Move::SpendAll => world.spend_all(),
        }
        world.check_pool();
    }
    world.spend_all();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_interval_holds_more_than_the_limit_allows(limit in limits(), moves in moves()) {
        let world = play(&limit, &moves);
        prop_assert_eq!(broken(&limit, &world.spent), None);
    }
}

/// Holds as much as it can in leases, giving back those that can no longer be spent so that their charges do not
/// stand in the way of new ones, then spends all of them and all the rest at once.
fn worst_moment(limit: &Limit) -> World {
    let mut world = World::new(limit.clone(), START);
    let life = life(limit);
    for _ in 0..700 {
        (0..world.leases.len())
            .filter(|&lease| world.has_ended(lease))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|lease| world.give_back(lease));
        while world.buy(u64::MAX, MAX_TTL, Span::ZERO).is_some() {}
        world.check_pool();
        world.now = world.now + part(life, 1, 256);
    }
    world.spend_all();
    world
}

#[test]
fn the_worst_moment_comes_near_the_whole_limit_and_never_over_it() {
    for limit in [bucket(1_000, 1_000), bucket(7_500, 1_000), sliding(4_000, Span::from_secs(60))] {
        let world = worst_moment(&limit);
        assert_eq!(broken(&limit, &world.spent), None, "{limit:?}");
        let at_once: u64 = world.spent.iter().map(|spent| spent.cost).sum();
        let capacity = limit.capacity();
        assert!(at_once * 4 >= capacity * 3, "{limit:?}: {at_once} of {capacity} could be spent");
    }
}

#[test]
fn without_a_pool_the_worst_moment_breaks_the_limit() {
    let limit = bucket(1_000, 1_000);
    let ttl = life(&limit);
    // leases charged to the whole limit, spent just before they end, with what has come back meanwhile
    let granted = limit.step(None, START, Ask::take(1_000));
    assert!(granted.verdict.allowed);
    let last = START + (ttl - Span::MICRO);
    let back = limit.step(granted.state.as_ref(), last, Ask::peek()).verdict.remaining;
    let spent = [Admission { at: last, cost: 1_000 }, Admission { at: last, cost: back }];
    assert_eq!(broken(&limit, &spent).unwrap().excess(), u128::from(back));
    assert_eq!(back, 149, "150 ms of 1 000 a second");
}

/// How a client of the fleet buys.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// When nothing is left.
    Empty,
    /// When half is left, which it gives back.
    Half,
}

/// Units that four clients spend in `seconds`, as fast as they get them; each asks once in two milliseconds.
fn fleet(limit: &Limit, habit: Habit, seconds: u64) -> World {
    let mut world = World::new(limit.clone(), START);
    let mut held: [Option<usize>; 4] = [None; 4];
    for _ in 0..seconds * 500 {
        for mine in &mut held {
            if let Some(lease) = mine.take() {
                let units = match habit {
                    Habit::Empty => u64::MAX,
                    Habit::Half => world.leases[lease].left.div_ceil(2),
                };
                world.spend(lease, units);
                world.give_back(lease);
            }
            *mine = world.buy(500, MAX_TTL, Span::ZERO).map(|_| world.leases.len() - 1);
        }
        world.now = world.now + Span::from_millis(2);
    }
    world
}

#[test]
fn a_greedy_fleet_gets_the_whole_rate_when_the_burst_is_gone() {
    let minute = Span::from_secs(60);
    for (limit, per_second, percent) in [
        (bucket(1_000, 1_000), 1_000, 95),
        (bucket(6_000, 1_000), 6_000, 95),
        (bucket(100, 5_000), 100, 95),
        // a sixteenth of a sliding window's rate is its pool
        (sliding(60_000, minute), 1_000, 93),
        (window(1_000, Window::Epoch(Span::SECOND)), 1_000, 95),
    ] {
        for habit in [Habit::Empty, Habit::Half] {
            let world = fleet(&limit, habit, 10);
            assert_eq!(broken(&limit, &world.spent), None, "{limit:?} {habit:?}");
            let half = START + Span::from_secs(5);
            let late = world.spent.iter().filter(|spent| spent.at >= half);
            let spent: u64 = late.map(|spent| spent.cost).sum();
            assert!(spent * 100 >= 5 * per_second * percent, "{limit:?} {habit:?}: {spent} in 5 s");
        }
    }
}

#[test]
fn the_last_token_is_found_and_the_refusal_after_it_is_exact() {
    let limit = bucket(1_000, 1_000);
    let mut world = World::new(limit.clone(), START);
    assert!(world.check(499));
    assert_eq!(world.buy(500, MAX_TTL, Span::ZERO), Some(1));
    let matcher = matcher(limit, Accuracy::Leased);
    let plan = matcher.plan(&query());
    let draft = Draft::of(&plan);
    assert_eq!(world.buy(500, MAX_TTL, Span::ZERO), None);
    let refused = answer(false, 0, Span::from_millis(1));
    let looks = [refused, answer(true, 10, Span::ZERO)];
    assert_eq!(draft.offer(500, &looks), Offer::Tokens { tokens: 1, near: true });
    assert_eq!(draft.draw(&looks), Draw::Refused(Retry::After(Span::from_millis(1))));
    world.now = world.now + Span::from_micros(999);
    assert_eq!(world.buy(1, MAX_TTL, Span::ZERO), None);
    world.now = world.now + Span::MICRO;
    assert_eq!(world.buy(1, MAX_TTL, Span::ZERO), Some(1));
}

fn answer(allowed: bool, remaining: u64, retry: Span) -> Answer {
    let verdict = Verdict {
        allowed,
        limit: 500,
        remaining,
        used_before: 500 - remaining,
        used: 500 - remaining,
        retry_after: Retry::After(retry),
        reset_after: Span::SECOND,
        wait: Span::ZERO,
    };
    Answer { verdict, by: By::Memory }
}

#[test]
fn a_window_that_ends_too_soon_is_waited_for() {
    let matcher = matcher(window(1_000, Window::Epoch(Span::SECOND)), Accuracy::Auto);
    let plan = matcher.plan(&query());
    let draft = Draft::of(&plan);
    let ends_in = |span: Span| {
        let mut look = answer(true, 400, Span::ZERO);
        look.verdict.reset_after = span;
        draft.offer(1_000, &[look])
    };
    assert_eq!(ends_in(MIN_TTL), Offer::Tokens { tokens: 100, near: false });
    assert_eq!(ends_in(MIN_TTL - Span::MICRO), Offer::TooShort(MIN_TTL - Span::MICRO));
}

#[test]
fn a_strict_rule_bars_a_lease_and_an_uncounted_answer_makes_none() {
    let strict = matcher(bucket(1_000, 1_000), Accuracy::Strict);
    let plan = strict.plan(&query());
    let look = answer(true, 400, Span::ZERO);
    assert_eq!(Draft::of(&plan).offer(10, &[look]), Offer::Barred);
    let leased = matcher(bucket(1_000, 1_000), Accuracy::Leased);
    let plan = leased.plan(&query());
    let draft = Draft::of(&plan);
    assert_eq!(draft.own(), 1);
    assert_eq!(draft.hits(3).len(), 2, "the limit and its pool");
    let Some(Terms::Pool(pool)) = Terms::of(&bucket(1_000, 1_000), Accuracy::Leased) else {
        panic!("no pool")
    };
    assert_eq!(draft.draw(&[look, look]), Draw::Granted { ttl: pool.ttl(), ends: pool.period() });
    for by in [By::Full, By::Fallback, By::Share, By::Denial] {
        assert_eq!(draft.draw(&[look, Answer { by, ..look }]), Draw::Uncounted, "{by:?}");
    }
}

#[test]
fn what_a_divided_limit_and_its_pool_hold_is_the_limit() {
    for limit in [bucket(1_000, 1_001), sliding(1_007, Span::from_secs(60))] {
        let (left, terms) = divide(limit.clone(), Accuracy::Leased);
        let Some(Terms::Pool(pool)) = terms else { panic!("{limit:?}") };
        assert_eq!(left.capacity() + pool.size(), limit.capacity());
        assert_eq!(pool.capacity(), limit.capacity());
    }
}
