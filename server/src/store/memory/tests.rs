//! Promises of the embedded store that one thread and many can see.

use std::sync::Arc;
use std::thread;

use tollgate_core::limit::{FixedWindow, LeakyBucket, Rate, Refused, SlidingLog, TokenBucket, Window};
use tollgate_core::rules::{
    Accuracy, Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher, OnFailure, Query, Quota, RuleSpec,
    Unit,
};

use super::*;

const NOW: Time = Time::from_micros(1_700_000_000_000_000);

fn bounds(max_keys: u64, on_full: OnFull) -> Bounds {
    Bounds { max_keys, max_bytes: u64::MAX, on_full }
}

fn store(max_keys: u64, on_full: OnFull) -> MemoryStore {
    MemoryStore::new(bounds(max_keys, on_full))
}

fn fixed(limit: u64) -> Limit {
    let window = Window::Epoch(Span::from_secs(3600));
    Limit::FixedWindow(FixedWindow::new(limit, window, Refused::Free).unwrap())
}

/// Limits under the keys `a`, `b`, … of the domain `d`.
fn matcher(charge: Charge, limits: &[Limit]) -> Matcher {
    let node = |(limit, name): (&Limit, char)| DescriptorSpec {
        key: name.into(),
        rule: Some(RuleSpec {
            limit: Some(limit.clone()),
            quota: Quota { requests_per_unit: 1, unit: Unit::Hour, multiplier: 1 },
            name: String::new(),
            replaces: Vec::new(),
            on_failure: OnFailure::Error,
            accuracy: Accuracy::Auto,
            max_hold: Span::MAX,
        }),
        ..DescriptorSpec::default()
    };
    let descriptors = limits.iter().zip('a'..).map(node).collect();
    let domain = DomainSpec { name: "d".into(), charge, descriptors, ..DomainSpec::default() };
    Matcher::build(vec![domain], Defaults::default()).unwrap()
}

fn ask(store: &MemoryStore, matcher: &Matcher, entries: &[(&str, &str, u64)], now: Time) -> Answers {
    let descriptors = entries.iter().map(|&(key, value, hits)| Descriptor {
        entries: [(key, value)].into_iter().collect(),
        hits: Some(hits),
        ..Descriptor::default()
    });
    let query =
        Query { domain: "d", descriptors: descriptors.collect(), patience: Span::MAX, ..Query::default() };
    let plan = matcher.plan(&query);
    store.charge_at(plan.charge(), plan.hits(), now)
}

fn allowed(store: &MemoryStore, matcher: &Matcher, entries: &[(&str, &str, u64)]) -> Vec<bool> {
    ask(store, matcher, entries, NOW).iter().map(|answer| answer.verdict.allowed).collect()
}

fn used(store: &MemoryStore, matcher: &Matcher, key: &str, value: &str) -> u64 {
    ask(store, matcher, &[(key, value, 0)], NOW)[0].verdict.used
}

#[test]
fn after_a_clear_every_key_is_fresh_and_its_room_is_free() {
    let matcher = matcher(Charge::Each, &[fixed(1)]);
    let store = store(2, OnFull::Deny);
    let both =
        || [allowed(&store, &matcher, &[("a", "x", 1)])[0], allowed(&store, &matcher, &[("a", "y", 1)])[0]];
    assert_eq!([both(), both()], [[true, true], [false, false]]);
    assert_eq!(store.forget_all(), 2);
    assert_eq!(store.usage().keys, 0);
    assert_eq!(both(), [true, true]);
}

