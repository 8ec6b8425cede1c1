use super::*;
use crate::load::random::hash_bytes;

const KEYS: u64 = 40_000;

fn member(name: &str, weight: u32) -> Member {
    Member { id: hash_bytes(name.as_bytes()), weight }
}

fn even(names: &[&str]) -> Rendezvous {
    Rendezvous::new(names.iter().map(|name| member(name, 1)).collect::<Vec<_>>()).unwrap()
}

/// The ids of the first `count` members.
fn ids(rendezvous: &Rendezvous, key: u64, count: usize) -> Vec<u64> {
    rendezvous.rank(key, count).iter().map(|index| rendezvous.members()[*index].id).collect()
}

/// The share of keys for which `test` holds.
fn share(test: impl Fn(u64) -> bool) -> f64 {
    let count = (0..KEYS).filter(|key| test(hash_bytes(&key.to_le_bytes()))).count();
    count as f64 / KEYS as f64
}

#[test]
fn a_fourth_member_takes_a_quarter_from_all() {
    let (three, four) = (even(&["a", "b", "c"]), even(&["a", "b", "c", "d"]));
    let moved = share(|key| ids(&three, key, 1) != ids(&four, key, 1));
    assert!((moved - 0.25).abs() < 0.02, "{moved}");
    let new = four.members()[3].id;
    let elsewhere = share(|key| ids(&three, key, 1) != ids(&four, key, 1) && ids(&four, key, 1) != [new]);
    assert!(elsewhere < 1e-9, "no key moves between the old members");
}

#[test]
fn who_is_lost_leaves_its_keys_to_the_second() {
    let (three, two) = (even(&["a", "b", "c"]), even(&["a", "b"]));
    let lost = three.members()[2].id;
    for key in (0..2_000).map(mix64) {
        let rest: Vec<u64> = ids(&three, key, 3).into_iter().filter(|id| *id != lost).collect();
        assert_eq!(ids(&two, key, 2), rest);
    }
}

#[test]
fn weights_are_respected() {
    let weighted = Rendezvous::new([member("a", 1), member("b", 2), member("c", 5)]).unwrap();
    for (index, expected) in [0.125, 0.25, 0.625].into_iter().enumerate() {
        let found = share(|key| weighted.owner(key) == Some(index));
        assert!((found - expected).abs() < 0.01, "{index}: {found}");
    }
}

#[test]
fn more_weight_only_attracts() {
    let before = Rendezvous::new([member("a", 3), member("b", 3), member("c", 4)]).unwrap();
    let after = Rendezvous::new([member("a", 3), member("b", 6), member("c", 4)]).unwrap();
    let wrong = share(|key| before.owner(key) != after.owner(key) && after.owner(key) != Some(1));
    assert!(wrong < 1e-9, "{wrong}");
}

#[test]
fn even_weights_rank_as_no_weights() {
    let mut uneven = even(&["a", "b", "c", "d", "e"]);
    uneven.even = false;
    let plain = even(&["a", "b", "c", "d", "e"]);
    for key in (0..5_000).map(mix64) {
        assert_eq!(plain.rank(key, 5), uneven.rank(key, 5));
    }
}

#[test]
fn a_rank_is_as_long_as_asked_and_no_longer_than_the_list() {
    let three = even(&["a", "b", "c"]);
    let lengths: Vec<usize> = (0..5).map(|count| three.rank(9, count).len()).collect();
    assert_eq!(lengths, [0, 1, 2, 3, 3]);
    assert_eq!(even(&[]).owner(9), None);
}

#[test]
fn owners_are_fixed_for_ever() {
    // a change here moves every key of a running fleet
    let three = even(&["a", "b", "c"]);
    let owners: Vec<usize> = (0..12).map(|key| three.owner(key).unwrap()).collect();
    let weighted = Rendezvous::new([member("a", 1), member("b", 2), member("c", 5)]).unwrap();
    let others: Vec<usize> = (0..12).map(|key| weighted.owner(key).unwrap()).collect();
    assert_eq!(owners, [1, 2, 2, 1, 2, 2, 2, 0, 2, 2, 1, 0]);
    assert_eq!(others, [2, 2, 2, 1, 2, 2, 2, 0, 2, 2, 1, 1]);
}

#[test]
fn the_logarithm_is_close_and_falls() {
    let scale = 2.0_f64.powi(i32::try_from(FRACTION).unwrap());
    let mut random = crate::load::random::SplitMix64::new(1);
    for _ in 0..20_000 {
        let hash = random.next_u64() >> (random.next_u32() % 64);
        let exact = 64.0 - (hash.max(1) as f64).log2();
        let found = negative_log2(hash) as f64 / scale;
        assert!((found - exact).abs() < 3e-6, "{hash}: {found} {exact}");
        assert!(negative_log2(hash) >= negative_log2(hash.saturating_add(1)), "{hash}");
    }
    assert_eq!((negative_log2(0), negative_log2(1)), (64 << FRACTION, 64 << FRACTION));
    assert_eq!(negative_log2(1 << 63), 1 << FRACTION);
}

#[test]
fn members_that_make_no_sense_are_named() {
    let error = |members: Vec<Member>| Rendezvous::new(members).unwrap_err().to_string();
    assert_eq!(error(vec![member("a", 0)]), "members.weight 0 is out of range: 1 to 1000000");
    let id = Member { id: 7, weight: 1 };
    assert_eq!(error(vec![id, id]), "members.id 7 is out of range: each id once");
}
