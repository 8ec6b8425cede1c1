//! Which endpoint a call goes to.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tollgate_core::load::ewma::{EwmaConfig, PeakEwma};
use tollgate_core::load::outlier::{Outlier, OutlierConfig, Pool};
use tollgate_core::load::rendezvous::{Member, Rendezvous};
use tollgate_core::time::{Span, Time};

fn members() -> impl Strategy<Value = Vec<Member>> {
    let weights = prop_oneof![Just(1), Just(1), 1..10_u32, 1..=1_000_000_u32];
    btree_map(any::<u64>(), weights, 1..20)
        .prop_map(|map| map.into_iter().map(|(id, weight)| Member { id, weight }).collect())
}

fn ids(members: &[Member], key: u64, count: usize) -> Vec<u64> {
    let rendezvous = Rendezvous::new(members.to_vec()).unwrap();
    rendezvous.rank(key, count).iter().map(|index| members[*index].id).collect()
}

proptest! {
    #[test]
    fn a_rank_does_not_depend_on_the_order_of_the_list(
        members in members().prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        key in any::<u64>(),
    ) {
        let (one, other) = members;
        let whole = ids(&one, key, one.len());
        prop_assert_eq!(&whole, &ids(&other, key, other.len()));
        for count in 0..whole.len() {
            prop_assert_eq!(&whole[..count], &ids(&one, key, count)[..], "a shorter rank is its beginning");
        }
        let mut once = whole.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), one.len());
    }

    #[test]
    fn a_lost_member_moves_nobody_else(members in members(), lost in any::<prop::sample::Index>(), key in any::<u64>()) {
        let lost = members[lost.index(members.len())].id;
        let rest: Vec<Member> = members.iter().copied().filter(|member| member.id != lost).collect();
        let expected: Vec<u64> = ids(&members, key, members.len()).into_iter().filter(|id| *id != lost).collect();
        prop_assert_eq!(ids(&rest, key, rest.len()), expected);
    }

    #[test]
    fn the_load_stays_between_what_was_seen_and_is_never_nothing(
        moves in vec((0..3_u8, 0..20_000_000_u64, 1..10_000_000_u64, 0..100_u32), 1..200),
    ) {
        let mut now = Time::from_micros(7_000_000);
        let ewma = PeakEwma::new(&EwmaConfig::default(), now).unwrap();
        let mut most = 30_000.0_f64;
        for (kind, gap, rtt, in_flight) in moves {
            now = now + Span::from_micros(gap);
            let rtt = Span::from_micros(rtt);
            if kind == 0 {
                ewma.penalize(now, rtt);
                most = most.max(5e6).max(rtt.as_micros() as f64);
                prop_assert!(ewma.load(now, 0) >= rtt.as_micros() as f64);
            } else {
                ewma.observe(now, rtt);
                most = most.max(rtt.as_micros() as f64);
                prop_assert!(ewma.load(now, 0) >= rtt.as_micros() as f64 - 1e-6, "a peak counts at once");
            }
            let load = ewma.load(now, in_flight);
            prop_assert!(load.is_finite() && load >= 1.0 && load <= most * f64::from(in_flight + 1) * 1.000_001);
            prop_assert!(ewma.load(now, in_flight + 1) > load);
        }
    }

    #[test]
    fn an_ejection_is_within_its_bounds_and_only_when_the_pool_allows(
        moves in vec((0..90_000_000_u64, 0..5_u32, 0..5_u32, any::<u32>()), 0..100),
    ) {
        let config = OutlierConfig::default();
        let mut now = Time::from_micros(7_000_000);
        let outlier = Outlier::new(config, now).unwrap();
        for (gap, endpoints, ejected, roll) in moves {
            now = now + Span::from_micros(gap);
            let pool = Pool { endpoints, ejected, unreachable: 0 };
            let out = outlier.is_ejected(now);
            let span = outlier.eject(now, pool, roll);
            prop_assert_eq!(span.is_some(), !out && config.may_eject(pool));
            if let Some(span) = span {
                prop_assert!(span >= Span::from_millis(2_500) && span <= Span::from_secs(60));
                prop_assert!(outlier.is_ejected(now + span - Span::MICRO) && !outlier.is_ejected(now + span));
            }
        }
    }
}
