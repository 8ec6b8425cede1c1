//! What comes back, once, from whom and until when.

use tollgate_core::rules::Defaults;
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_server::adapter::native::Leases;

use crate::lessor::{Lessor, NOW, SECRET, give_back, request, span, try_give_back};

const RULES: &str = "
domain: d
descriptors:
  - key: window
    rate_limit: { unit: minute, requests_per_unit: 1000 }
  - key: other
    rate_limit: { unit: minute, requests_per_unit: 1000 }
  - key: bucket
    rate_limit: { unit: second, requests_per_unit: 1000, algorithm: token_bucket, accuracy: leased }
";

#[tokio::test]
async fn what_is_given_back_twice_counts_once() {
    let lessor = Lessor::new(RULES);
    let leased = lessor.lease(&["window", "other"], 100).await;
    assert_eq!(lessor.give_back(&["window", "other"], &leased.lease, 60).await, 60);
    assert_eq!((lessor.remaining("window").await, lessor.remaining("other").await), (960, 960));
    for _ in 0..3 {
        assert_eq!(lessor.give_back(&["window", "other"], &leased.lease, 60).await, 0);
    }
    assert_eq!(lessor.remaining("window").await, 960);
    let page = lessor.engine.metrics().render();
    for line in [
        "tollgate_leases_total{result=\"granted\"} 1",
        "tollgate_lease_returns_total{result=\"returned\"} 1",
        "tollgate_lease_returns_total{result=\"again\"} 3",
        "tollgate_lease_tokens_total{what=\"granted\"} 100",
        "tollgate_lease_tokens_total{what=\"returned\"} 60",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
}

#[tokio::test]
async fn each_lease_comes_back_by_itself() {
    let lessor = Lessor::new(RULES);
    let (one, two) = (lessor.lease(&["window"], 100).await, lessor.lease(&["window"], 100).await);
    assert_ne!(one.lease, two.lease);
    assert_eq!(lessor.give_back(&["window"], &one.lease, 100).await, 100);
    assert_eq!(lessor.give_back(&["window"], &two.lease, 1).await, 1);
    assert_eq!(lessor.remaining("window").await, 901);
}

#[tokio::test]
async fn a_forged_lease_brings_nothing() {
    let lessor = Lessor::new(RULES);
    let leased = lessor.lease(&["window"], 10).await;
    // the tokens are the eight bytes after the first
    let mut forged = leased.lease.clone();
    forged[8] = 200;
    for forged in [&forged[..], &leased.lease[1..], b"", b"lease"] {
        assert_eq!(lessor.give_back(&["window"], forged, 5).await, 0);
    }
    assert_eq!(lessor.remaining("window").await, 990);
    let too_much =
        try_give_back(&lessor.leases, &["window"], &leased.lease, 11).await.unwrap_err().to_string();
    assert_eq!(too_much, "lease.unspent: 11 is more than the 10 tokens that were granted");
    assert_eq!(lessor.give_back(&["window"], &leased.lease, 0).await, 0, "nothing left");
    assert_eq!(lessor.give_back(&["window"], &leased.lease, 10).await, 10, "none of that used it up");
}

#[tokio::test]
async fn a_lease_of_other_descriptors_or_of_another_limit_brings_nothing() {
    let lessor = Lessor::new(RULES);
    let leased = lessor.lease(&["window"], 100).await;
    for keys in [&["other"][..], &["window", "other"], &["bucket"], &["nobody"]] {
        assert_eq!(lessor.give_back(keys, &leased.lease, 100).await, 0, "{keys:?}");
    }
    lessor
        .load(&RULES.replace("requests_per_unit: 1000 }", "requests_per_unit: 2000 }"), Defaults::default());
    assert_eq!(lessor.give_back(&["window"], &leased.lease, 100).await, 0);
    assert_eq!(lessor.remaining("window").await, 1_900, "what was used stays");
    lessor.load(RULES, Defaults::default());
    assert_eq!(
        lessor.give_back(&["window"], &leased.lease, 100).await,
        100,
        "the limit is the old one again"
    );
}

#[tokio::test]
async fn a_lowered_limit_counts_what_lies_in_leases() {
    let lessor = Lessor::new(RULES);
    let leased = lessor.lease(&["bucket"], 1_000).await;
    assert_eq!(leased.granted, 62);
    lessor.load(
        &RULES.replace("algorithm: token_bucket", "algorithm: token_bucket, burst: 1100"),
        Defaults::default(),
    );
    assert_eq!(lessor.remaining("bucket").await, 550 - 62);
    lessor.load(
        &RULES.replace("requests_per_unit: 1000, algo", "requests_per_unit: 50, algo"),
        Defaults::default(),
    );
    assert_eq!(lessor.remaining("bucket").await, 0, "50 is less than what is used");
    assert_eq!(lessor.lease(&["bucket"], 1).await.granted, 0);
}

#[tokio::test]
async fn a_lease_comes_back_until_shortly_before_its_window_ends_and_never_into_the_next_one() {
    let lessor = Lessor::new(RULES);
    let (early, late) = (lessor.lease(&["window"], 100).await, lessor.lease(&["window"], 100).await);
    let last = NOW + Span::from_millis(29_900);
    lessor.clock.set(last);
    assert_eq!(lessor.give_back(&["window"], &early.lease, 100).await, 100, "100 ms before the end");
    lessor.clock.set(last + Span::MICRO);
    assert_eq!(lessor.give_back(&["window"], &late.lease, 100).await, 0);
    lessor.clock.set(NOW + Span::from_secs(30));
    assert!(lessor.check(&["window"], 300).await, "a new window");
    assert_eq!(lessor.give_back(&["window"], &late.lease, 100).await, 0);
    assert_eq!(lessor.remaining("window").await, 700);
}

#[tokio::test]
async fn a_lease_of_a_bucket_comes_back_as_long_as_it_could_be_spent() {
    let lessor = Lessor::new(RULES);
    let (early, late) = (lessor.lease(&["bucket"], 10).await, lessor.lease(&["bucket"], 10).await);
    assert_eq!(span(early.ttl), Some(Span::from_millis(150)));
    lessor.clock.set(NOW + Span::from_millis(150));
    assert!(lessor.check(&["bucket"], 400).await);
    assert_eq!(lessor.give_back(&["bucket"], &early.lease, 10).await, 10);
    assert_eq!(lessor.remaining("bucket").await, 110);
    lessor.clock.advance(Span::MICRO);
    assert_eq!(lessor.give_back(&["bucket"], &late.lease, 10).await, 0);
}

#[tokio::test]
async fn servers_that_share_a_secret_take_back_each_others_leases_with_a_second_to_spare() {
    let lessor = Lessor::new(RULES);
    let (early, late) = (lessor.lease(&["window"], 100).await, lessor.lease(&["window"], 100).await);
    let stranger = lessor.beside(Leases::shared_key("another secret"));
    assert_eq!(give_back(&stranger, &["window"], &early.lease, 100).await, 0);
    let nobody = lessor.beside(Leases::own_key());
    assert_eq!(give_back(&nobody, &["window"], &early.lease, 100).await, 0);
    let friend = lessor.beside(Leases::shared_key(SECRET));
    lessor.clock.set(NOW + Span::from_millis(28_900));
    assert_eq!(give_back(&friend, &["window"], &early.lease, 100).await, 100);
    assert_eq!(lessor.give_back(&["window"], &early.lease, 100).await, 0, "whoever was asked first");
    lessor.clock.advance(Span::MICRO);
    assert_eq!(give_back(&friend, &["window"], &late.lease, 100).await, 0);
    assert_eq!(lessor.give_back(&["window"], &late.lease, 100).await, 100, "at home there is more time");
}

#[test]
fn every_key_of_a_server_of_its_own_is_another() {
    assert_ne!(Leases::own_key(), Leases::own_key());
    assert_ne!(Leases::shared_key("a"), Leases::shared_key("b"));
}

#[tokio::test]
async fn the_lease_before_is_given_back_first() {
    let lessor = Lessor::new(RULES);
    assert!(lessor.check(&["window"], 900).await);
    let mut held = Vec::new();
    loop {
        let leased = lessor.lease(&["window"], 1_000).await;
        if leased.granted == 0 {
            break;
        }
        held.push(leased);
    }
    assert_eq!((held[0].granted, lessor.remaining("window").await), (25, 0));
    let mut next = request(&["window"], 1_000);
    next.previous = Some(wire::LeaseReturn { lease: held[0].lease.clone(), unspent: 20 });
    let leased = lessor.leases.lease(&next, None).await.unwrap();
    assert_eq!((leased.granted, lessor.remaining("window").await), (5, 15));
    let again = lessor.leases.lease(&next, None).await.unwrap();
    assert_eq!((again.granted, lessor.remaining("window").await), (3, 12), "it was given back once");
    next.previous = Some(wire::LeaseReturn { lease: b"of another life".to_vec(), unspent: 20 });
    assert_eq!(lessor.leases.lease(&next, None).await.unwrap().granted, 3, "that stands in nobody's way");
    next.previous = Some(wire::LeaseReturn { lease: leased.lease, unspent: 6 });
    let error = lessor.leases.lease(&next, None).await.unwrap_err().to_string();
    assert_eq!(error, "previous.unspent: 6 is more than the 5 tokens that were granted");
    assert_eq!(lessor.remaining("window").await, 9, "nothing was granted");
}
