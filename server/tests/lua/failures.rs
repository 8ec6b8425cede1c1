//! What the script says when Redis does not take what it writes, and when Redis has forgotten the script.

use redis::RedisResult;
use tollgate_core::limit::{Ask, Cost, Limit};
use tollgate_server::store::redis::reply::{Reply, decode_reference};
use tollgate_server::store::redis::script::{Call, Counting, Script, encode_reference};

use super::asking::{CHARGE, Engine, Group, answers, bucket, split, used};
use super::server::{Server, attempt};

/// Groups that write, look, are refused, write with an id, take back, and are told what they were told before.
fn batch(limit: &Limit) -> [Group<'_>; 6] {
    let take = |key, units| Group::of(&[(key, limit, Ask::take(units))]);
    [
        take("a", 1),
        take("b", 0),
        take("b", 6),
        take("c", 1).with_id("new"),
        take("d", 1).with_id("charged").calling(Call::Cancel),
        take("e", 1).with_id("known"),
    ]
}

/// The groups that write fail with Redis' words, the others are answered, and nothing is changed.
fn only_writers_fail(engine: &mut Engine, words: &str) {
    let limit = bucket(5);
    let before: usize = engine.ask(&["DBSIZE"]);
    let replies = engine.batch(&batch(&limit));
    for writer in [0, 3, 4] {
        let Reply::Failed(text) = &replies[writer] else { panic!("{writer}: {:?}", replies[writer]) };
        assert!(text.starts_with(words), "{text}");
    }
    let others = [1, 2, 5].map(|reader| used(&answers(replies[reader].clone())));
    assert_eq!(others, [[(true, 0)], [(false, 0)], [(true, 1)]]);
    assert_eq!(engine.ask::<usize>(&["DBSIZE"]), before);
    for key in ["a", "b", "c", "new"] {
        assert_eq!(engine.bytes(key), None, "{key}");
    }
}

/// A server on which two of the ids of [`batch`] are known.
fn prepared(server: &Server) -> Engine {
    let mut engine = Engine::new(server.connect());
    let limit = bucket(5);
    for (key, id) in [("d", "charged"), ("e", "known")] {
        engine.told(&Group::of(&[(key, &limit, Ask::take(1))]).with_id(id));
    }
    engine
}

fn in_working_order(engine: &mut Engine) {
    let limit = bucket(5);
    let told: Vec<_> = engine.batch(&batch(&limit)).into_iter().map(|reply| used(&answers(reply))).collect();
    let expected = [[(true, 1)], [(true, 0)], [(false, 0)], [(true, 1)], [(true, 0)], [(true, 1)]];
    assert_eq!(told, expected);
}

#[test]
fn without_memory_only_writers_fail() {
    let server = Server::start();
    let mut engine = prepared(&server);
    engine.order(&["CONFIG", "SET", "maxmemory", "1"]);
    only_writers_fail(&mut engine, "OOM");
    engine.order(&["CONFIG", "SET", "maxmemory", "0"]);
    in_working_order(&mut engine);
}

#[test]
fn on_a_replica_only_writers_fail() {
    let server = Server::start();
    let mut engine = prepared(&server);
    // a master that nobody can reach, so that the replica keeps what it has
    engine.order(&["REPLICAOF", "127.0.0.1", "1"]);
    only_writers_fail(&mut engine, "READONLY");
    engine.order(&["REPLICAOF", "NO", "ONE"]);
    in_working_order(&mut engine);
}

#[test]
fn without_replicas_only_writers_fail() {
    let server = Server::start();
    let mut engine = prepared(&server);
    engine.order(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    only_writers_fail(&mut engine, "NOREPLICAS");
    engine.order(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    in_working_order(&mut engine);
}

#[test]
fn a_user_who_may_do_only_what_the_script_does_is_enough() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    let commands = ["+evalsha", "+eval", "+time", "+get", "+set", "+incrby", "+decrby", "+expire"];
    let user: Vec<&str> =
        ["ACL", "SETUSER", "tollgate", "on", ">secret", "~*"].into_iter().chain(commands).collect();
    engine.order(&user);
    engine.order(&["AUTH", "tollgate", "secret"]);
    let limit = bucket(5);
    let take = Group::of(&[("k", &limit, Ask::take(1))]).with_id("id");
    let replies = engine.batch(&[take.clone(), take.calling(Call::Cancel)]);
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Answers(_))), "{replies:?}");
    for cost in [Cost::Take(1), Cost::Refund(1)] {
        let counted = engine.raw(&[b"n".to_vec()], &[encode_reference(&[Counting { cost, ttl_secs: 1 }])]);
        assert!(decode_reference(&counted[0], 1).unwrap().is_ok(), "{cost:?}");
    }
    // without one of them it says so, and not that nothing is stored
    for (missing, readers) in [("-set", true), ("-get", false)] {
        engine.order(&["AUTH", "default", ""]);
        engine.order(&["ACL", "SETUSER", "tollgate", "+get", "+set", missing]);
        engine.order(&["AUTH", "tollgate", "secret"]);
        let group = |units, id| Group::of(&[("k", &limit, Ask::take(units))]).with_id(id);
        let peek = Group::of(&[("k", &limit, Ask::peek())]);
        let replies = engine.batch(&[group(1, "one"), group(1, "two").calling(Call::Cancel), peek]);
        for reply in &replies[..2] {
            assert!(
                matches!(reply, Reply::Failed(text) if text.contains("can't run")),
                "{missing} {reply:?}"
            );
        }
        assert_eq!(matches!(replies[2], Reply::Answers(_)), readers, "{missing} {:?}", replies[2]);
    }
}

#[test]
fn a_script_that_was_flushed_is_sent_again() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    engine.order(&["SCRIPT", "FLUSH"]);
    let script = Script::new();
    let limit = bucket(5);
    let group = Group::of(&[("k", &limit, Ask::take(1))]).calling(CHARGE);
    let missing: RedisResult<redis::Value> =
        attempt(&mut engine.connection, &["EVALSHA", script.sha1(), "0"]);
    assert_eq!(missing.unwrap_err().code(), Some("NOSCRIPT"));
    let mut eval = redis::Cmd::new();
    eval.arg("EVAL").arg(script.text()).arg(1).arg("k").arg(group.arguments());
    let (_, replies) = split(eval.query(&mut engine.connection).unwrap());
    assert_eq!(replies.len(), 1);
    // and from now on by its name
    assert_eq!(used(&engine.told(&group)), [(true, 2)]);
}
