//! The layout of envoyproxy/ratelimit: plain counters.

use tollgate_core::limit::{Ask, Cost, MAX_COUNT};
use tollgate_server::store::redis::reply::{Counted, Reply, decode, decode_reference};
use tollgate_server::store::redis::script::{Counting, encode_reference};

use super::asking::{Engine, Group, answers, bucket, used};
use super::server::Server;

/// What one group of counters is told.
fn count(engine: &mut Engine, hits: &[(&str, Cost)]) -> Result<Vec<Counted>, String> {
    let keys: Vec<Vec<u8>> = hits.iter().map(|(key, _)| key.as_bytes().to_vec()).collect();
    let counting: Vec<Counting> =
        hits.iter().map(|(_, cost)| Counting { cost: *cost, ttl_secs: 100 }).collect();
    let replies = engine.raw(&keys, &[encode_reference(&counting)]);
    decode_reference(&replies[0], hits.len()).unwrap().map(|counted| counted.to_vec())
}

fn one(engine: &mut Engine, cost: Cost) -> (u64, u64) {
    let counted = count(engine, &[("n", cost)]).unwrap()[0];
    (counted.before, counted.after)
}

#[test]
fn counters_are_added_to_and_live_on() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    assert_eq!(one(&mut engine, Cost::Take(3)), (0, 3));
    assert_eq!(engine.ask::<String>(&["GET", "n"]), "3");
    assert!((99_000..=100_000).contains(&engine.ttl("n")));
    engine.order(&["EXPIRE", "n", "7"]);
    assert_eq!(one(&mut engine, Cost::Take(4)), (3, 7));
    assert!(engine.ttl("n") > 99_000);
    let both = [("n", Cost::Take(1)), ("m", Cost::Take(2)), ("n", Cost::Take(1))];
    let counted = count(&mut engine, &both).unwrap();
    assert_eq!(counted.iter().map(|counted| counted.after).collect::<Vec<_>>(), [8, 2, 9]);
}

#[test]
fn a_peek_at_a_counter_leaves_it_alone() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    assert_eq!(one(&mut engine, Cost::Take(0)), (0, 0));
    assert_eq!(engine.bytes("n"), None);
    one(&mut engine, Cost::Take(3));
    engine.order(&["EXPIRE", "n", "7"]);
    assert_eq!(one(&mut engine, Cost::Take(0)), (3, 3));
    assert!((1..=7_000).contains(&engine.ttl("n")));
}

#[test]
fn a_refund_never_goes_below_nothing() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    assert_eq!(one(&mut engine, Cost::Refund(3)).1, 0);
    assert_eq!(engine.bytes("n"), None, "a refund makes no counter");
    one(&mut engine, Cost::Take(5));
    engine.order(&["EXPIRE", "n", "7"]);
    assert_eq!(one(&mut engine, Cost::Refund(2)).1, 3);
    assert!((1..=7_000).contains(&engine.ttl("n")), "a refund lengthens no life");
    assert_eq!(one(&mut engine, Cost::Refund(MAX_COUNT)).1, 0);
    assert_eq!(engine.ask::<String>(&["GET", "n"]), "0");
    engine.order(&["SET", "n", "-4"]);
    assert_eq!(one(&mut engine, Cost::Refund(1)), (0, 0));
    assert_eq!(engine.ask::<String>(&["GET", "n"]), "-4");
}

#[test]
fn large_counts_are_exact_in_redis_and_end_at_the_largest_number() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    assert_eq!(one(&mut engine, Cost::Take(MAX_COUNT)), (0, MAX_COUNT));
    assert_eq!(engine.ask::<u64>(&["GET", "n"]), MAX_COUNT);
    assert_eq!(one(&mut engine, Cost::Take(2)).1, MAX_COUNT);
    assert_eq!(engine.ask::<u64>(&["GET", "n"]), MAX_COUNT + 2);
}

#[test]
fn what_is_no_counter_fails_in_the_words_of_redis() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    engine.order(&["SET", "n", "many"]);
    let failed = count(&mut engine, &[("n", Cost::Take(1))]).unwrap_err();
    assert!(failed.starts_with("ERR value is not an integer"), "{failed}");
    engine.order(&["SET", "n", "9223372036854775807"]);
    let failed = count(&mut engine, &[("n", Cost::Take(1))]).unwrap_err();
    assert!(failed.contains("overflow"), "{failed}");
    engine.order(&["DEL", "n"]);
    engine.order(&["RPUSH", "n", "1"]);
    for cost in [Cost::Take(1), Cost::Take(0), Cost::Refund(1)] {
        let failed = count(&mut engine, &[("n", cost)]).unwrap_err();
        assert!(failed.starts_with("WRONGTYPE"), "{failed}");
    }
}

#[test]
fn a_counter_that_fails_concerns_no_other_group() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    engine.order(&["SET", "n", "many"]);
    let limit = bucket(5);
    let group = Group::of(&[("k", &limit, Ask::take(1))]);
    let counting = encode_reference(&[Counting { cost: Cost::Take(1), ttl_secs: 100 }]);
    let keys = ["n", "k", "m"].map(|key| key.as_bytes().to_vec());
    let replies = engine.raw(&keys, &[counting.clone(), group.arguments(), counting]);
    assert!(decode_reference(&replies[0], 1).unwrap().is_err());
    let reply: Reply = decode(&replies[1], &group.hits).unwrap();
    assert_eq!(used(&answers(reply)), [(true, 1)]);
    assert_eq!(decode_reference(&replies[2], 1).unwrap().unwrap()[0].after, 1);
}
