//! With the layout of envoyproxy/ratelimit both servers count together in one Redis: names, lifetimes and
//! accounting are its own (its specification: §3.1 and §3.2).

mod redis_world;
mod store_world;

use std::sync::Arc;

use redis_world::{Cluster, Server};
use store_world::{
    Asking, Domain, access, cluster, fixed_with, options, redis_store, refund, rule, single, take,
};
use tollgate_core::limit::{Refused, Retry};
use tollgate_core::rules::{Charge, Layout};
use tollgate_core::time::Span;
use tollgate_server::store::redis::{Options, RedisStore, Target};
use tollgate_server::store::{Fault, Store};

const DAY: Span = Span::from_secs(86_400);

fn reference(target: Target) -> Options {
    Options {
        layout: Layout::Reference,
        prefix: "prefix:".to_owned(),
        expiration_jitter_secs: 300,
        ..options(access(target))
    }
}

fn domain(limit: u64) -> Domain {
    let limit = fixed_with(limit, DAY, Refused::Counts);
    Domain::new("shop", Charge::Each, vec![rule("user", limit.clone()), rule("ip", limit)])
}

/// The name that the reference gives to the counter of `user` on the day that Redis' clock shows.
async fn name(server: &Server, value: &str) -> String {
    let day = server.time().await.as_secs() / 86_400 * 86_400;
    format!("prefix:shop_user_{value}_{day}")
}

async fn with(server: &Server) -> (Arc<RedisStore>, Domain) {
    (redis_store(reference(single(server.port()))), domain(5))
}

#[tokio::test]
async fn names_and_lifetimes_are_those_of_the_reference() {
    let server = Server::start().await;
    let (store, domain) = with(&server).await;
    let matcher = domain.matcher_with(Layout::Reference);
    let asking = Asking::new(&*store, &matcher, "shop");
    assert!(asking.pass("user", "ann").await);
    let name = name(&server, "ann").await;
    assert_eq!(server.get::<String>(&["GET", &name]).await, "1");
    let ttl: i64 = server.get(&["TTL", &name]).await;
    assert!((86_399..=86_400 + 300).contains(&ttl), "{ttl}");
    assert_eq!(server.keys("").await.len(), 1);
}

#[tokio::test]
async fn both_servers_count_together() {
    let server = Server::start().await;
    let (store, domain) = with(&server).await;
    let matcher = domain.matcher_with(Layout::Reference);
    let asking = Asking::new(&*store, &matcher, "shop");
    let name = name(&server, "ann").await;
    for expected in [1_i64, 3, 5] {
        // what the reference sends for one hit
        assert_eq!(server.get::<i64>(&["INCRBY", &name, "1"]).await, expected);
        server.command(&["EXPIRE", &name, "86400"]).await;
        let verdict = asking.ask(&[take("user", "ann", 1)]).await[0].verdict;
        assert_eq!(verdict.used, expected.cast_unsigned() + 1);
        assert_eq!(verdict.allowed, expected < 5);
    }
    let refused = asking.ask(&[take("user", "ann", 1)]).await[0].verdict;
    assert_eq!((refused.allowed, refused.used, refused.used_before), (false, 7, 6), "refused hits count");
    assert_eq!(refused.retry_after, Retry::After(refused.reset_after));
    assert_eq!(server.get::<i64>(&["GET", &name]).await, 7);
}

#[tokio::test]
async fn looks_write_nothing_and_refunds_stop_at_nothing() {
    let server = Server::start().await;
    let (store, domain) = with(&server).await;
    let matcher = domain.matcher_with(Layout::Reference);
    let asking = Asking::new(&*store, &matcher, "shop");
    assert_eq!(asking.used("user", "ann").await, 0);
    assert!(asking.allowed(&[refund("user", "ann", 3)]).await[0]);
    assert!(server.keys("").await.is_empty());
    asking.ask(&[take("user", "ann", 4)]).await;
    assert_eq!(asking.ask(&[refund("user", "ann", 3)]).await[0].verdict.used, 1);
    assert_eq!(asking.ask(&[refund("user", "ann", 3)]).await[0].verdict.used, 0);
    let huge = asking.ask(&[take("user", "ann", 6)]).await[0].verdict;
    assert_eq!(huge.retry_after, Retry::Never);
}

#[tokio::test]
async fn a_value_that_is_no_number_is_a_fault_and_stays() {
    let server = Server::start().await;
    let (store, domain) = with(&server).await;
    let matcher = domain.matcher_with(Layout::Reference);
    let name = name(&server, "ann").await;
    server.command(&["SET", &name, "many"]).await;
    let replies = Asking::new(&*store, &matcher, "shop").try_ask(&[take("user", "ann", 1)]).await;
    assert_eq!(replies[0], Err(Fault::Garbled));
    assert_eq!(server.get::<String>(&["GET", &name]).await, "many");
}

#[tokio::test]
async fn in_a_cluster_the_hits_of_a_request_are_counted_where_they_are() {
    let nodes = Cluster::start().await;
    let store = redis_store(reference(cluster(nodes.nodes().iter().map(Server::port))));
    store.check().await.unwrap();
    let domain = domain(2);
    let matcher = domain.matcher_with(Layout::Reference);
    let store: Arc<dyn Store> = store;
    let asking = Asking::new(&*store, &matcher, "shop");
    for turn in 0..3 {
        let asks: Vec<_> = ["a", "b", "{c}"]
            .iter()
            .flat_map(|value| [take("user", value, 1), take("ip", value, 1)])
            .collect();
        assert_eq!(asking.allowed(&asks).await, vec![turn < 2; 6]);
    }
    assert_eq!(nodes.keys("prefix:shop_").await.len(), 6);
    nodes.assert_all_have_ttl("").await;
}
