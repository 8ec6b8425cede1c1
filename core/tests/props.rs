//! What every algorithm promises, for random histories. See `strategy` for what is random.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "props/strategy.rs"]
mod strategy;

use std::mem::discriminant;

use proptest::collection::vec;
use proptest::prelude::*;
use strategy::{Scene, edits, garbage, limits, play, taking, times, trading};
use tollgate_core::invariant::{Admission, broken};
use tollgate_core::limit::{
    Ask, Cost, FixedWindow, LeakyBucket, Limit, Rate, Refused, Retry, SlidingLog, SlidingWindow, State,
    TokenBucket, Window,
};
use tollgate_core::time::{MAX_MICROS, Span, Time};

/// The instant that a verdict told to come again, if time reaches that far.
fn told(now: Time, retry: Retry) -> Option<Time> {
    match retry {
        Retry::After(wait) if now.as_micros() + wait.as_micros() < MAX_MICROS => Some(now + wait),
        _ => None,
    }
}

fn allowed(limit: &Limit, state: Option<&State>, now: Time, ask: Ask) -> bool {
    limit.step(state, now, ask).verdict.allowed
}

/// What was admitted, and the latest instant that the limit knew of by then.
fn arrivals(scenes: &[Scene]) -> Vec<Admission> {
    let mut latest = Time::EPOCH;
    let admitted = |scene: &Scene| {
        latest = latest.max(if scene.written.is_some() { scene.now } else { Time::EPOCH });
        match scene.ask.cost {
            Cost::Take(cost) if scene.verdict.allowed => Some(Admission { at: latest, cost }),
            _ => None,
        }
    };
    scenes.iter().filter_map(admitted).collect()
}

/// What was admitted and when it leaves.
fn departures(scenes: &[Scene]) -> Vec<Admission> {
    let admitted = scenes.iter().filter(|scene| scene.verdict.allowed);
    let left = admitted.filter_map(|scene| match scene.ask.cost {
        Cost::Take(cost) => Some(Admission { at: scene.now + scene.verdict.wait, cost }),
        Cost::Refund(_) => None,
    });
    // What leaves at the end of time has a turn that cannot be told.
    left.take_while(|admission| admission.at < Time::MAX).collect()
}