#[test]
fn exactly_the_limit_passes_from_many_threads() {
    let matcher = matcher(Charge::Each, &[fixed(1_000)]);
    let store = Arc::new(store(100, OnFull::Deny));
    let passed: usize = thread::scope(|scope| {
        let work = || (0..500).filter(|_| allowed(&store, &matcher, &[("a", "hot", 1)])[0]).count();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1_000);
}

#[test]
fn all_or_nothing_is_exact_from_many_threads() {
    let matcher = matcher(Charge::AllOrNothing, &[fixed(300), fixed(1_000)]);
    let store = Arc::new(store(100, OnFull::Deny));
    let passed: usize = thread::scope(|scope| {
        // half of them name the limits in the other order: no deadlock
        let forth = || passes(&store, &matcher, &[("a", "x", 1), ("b", "y", 1)]);
        let back = || passes(&store, &matcher, &[("b", "y", 1), ("a", "x", 1)]);
        let threads: Vec<_> = (0..4).flat_map(|_| [scope.spawn(forth), scope.spawn(back)]).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 300);
    assert_eq!(used(&store, &matcher, "b", "y"), 300, "a refusal charges none of the others");
}

fn passes(store: &MemoryStore, matcher: &Matcher, entries: &[(&str, &str, u64)]) -> usize {
    (0..100).filter(|_| allowed(store, matcher, entries).iter().all(|&allowed| allowed)).count()
}

#[test]
fn a_refusal_tells_the_others_as_if_nobody_had_asked() {
    let matcher = matcher(Charge::AllOrNothing, &[fixed(1), fixed(10)]);
    let store = store(100, OnFull::Deny);
    ask(&store, &matcher, &[("a", "x", 1), ("b", "y", 1)], NOW);
    let answers = ask(&store, &matcher, &[("a", "x", 1), ("b", "y", 1)], NOW);
    assert!(!answers[0].verdict.allowed);
    assert!(answers[1].verdict.allowed);
    assert_eq!(answers[1].verdict.remaining, 9);
    assert_eq!(used(&store, &matcher, "b", "y"), 1);
}

#[test]
fn one_key_twice_in_a_request_is_charged_in_turn() {
    for charge in [Charge::Each, Charge::AllOrNothing] {
        let matcher = matcher(charge, &[fixed(10)]);
        let store = store(100, OnFull::Deny);
        let answers = ask(&store, &matcher, &[("a", "x", 1), ("a", "x", 1)], NOW);
        assert_eq!(answers[0].verdict.remaining, 9);
        assert_eq!(answers[1].verdict.remaining, 8);
        assert_eq!(used(&store, &matcher, "a", "x"), 2);
    }
}

#[test]
fn a_look_takes_no_room() {
    let matcher = matcher(Charge::Each, &[fixed(10)]);
    let store = store(100, OnFull::Deny);
    ask(&store, &matcher, &[("a", "x", 0)], NOW);
    assert_eq!(store.usage().keys, 0);
    ask(&store, &matcher, &[("a", "x", 1)], NOW);
    assert_eq!(store.usage().keys, 1);
}

#[test]
fn a_flood_of_new_keys_is_denied_and_resets_nobody() {
    let matcher = matcher(Charge::Each, &[fixed(2)]);
    let store = store(10, OnFull::Deny);
    for key in 0..10 {
        assert!(allowed(&store, &matcher, &[("a", &key.to_string(), 1)])[0]);
    }
    for key in 10..1_000 {
        let answers = ask(&store, &matcher, &[("a", &key.to_string(), 1)], NOW);
        assert_eq!(answers[0].by, By::Full);
        assert!(!answers[0].verdict.allowed);
        assert!(matches!(answers[0].verdict.retry_after, Retry::After(wait) if wait > Span::ZERO));
    }
    assert_eq!(store.usage().keys, 10);
    assert_eq!(store.usage().full.denied, 990);
    assert!((0..10).all(|key| used(&store, &matcher, "a", &key.to_string()) == 1));
}

#[test]
fn states_that_have_ended_make_room() {
    let matcher = matcher(Charge::Each, &[fixed(2)]);
    let store = store(10, OnFull::Deny);
    for key in 0..10 {
        ask(&store, &matcher, &[("a", &key.to_string(), 1)], NOW);
    }
    let later = NOW + Span::from_secs(3600);
    for key in 10..20 {
        let answers = ask(&store, &matcher, &[("a", &key.to_string(), 1)], later);
        assert_eq!(answers[0].by, By::Memory, "key {key}");
    }
    assert!(store.usage().keys <= 10);
}

#[test]
fn full_stores_may_allow_or_evict_instead() {
    let matcher = matcher(Charge::Each, &[fixed(2)]);
    let uncounted = store(4, OnFull::Allow);
    let evicting = store(4, OnFull::Evict);
    for key in 0..100 {
        assert!(allowed(&uncounted, &matcher, &[("a", &key.to_string(), 1)])[0]);
        assert!(allowed(&evicting, &matcher, &[("a", &key.to_string(), 1)])[0]);
    }
    assert_eq!(uncounted.usage().full.allowed, 96);
    assert_eq!(used(&uncounted, &matcher, "a", "0"), 1);
    assert!(evicting.usage().keys <= 4 && evicting.usage().full.evicted >= 96);
}

#[test]
fn bytes_are_bounded_too_and_all_or_nothing_reserves_for_all() {
    let matcher = matcher(Charge::AllOrNothing, &[fixed(2), fixed(2)]);
    let long = "x".repeat(100);
    let store = MemoryStore::new(Bounds { max_keys: 100, max_bytes: 400, on_full: OnFull::Deny });
    let answers = ask(&store, &matcher, &[("a", &long, 1), ("b", &long, 1)], NOW);
    assert!(answers.iter().any(|answer| answer.by == By::Full), "two keys of 230 bytes do not fit");
    assert_eq!(store.usage().keys, 0);
    assert_eq!(store.usage().bytes, 0);
    assert!(allowed(&store, &matcher, &[("a", &long, 1)])[0]);
}

#[test]
fn a_sweep_forgets_only_what_equals_a_fresh_state() {
    let bucket = Limit::TokenBucket(TokenBucket::new(Rate::new(1, Span::SECOND).unwrap(), 10).unwrap());
    let queue = Limit::LeakyBucket(LeakyBucket::new(Rate::new(1, Span::SECOND).unwrap(), 10).unwrap());
    let matcher = matcher(Charge::Each, &[bucket, queue, fixed(5)]);
    let store = store(100, OnFull::Deny);
    ask(&store, &matcher, &[("a", "x", 3), ("b", "x", 5), ("c", "x", 1)], NOW);
    let sweep = |now: Time| (0..store.map.shards().len()).map(|shard| store.sweep(shard, now)).sum::<usize>();
    assert_eq!(sweep(NOW + Span::from_millis(2_999)), 0);
    assert_eq!(sweep(NOW + Span::from_secs(3)), 1);
    assert_eq!(sweep(NOW + Span::from_secs(5)), 1);
    assert_eq!(store.usage().keys, 1);
    assert_eq!(store.usage().swept, 2);
    let bytes: usize = store.map.iter().map(|entry| entry.key().len()).sum();
    assert_eq!(store.usage().bytes, bytes as u64 + 128);
}

#[test]
fn a_state_takes_few_bytes() {
    assert!(size_of::<Slot>() <= 24 && size_of::<Kept>() <= 56);
}

#[test]
fn an_exact_log_is_accounted_for_all_that_it_may_hold() {
    let log = Limit::SlidingLog(SlidingLog::new(1_000, Span::SECOND).unwrap());
    let matcher = matcher(Charge::Each, &[log]);
    let store = MemoryStore::new(Bounds { max_keys: 100, max_bytes: 40_000, on_full: OnFull::Deny });
    let by: Vec<By> =
        (0..3).map(|key| ask(&store, &matcher, &[("a", &key.to_string(), 1)], NOW)[0].by).collect();
    assert_eq!(by, [By::Memory, By::Memory, By::Full]);
    let later = NOW + Span::from_secs(2);
    assert_eq!(ask(&store, &matcher, &[("a", "3", 1)], later)[0].by, By::Memory);
    assert!(store.usage().bytes <= 40_000);
}

#[test]
fn eviction_takes_an_eighth_even_of_states_that_end_together() {
    let matcher = matcher(Charge::Each, &[fixed(2)]);
    let store = store(2_000, OnFull::Evict);
    for key in 0..2_001 {
        assert!(allowed(&store, &matcher, &[("a", &key.to_string(), 1)])[0]);
    }
    let evicted = store.usage().full.evicted;
    assert!((1..=15).contains(&evicted), "{evicted} of one shard of about 31");
}
