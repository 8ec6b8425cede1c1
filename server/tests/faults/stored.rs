//! Keys of ours that hold something else.

use tollgate_server::store::Fault;
use tollgate_server::store::Store as _;
use tollgate_server::store::redis::state::VERSION;

use super::keys::only_key_of;
use super::limiter::{Limiter, store_of};
use crate::redis_world::Server;
use crate::store_world::{HOUR, YEAR, each_algorithm, fixed, token};

/// The counts of values replaced because they were another algorithm's, and because they were none.
fn counts(limiter: &Limiter) -> (u64, u64) {
    let remote = limiter.store.usage().remote.unwrap();
    (remote.replaced, remote.corrupt)
}

async fn put(server: &Server, key: &str, bytes: &[u8]) {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(bytes).arg("EX").arg(100);
    let () = set.query_async(&mut server.connection().await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_state_is_replaced_and_counted() {
    let server = Server::start().await;
    let store = store_of(&server);
    for (name, limit) in each_algorithm(5) {
        let limiter = Limiter::new(&store, limit);
        assert!(limiter.pass(name).await);
        let key = only_key_of(std::slice::from_ref(&server), name).await;
        let before = counts(&limiter);
        put(&server, &key, b"").await;
        assert!(limiter.pass(name).await, "{name}");
        put(&server, &key, b"\x01garbage that nobody understands").await;
        assert!(limiter.pass(name).await, "{name}");
        put(&server, &key, &[VERSION, b'T', 0xff, 0xff]).await;
        assert!(limiter.pass(name).await, "{name}");
        put(&server, &key, b"12345").await;
        assert!(limiter.pass(name).await, "{name}: somebody's counter");
        server.command(&["DEL", &key]).await;
        server.command(&["RPUSH", &key, "a", "list"]).await;
        assert!(limiter.pass(name).await, "{name}");
        assert_eq!(limiter.used(name).await, 1, "{name}: counted anew");
        assert_eq!(counts(&limiter), (before.0, before.1 + 5), "{name}");
    }
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_another_algorithm_is_replaced_and_counted() {
    let server = Server::start().await;
    let store = store_of(&server);
    let (before, after) = (Limiter::new(&store, fixed(5, YEAR)), Limiter::new(&store, token(5, HOUR)));
    assert!(before.take("v", 5).await.unwrap().verdict.allowed);
    assert_eq!(counts(&before), (0, 0));
    assert!(after.pass("v").await);
    assert_eq!((counts(&after), after.used("v").await), ((1, 0), 1));
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_a_newer_version_is_left_alone() {
    let server = Server::start().await;
    let limiter = Limiter::new(&store_of(&server), fixed(5, YEAR));
    assert!(limiter.pass("v").await && limiter.pass("w").await);
    let key = only_key_of(std::slice::from_ref(&server), "=\u{1}v").await;
    let newer = [VERSION + 1, b'F', 1, 2, 3];
    put(&server, &key, &newer).await;
    for units in [0, 1, 1, 1, 1] {
        assert_eq!(limiter.take("v", units).await.unwrap_err(), Fault::Newer);
    }
    assert_eq!(server.get::<Vec<u8>>(&["GET", &key]).await, newer);
    assert!(limiter.pass("w").await, "other keys are none the worse");
    server.assert_all_have_ttl("").await;
}
