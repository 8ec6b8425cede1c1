//! The oracle from outside: never a false alarm, and with exact instants as sharp as the one from inside.

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate_core::invariant::{Admission, Observed, broken, surely_broken};
use tollgate_core::limit::{
    FixedWindow, LeakyBucket, Limit, Rate, Refused, SlidingLog, SlidingWindow, TokenBucket, Window,
};
use tollgate_core::time::{Span, Time};

fn limits() -> impl Strategy<Value = Limit> {
    (0..6, 1..8_u64, 1..40_u64, 1..8_u64).prop_filter_map("too fast", |(kind, count, micros, most)| {
        let per = Span::from_micros(micros);
        let rate = Rate::new(count, per).ok()?;
        match kind {
            0 => TokenBucket::new(rate, most).ok().map(Limit::TokenBucket),
            1 => LeakyBucket::new(rate, most).ok().map(Limit::LeakyBucket),
            2 => SlidingWindow::new(most, per).ok().map(Limit::SlidingWindow),
            3 => SlidingLog::new(most, per).ok().map(Limit::SlidingLog),
            4 => FixedWindow::new(most, Window::Epoch(per), Refused::Counts).ok().map(Limit::FixedWindow),
            _ => FixedWindow::new(most, Window::Anchored(per), Refused::Free).ok().map(Limit::FixedWindow),
        }
    })
}

/// Anchored windows and departures are judged more mildly from outside.
fn mild(limit: &Limit) -> bool {
    match limit {
        Limit::LeakyBucket(_) => true,
        Limit::FixedWindow(fixed) => matches!(fixed.window(), Window::Anchored(_)),
        _ => false,
    }
}

fn at(micros: u64) -> Time {
    Time::from_micros(micros)
}

fn seen(sent: u64, received: u64, cost: u64) -> Observed {
    Observed { sent: at(sent), received: at(received), cost }
}

/// Gap to the one before, cost, and how much earlier it was asked and later answered.
fn histories() -> impl Strategy<Value = Vec<(u64, u64, u64, u64)>> {
    vec((0..30_u64, 1..4_u64, 0..20_u64, 0..20_u64), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_keeps_a_limit_is_never_called_a_breach(limit in limits(), history in histories()) {
        let (mut kept, mut observed) = (Vec::new(), Vec::new());
        let mut now = 100;
        for (gap, cost, earlier, later) in history {
            now += gap;
            kept.push(Admission { at: at(now), cost });
            if broken(&limit, &kept).is_some() {
                kept.pop();
            } else {
                observed.push(seen(now - earlier, now + later, cost));
            }
        }
        prop_assert_eq!(surely_broken(&limit, &observed), None);
    }

    #[test]
    fn exact_instants_are_judged_as_from_inside(
        limit in limits().prop_filter("judged mildly", |limit| !mild(limit)),
        history in histories(),
    ) {
        let (mut admissions, mut observed) = (Vec::new(), Vec::new());
        let mut now = 0;
        for (gap, cost, _, _) in history {
            now += gap;
            admissions.push(Admission { at: at(now), cost });
            observed.push(seen(now, now, cost));
        }
        let inside = broken(&limit, &admissions);
        let outside = surely_broken(&limit, &observed);
        prop_assert_eq!(inside.is_some(), outside.is_some());
        if let (Some(inside), Some(outside)) = (inside, outside) {
            prop_assert_eq!(inside.until, outside.until);
        }
    }
}

#[test]
fn what_was_asked_late_enough_and_answered_soon_enough_is_too_much() {
    let rate = Rate::new(1, Span::from_micros(10)).unwrap();
    let limit = Limit::TokenBucket(TokenBucket::new(rate, 2).unwrap());
    // three within 20 us: allowed are 2 + 2
    assert_eq!(surely_broken(&limit, &[seen(0, 5, 1), seen(1, 9, 1), seen(2, 20, 1)]), None);
    let breach = surely_broken(&limit, &[seen(2, 8, 1), seen(0, 5, 1), seen(1, 9, 1)]).unwrap();
    assert_eq!((breach.from, breach.until, breach.admitted, breach.allowed), (at(0), at(9), 3, 2));
    assert_eq!(breach.excess(), 1);
}

#[test]
fn what_may_belong_to_either_window_belongs_to_neither() {
    let window = Window::Epoch(Span::from_micros(10));
    let limit = Limit::FixedWindow(FixedWindow::new(1, window, Refused::Counts).unwrap());
    assert_eq!(surely_broken(&limit, &[seen(1, 2, 1), seen(8, 11, 1), seen(9, 10, 1)]), None);
    assert!(surely_broken(&limit, &[seen(1, 2, 1), seen(8, 9, 1)]).is_some());
}

#[test]
fn a_long_history_is_judged_quickly() {
    let rate = Rate::new(1, Span::from_micros(10)).unwrap();
    let limit = Limit::TokenBucket(TokenBucket::new(rate, 3).unwrap());
    let steady: Vec<Observed> = (0..100_000).map(|n| seen(10 * n, 10 * n + 7, 1)).collect();
    assert_eq!(surely_broken(&limit, &steady), None);
    let mut more = steady;
    more.extend((0..4).map(|n| seen(500_001 + n, 500_006, 1)));
    assert!(surely_broken(&limit, &more).is_some());
}