proptest! {
    #[test]
    fn no_interval_holds_more_than_its_envelope(limit in limits(), start in times(), moves in taking()) {
        let scenes = play(std::slice::from_ref(&limit), start, &moves);
        let admitted = match limit {
            Limit::LeakyBucket(_) => departures(&scenes),
            _ => arrivals(&scenes),
        };
        prop_assert_eq!(broken(&limit, &admitted), None);
    }

    #[test]
    fn a_refusal_names_the_first_instant_that_admits(
        limits in edits(),
        start in times(),
        moves in trading(),
        between in 0..256_u128,
    ) {
        for scene in play(&limits, start, &moves).iter().filter(|scene| !scene.verdict.allowed) {
            let Scene { limit, after, now, ask, verdict, .. } = scene;
            let Some(first) = told(*now, verdict.retry_after) else { continue };
            prop_assert!(first > *now, "{scene:?}");
            prop_assert!(allowed(limit, after.as_ref(), first, *ask), "refused when told to come: {scene:?}");
            let some = *now + Span::from_wide(u128::from((first - *now).as_micros()) * between / 256);
            for early in [first - Span::MICRO, some] {
                prop_assert!(!allowed(limit, after.as_ref(), early, *ask), "admitted at {early:?}: {scene:?}");
            }
        }
    }

    #[test]
    fn never_means_more_than_the_limit_can_hold(limits in edits(), start in times(), moves in trading()) {
        for scene in play(&limits, start, &moves) {
            let too_much = matches!(scene.ask.cost, Cost::Take(units) if units > scene.limit.capacity());
            prop_assert_eq!(scene.verdict.retry_after == Retry::Never, too_much, "{:?}", scene);
        }
    }

    #[test]
    fn remaining_is_how_many_more_are_admitted_now(limits in edits(), start in times(), moves in trading()) {
        for scene in play(&limits, start, &moves) {
            let remaining = scene.verdict.remaining;
            let units = (0..remaining.min(20)).map(|_| 1);
            let rest = remaining.saturating_sub(20);
            let mut state = scene.after.clone();
            for cost in units.chain((rest > 0).then_some(rest)) {
                let step = scene.limit.step(state.as_ref(), scene.now, Ask { cost: Cost::Take(cost), ..scene.ask });
                prop_assert!(step.verdict.allowed, "{cost} of {remaining} refused: {scene:?}");
                state = step.state.or(state);
            }
            let one = Ask { cost: Cost::Take(1), ..scene.ask };
            prop_assert!(!allowed(&scene.limit, state.as_ref(), scene.now, one), "one more: {scene:?}");
        }
    }

    #[test]
    fn more_cost_never_helps(limits in edits(), start in times(), moves in trading(), part in 0..256_u64) {
        for scene in play(&limits, start, &moves) {
            let Cost::Take(units) = scene.ask.cost else { continue };
            let less = Ask { cost: Cost::Take(units / 256 * part + units % 256 * part / 256), ..scene.ask };
            let small = scene.limit.step(scene.before.as_ref(), scene.now, less).verdict;
            prop_assert!(small.allowed || !scene.verdict.allowed, "{less:?} {scene:?}");
            if let (Retry::After(sooner), Retry::After(later)) = (small.retry_after, scene.verdict.retry_after) {
                prop_assert!(sooner <= later, "{less:?} {scene:?}");
            }
        }
    }

    #[test]
    fn an_earlier_clock_never_admits_more(
        limits in edits(),
        start in times(),
        moves in trading(),
        earlier in times(),
        nearby in 0..1_000_u64,
    ) {
        for scene in play(&limits, start, &moves) {
            for past in [earlier.min(scene.now), scene.now - Span::from_micros(nearby)] {
                if let Cost::Refund(_) = scene.ask.cost { continue }
                let then = scene.limit.step(scene.before.as_ref(), past, scene.ask).verdict;
                prop_assert!(scene.verdict.allowed || !then.allowed, "at {past:?}: {scene:?}");
                let peek = Ask { cost: Cost::Take(0), ..scene.ask };
                let room = |now| scene.limit.step(scene.before.as_ref(), now, peek).verdict.remaining;
                prop_assert!(room(past) <= room(scene.now), "at {past:?}: {scene:?}");
            }
        }
    }

    #[test]
    fn a_peek_tells_and_changes_nothing(limits in edits(), start in times(), moves in trading()) {
        for scene in play(&limits, start, &moves) {
            let peek = Ask { cost: Cost::Take(0), ..scene.ask };
            let step = scene.limit.step(scene.after.as_ref(), scene.now, peek);
            prop_assert_eq!(&step.state, &None);
            prop_assert_eq!(step.verdict.used_before, step.verdict.used);
            prop_assert_eq!(step.verdict.used, scene.verdict.used, "{:?}", scene);
            prop_assert_eq!(step.verdict.remaining, scene.verdict.remaining, "{:?}", scene);
            prop_assert_eq!(step.verdict.reset_after, scene.verdict.reset_after, "{:?}", scene);
        }
    }

    #[test]
    fn a_refund_is_admitted_and_gives_back_no_more_than_was_used(
        limits in edits(),
        start in times(),
        moves in trading(),
    ) {
        for scene in play(&limits, start, &moves) {
            let Cost::Refund(units) = scene.ask.cost else { continue };
            let floor = scene.verdict.used_before.saturating_sub(units);
            prop_assert!(scene.verdict.allowed);
            prop_assert!((floor..=scene.verdict.used_before).contains(&scene.verdict.used), "{scene:?}");
            prop_assert!(scene.verdict.remaining <= scene.limit.capacity(), "{scene:?}");
            if units == 0 || scene.before.is_none() {
                prop_assert_eq!(&scene.written, &None);
            }
        }
    }

    #[test]
    fn a_refund_of_what_was_just_taken_restores_the_use(limits in edits(), start in times(), moves in taking()) {
        for scene in play(&limits, start, &moves).iter().filter(|scene| scene.verdict.allowed) {
            let Cost::Take(units) = scene.ask.cost else { continue };
            let back = scene.limit.step(scene.after.as_ref(), scene.now, Ask::refund(units)).verdict;
            prop_assert_eq!(back.used, scene.verdict.used_before, "{:?}", scene);
        }
    }

    #[test]
    fn a_refusal_writes_nothing_unless_refused_requests_count(
        limits in edits(),
        start in times(),
        moves in trading(),
    ) {
        for scene in play(&limits, start, &moves).iter().filter(|scene| !scene.verdict.allowed) {
            if !matches!(scene.limit, Limit::FixedWindow(_)) {
                prop_assert_eq!(&scene.written, &None);
                prop_assert_eq!(scene.verdict.used, scene.verdict.used_before);
            }
        }
    }

    #[test]
    fn an_expired_state_is_as_good_as_none(
        limits in edits(),
        start in times(),
        moves in trading(),
        later in 0..=MAX_MICROS,
        cost in 0..3_u64,
    ) {
        for scene in play(&limits, start, &moves) {
            let Some(state) = &scene.after else { continue };
            let expires = scene.limit.expires(state);
            for now in [expires, expires + Span::MICRO, expires + Span::from_micros(later)] {
                // The end of time stands for "never".
                if expires == Time::MAX { continue }
                for ask in [Ask::take(cost), Ask { patience: Span::ZERO, ..scene.ask }, Ask::refund(1)] {
                    let stale = scene.limit.step(Some(state), now, ask);
                    prop_assert_eq!(stale, scene.limit.step(None, now, ask), "{:?} {:?}", now, scene);
                }
            }
        }
    }

    #[test]
    fn a_reset_is_when_a_unit_used_is_used_no_more(limits in edits(), start in times(), moves in trading()) {
        for scene in play(&limits, start, &moves) {
            let Some(reset) = told(scene.now, Retry::After(scene.verdict.reset_after)) else { continue };
            if scene.verdict.used == 0 { continue }
            let used = |now| scene.limit.step(scene.after.as_ref(), now, Ask::peek()).verdict.used;
            prop_assert_eq!(used(reset), 0, "{:?}", scene);
            prop_assert!(used(reset - Span::MICRO) > 0, "{scene:?}");
        }
    }

    #[test]
    fn any_state_and_time_give_an_answer_that_can_be_stored(
        limits in edits(),
        state in garbage(),
        now in times(),
        moves in trading(),
    ) {
        for scene in play(&limits, now, &moves) {
            let step = scene.limit.step(Some(&state), scene.now, scene.ask);
            let verdict = step.verdict;
            prop_assert!(verdict.allowed || matches!(scene.ask.cost, Cost::Take(_)));
            prop_assert!(verdict.remaining <= scene.limit.capacity());
            prop_assert!(scene.limit.expires(&state) <= Time::MAX);
            for number in step.state.as_ref().map_or(Vec::new(), numbers) {
                prop_assert!(number <= MAX_MICROS, "{:?}", step);
            }
        }
    }

    #[test]
    fn a_state_of_another_algorithm_is_no_state(limit in limits(), state in garbage(), now in times()) {
        if !belongs(&state, &limit) {
            for ask in [Ask::take(1), Ask::peek(), Ask::refund(1)] {
                prop_assert_eq!(limit.step(Some(&state), now, ask), limit.step(None, now, ask));
            }
        }
    }

    #[test]
    fn editing_a_limit_to_and_fro_yields_no_more_than_the_largest(
        limits in edits(),
        start in times(),
        moves in taking(),
    ) {
        let Some(largest) = largest(&limits) else { return Ok(()) };
        let arrivals = arrivals(&play(&limits, start, &moves));
        prop_assert_eq!(broken(&largest, &arrivals), None);
    }

    #[test]
    fn a_bucket_gives_exactly_its_rate_in_the_long_run(
        count in 1..1_000_u64,
        per in 1_000_000..3_600_000_000_u64,
        gaps in vec(1..=2_000_000_000_u64, 1_000),
    ) {
        let rate = Rate::new(count, Span::from_micros(per)).unwrap();
        let token = Limit::TokenBucket(TokenBucket::new(rate, 2_000_001).unwrap());
        let leaky = Limit::LeakyBucket(LeakyBucket::new(rate, 2_000_000).unwrap());
        for limit in [token, leaky] {
            let mut state = limit.step(None, Time::EPOCH, Ask::take(limit.capacity())).state;
            let (mut now, mut total) = (Time::EPOCH, 0);
            for gap in &gaps {
                now = now + Span::from_micros(*gap);
                let room = limit.step(state.as_ref(), now, Ask::peek()).verdict.remaining;
                total += room;
                state = limit.step(state.as_ref(), now, Ask::take(room)).state.or(state);
            }
            let earned = u128::from(now.as_micros()) * u128::from(count) / u128::from(per);
            prop_assert_eq!(u128::from(total), earned);
        }
    }
}

