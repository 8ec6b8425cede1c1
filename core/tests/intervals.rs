//! The linear-time predicates of `invariant` agree with a look at every interval there is.

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate_core::invariant::{Admission, broken};
use tollgate_core::limit::{LeakyBucket, Limit, Rate, SlidingLog, SlidingWindow, State, TokenBucket};
use tollgate_core::time::{Span, Time};

/// Whether the admissions from the first to the last of these, both ends included, are too many.
fn too_many(limit: &Limit, some: &[Admission]) -> bool {
    let (Some(first), Some(last)) = (some.first(), some.last()) else { return false };
    let length = u128::from((last.at - first.at).as_micros());
    let sum: u128 = some.iter().map(|admission| u128::from(admission.cost)).sum();
    match limit {
        Limit::TokenBucket(bucket) => {
            let (count, per) = (u128::from(bucket.rate().count()), u128::from(bucket.rate().per()));
            sum > u128::from(bucket.burst()) + length * count / per
        }
        Limit::LeakyBucket(bucket) => {
            let (count, per) = (u128::from(bucket.rate().count()), u128::from(bucket.rate().per()));
            sum - u128::from(last.cost) > ((length + 1) * count - 1) / per
        }
        Limit::SlidingWindow(sliding) => {
            let (most, window) = (u128::from(sliding.limit()), u128::from(sliding.length().as_micros()));
            sum > most + most * length / window
        }
        Limit::SlidingLog(log) => {
            length < u128::from(log.length().as_micros()) && sum > u128::from(log.limit())
        }
        Limit::FixedWindow(_) => false,
    }
}

fn limits() -> impl Strategy<Value = Limit> {
    (0..4, 1..8_u64, 1..40_u64, 1..8_u64).prop_filter_map("too fast", |(kind, count, micros, most)| {
        let per = Span::from_micros(micros);
        let rate = Rate::new(count, per).ok()?;
        match kind {
            0 => TokenBucket::new(rate, most).ok().map(Limit::TokenBucket),
            1 => LeakyBucket::new(rate, most).ok().map(Limit::LeakyBucket),
            2 => SlidingWindow::new(most, per).ok().map(Limit::SlidingWindow),
            _ => SlidingLog::new(most, per).ok().map(Limit::SlidingLog),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn one_pass_finds_what_a_look_at_every_interval_finds(
        limit in limits(),
        gaps in vec((0..30_u64, 1..4_u64), 1..14),
    ) {
        let mut now = Time::EPOCH;
        let admissions: Vec<Admission> = gaps
            .iter()
            .map(|(gap, cost)| {
                now = now + Span::from_micros(*gap);
                Admission { at: now, cost: *cost }
            })
            .collect();
        let every = (0..admissions.len()).flat_map(|from| (from..admissions.len()).map(move |to| (from, to)));
        let some = every.into_iter().any(|(from, to)| too_many(&limit, &admissions[from..=to]));
        let found = broken(&limit, &admissions);
        prop_assert_eq!(found.is_some(), some, "{:?}", found);
        if let Some(breach) = found {
            let inside = |admission: &&Admission| (breach.from..=breach.until).contains(&admission.at);
            let sum: u128 = admissions.iter().filter(inside).map(|admission| u128::from(admission.cost)).sum();
            prop_assert!(breach.excess() >= 1 && breach.admitted <= sum, "{:?}", breach);
        }
    }
}

#[test]
fn a_state_is_small() {
    assert!(size_of::<State>() <= 40, "{}", size_of::<State>());
}
