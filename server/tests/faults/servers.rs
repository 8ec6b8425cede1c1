//! Servers count each other, and remove only what is theirs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_server::clock::SystemClock;
use tollgate_server::fallback::Servers;
use tollgate_server::store::redis::{Options, RedisStore};

use super::limiter::{Limiter, SOON, start_cluster, store_of_cluster};
use crate::redis_world::{Server, eventually};
use crate::store_world::{access, cluster, options, redis_store, single};

fn counting(server: &Server) -> (Arc<RedisStore>, Servers) {
    let servers = Servers::new(1);
    let store =
        RedisStore::new(options(access(single(server.port()))), Arc::new(SystemClock), servers.clone());
    (Arc::new(store.unwrap()), servers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_redis_count_each_other() {
    let server = Server::start().await;
    let ((one, seen_by_one), (other, seen_by_other)) = (counting(&server), counting(&server));
    let keep = |store: Arc<RedisStore>| tokio::spawn(async move { store.keep_up().await });
    let (_one, other) = (keep(one), keep(other));
    let started = Instant::now();
    let both = || async { seen_by_one.count() == 2 && seen_by_other.count() == 2 };
    eventually(SOON, "both see both", both).await;
    println!("both count 2 after {:?}", started.elapsed());
    other.abort();
    let stopped = Instant::now();
    eventually(SOON + SOON, "one is alone again", || async { seen_by_one.count() == 1 }).await;
    println!("one counts 1 again {:?} after the other stopped", stopped.elapsed());
    assert!(stopped.elapsed() > Duration::from_secs(3), "a pause is no end");
    server.assert_all_have_ttl("").await;
}

/// Ours and other keys, of which [`RedisStore::clear`] takes only ours.
async fn clears_only_its_own(
    ours: Arc<RedisStore>,
    theirs: Arc<RedisStore>,
    tell: &Server,
    foreign: &[String],
) {
    let (mine, other) = (Limiter::wide(&ours), Limiter::wide(&theirs));
    for index in 0..50 {
        let value = format!("cleared {index}");
        mine.charges(&value).await;
        other.charges(&value).await;
    }
    assert_eq!(ours.clear().await, Ok(50));
    assert_eq!(ours.clear().await, Ok(0));
    for index in 0..50 {
        let value = format!("cleared {index}");
        assert_eq!((mine.used(&value).await, other.used(&value).await), (0, 1));
    }
    for key in foreign {
        assert_eq!(tell.get::<u64>(&["EXISTS", key]).await, 1, "{key}");
    }
    assert_eq!(theirs.clear().await, Ok(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clearing_takes_only_our_keys() {
    let server = Server::start().await;
    let store = |prefix: &str| {
        let options = options(access(single(server.port())));
        redis_store(Options { prefix: prefix.to_owned(), ..options })
    };
    let foreign = ["tg", "tG:x", "atg:x", "session:1", "tx:1"].map(str::to_owned);
    for key in &foreign {
        server.command(&["SET", key, "v", "EX", "100"]).await;
    }
    clears_only_its_own(store("tg:"), store("tg2:"), &server, &foreign).await;
    // a prefix is no pattern
    clears_only_its_own(store("t*:"), store("tg:"), &server, &foreign).await;
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clearing_a_cluster_takes_only_our_keys() {
    let nodes = start_cluster(Server::builder()).await;
    let other = options(access(cluster(nodes.nodes().iter().map(Server::port))));
    let other = redis_store(Options { prefix: "other:".to_owned(), ..other });
    let owner = nodes.node(nodes.owner_of("session:1").await);
    owner.command(&["SET", "session:1", "v", "EX", "100"]).await;
    clears_only_its_own(store_of_cluster(&nodes), other, owner, &["session:1".to_owned()]).await;
    nodes.assert_all_have_ttl("").await;
}