/// A limit whose envelope holds for any sequence of these, if they are of one algorithm: the largest count,
/// the fastest rate, the shortest window. Arrivals at a leaky bucket are those at a token bucket of its
/// capacity; fixed windows of different lengths are disjoint, and none is shorter than the shortest.
fn largest(limits: &[Limit]) -> Option<Limit> {
    let capacity = limits.iter().map(Limit::capacity).max()?;
    let all = limits.iter();
    match limits.first()? {
        Limit::TokenBucket(_) | Limit::LeakyBucket(_) => {
            let rates: Option<Vec<Rate>> = all
                .map(|limit| match limit {
                    Limit::TokenBucket(bucket) => Some(bucket.rate()),
                    Limit::LeakyBucket(bucket) => Some(bucket.rate()),
                    _ => None,
                })
                .collect();
            let weight = |rate: &Rate, other: &Rate| u128::from(rate.count()) * u128::from(other.per());
            let fastest =
                rates?.into_iter().max_by(|one, other| weight(one, other).cmp(&weight(other, one)))?;
            let same = limits.iter().all(|limit| discriminant(limit) == discriminant(&limits[0]));
            TokenBucket::new(fastest, capacity).ok().filter(|_| same).map(Limit::TokenBucket)
        }
        Limit::FixedWindow(_) => {
            let lengths: Option<Vec<Span>> = all
                .map(|limit| match limit {
                    Limit::FixedWindow(fixed) => match fixed.window() {
                        Window::Epoch(length) | Window::Anchored(length) => Some(*length),
                        Window::Calendar(_) => None,
                    },
                    _ => None,
                })
                .collect();
            let window = Window::Anchored(lengths?.into_iter().min()?);
            FixedWindow::new(capacity, window, Refused::Free).ok().map(Limit::FixedWindow)
        }
        Limit::SlidingWindow(_) => {
            let lengths: Option<Vec<Span>> = all
                .map(|limit| match limit {
                    Limit::SlidingWindow(sliding) => Some(sliding.length()),
                    _ => None,
                })
                .collect();
            SlidingWindow::new(capacity, lengths?.into_iter().min()?).ok().map(Limit::SlidingWindow)
        }
        Limit::SlidingLog(_) => {
            let lengths: Option<Vec<Span>> = all
                .map(|limit| match limit {
                    Limit::SlidingLog(log) => Some(log.length()),
                    _ => None,
                })
                .collect();
            SlidingLog::new(capacity, lengths?.into_iter().min()?).ok().map(Limit::SlidingLog)
        }
    }
}

fn belongs(state: &State, limit: &Limit) -> bool {
    matches!(
        (state, limit),
        (State::TokenBucket(_), Limit::TokenBucket(_))
            | (State::LeakyBucket(_), Limit::LeakyBucket(_))
            | (State::FixedWindow(_), Limit::FixedWindow(_))
            | (State::SlidingWindow(_), Limit::SlidingWindow(_))
            | (State::SlidingLog(_), Limit::SlidingLog(_))
    )
}

fn numbers(state: &State) -> Vec<u64> {
    match state {
        State::TokenBucket(level) | State::LeakyBucket(level) => vec![level.used, level.credit, level.per],
        State::FixedWindow(state) => vec![state.count],
        State::SlidingWindow(state) => vec![state.previous, state.current],
        State::SlidingLog(log) => log.entries().iter().map(|(_, units)| *units).collect(),
    }
}
