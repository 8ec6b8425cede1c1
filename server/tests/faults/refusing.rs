//! Redis that answers and refuses.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollgate_server::store::Fault;
use tollgate_server::store::redis::{Access, Login};

use super::limiter::{Limiter, SOON, store_of};
use crate::redis_world::{Server, eventually, within};
use crate::store_world::{YEAR, access, fixed, options, redis_store, single};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_answers_looks() {
    let server = Server::builder().argument("maxmemory-policy", "noeviction").start().await;
    let limiter = Limiter::new(&store_of(&server), fixed(100, YEAR));
    assert!(limiter.pass("v").await);
    server.config_set("maxmemory", "1").await;
    for _ in 0..10 {
        assert_eq!(limiter.take("v", 1).await.unwrap_err(), Fault::Full);
        assert_eq!(limiter.take("new", 1).await.unwrap_err(), Fault::Full);
        assert_eq!(limiter.take("v", 0).await.unwrap().verdict.used, 1, "looks still work");
    }
    server.config_set("maxmemory", "0").await;
    assert!(limiter.pass("v").await && limiter.pass("new").await);
    assert_eq!(limiter.used("v").await, 2);
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_no_writes_says_so() {
    let server = Server::start().await;
    let replica =
        Server::builder().argument("replicaof", &format!("127.0.0.1 {}", server.port())).start().await;
    let limiter = Limiter::new(&store_of(&replica), fixed(100, YEAR));
    let linked = || async { replica.info("replication", "master_link_status").await == "up" };
    eventually(SOON, "the replica follows", linked).await;
    assert_eq!(limiter.take("v", 1).await.unwrap_err(), Fault::ReadOnly);
    limiter.works("v").await;

    let limiter = Limiter::new(&store_of(&server), fixed(100, YEAR));
    assert!(limiter.pass("v").await);
    server.config_set("min-replicas-to-write", "2").await;
    assert_eq!(limiter.take("v", 1).await.unwrap_err(), Fault::ReadOnly);
    server.config_set("min-replicas-to-write", "0").await;
    limiter.charges("v").await;
    assert_eq!(limiter.used("v").await, 2, "what was refused is not charged");
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loads_its_data_is_waited_for() {
    // how Redis' own tests make loading slow: so many microseconds for each key
    let slow = [("key-load-delay", "1000"), ("loading-process-events-interval-bytes", "1024")];
    let options = slow.iter().fold(Server::builder(), |options, (name, value)| options.argument(name, value));
    let server = options.start().await;
    let limiter = Limiter::new(&store_of(&server), fixed(100, YEAR)).patient(Duration::from_millis(100));
    assert!(limiter.pass("v").await);
    let fill = "for i = 1, 1500 do redis.call('SET', 'filler' .. i, string.rep('x', 100), 'EX', 100) end";
    server.command(&["EVAL", fill, "0"]).await;
    server.command(&["SAVE"]).await;
    let started = Instant::now();
    let ((), fresh) = within(SOON, async { tokio::join!(server.restart(), told_of_loading(&server)) }).await;
    println!("Redis has loaded its data after {:?}", started.elapsed());
    limiter.charges("v").await;
    fresh.charges("v").await;
    assert!(limiter.used("v").await >= 3, "what was saved is there");
    server.assert_all_have_ttl("").await;
}

/// A store that is told that Redis loads. One that has not failed before asks at once, one that has waits for its
/// probe: so this takes a new one until it sees it.
async fn told_of_loading(server: &Server) -> Limiter {
    loop {
        let fresh = Limiter::new(&store_of(server), fixed(100, YEAR));
        if fresh.take("v", 1).await.is_err_and(|fault| fault == Fault::Loading) {
            return fresh;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn logged_in(server: &Server, user: &str, password: &str) -> Limiter {
    let login = Login { user: Some(user.to_owned()), password: Some(password.to_owned()) };
    let access = Access { login, ..access(single(server.port())) };
    Limiter::new(&redis_store(options(access)), fixed(100, YEAR))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_is_told_so() {
    let server = Server::builder()
        .password("secret")
        .user("limiter", "right", &["~tg:*", "+@all", "-@dangerous", "+info"])
        .user("reader", "right", &["~tg:*", "+@all", "-evalsha"])
        .user("elsewhere", "right", &["~other:*", "+@all"])
        .start()
        .await;
    let limiter = logged_in(&server, "limiter", "right");
    assert!(limiter.pass("v").await);
    assert_eq!(limiter.store.check().await.unwrap().servers, 1);

    let wrong = logged_in(&server, "limiter", "wrong");
    assert_eq!(wrong.take("v", 1).await.unwrap_err(), Fault::Forbidden);
    let text = wrong.store.check().await.unwrap_err().to_string();
    println!("wrong password: {text}");
    assert!(text.contains("assword"), "{text}");

    let anonymous = Limiter::new(&store_of(&server), fixed(100, YEAR));
    assert_eq!(anonymous.take("v", 1).await.unwrap_err(), Fault::Forbidden);
    let text = anonymous.store.check().await.unwrap_err().to_string();
    println!("no password: {text}");
    assert!(text.contains("uthentication"), "{text}");

    for user in ["reader", "elsewhere"] {
        let limiter = logged_in(&server, user, "right");
        assert_eq!(limiter.take("v", 1).await.unwrap_err(), Fault::Forbidden, "{user}");
    }
    assert_eq!(limiter.used("v").await, 1);
    server.assert_all_have_ttl("").await;
}
