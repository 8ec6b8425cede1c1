//! What the store in Redis does between requests: keeps its connections, counts the servers.

mod redis_world;
mod store_world;

use std::sync::Arc;
use std::time::Duration;

use redis_world::{Server, eventually};
use store_world::{Asking, Domain, YEAR, access, fixed, options, redis_store, rule, single};
use tollgate_core::rules::{Charge, Matcher};
use tollgate_server::clock::SystemClock;
use tollgate_server::fallback::Servers;
use tollgate_server::store::redis::RedisStore;

const SOON: Duration = Duration::from_secs(12);

fn matcher() -> Matcher {
    Domain::new("d", Charge::Admitted, vec![rule("k", fixed(5, YEAR))]).matcher()
}

#[tokio::test]
async fn a_connection_that_broke_while_nobody_asked_costs_no_request() {
    let server = Server::start().await;
    let store = redis_store(options(access(single(server.port()))));
    let matcher = matcher();
    for round in 0..3 {
        let replies = Asking::new(&*store, &matcher, "d").try_ask(&[store_world::take("k", "v", 1)]).await;
        assert!(replies[0].is_ok(), "round {round}: {replies:?}");
        server.kill9();
        server.restart().await;
    }
}

#[tokio::test]
async fn a_server_that_leaves_is_counted_no_more() {
    let server = Server::start().await;
    let one_of = |servers: &Servers| {
        let options = options(access(single(server.port())));
        Arc::new(RedisStore::new(options, Arc::new(SystemClock), servers.clone()).unwrap())
    };
    let (seen_by_one, seen_by_two) = (Servers::new(7), Servers::new(7));
    let (one, two) = (one_of(&seen_by_one), one_of(&seen_by_two));
    let (here, there) = (one.clone(), two.clone());
    let staying = tokio::spawn(async move { here.keep_up().await });
    let leaving = tokio::spawn(async move { there.keep_up().await });
    let both = || async { seen_by_one.count() == 2 && seen_by_two.count() == 2 };
    eventually(SOON, "both count two", both).await;
    leaving.abort();
    two.leave().await.unwrap();
    let began = tokio::time::Instant::now();
    eventually(SOON, "one is left", || async { seen_by_one.count() == 1 }).await;
    // at the next look, two seconds apart; one that crashed would count for six
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    staying.abort();
    server.assert_all_have_ttl("").await;
}
