//! Leases over Redis, and over stores that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tollgate_core::rules::Hit;
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1::lease_response::Reason;
use tollgate_server::adapter::native::{Code, Leases};
use tollgate_server::store::denied::Denied;
use tollgate_server::store::{Charging, Clearing, Fault, Forgetting, Request, Store, Usage};

use crate::lessor::{Lessor, SECRET, give_back, request, span, try_give_back};
use crate::redis_world::{Cluster, Server};
use crate::rls_world::memory;
use crate::store_world::{access, cluster, options, redis_store, single};

const RULES: &str = "
domain: d
descriptors:
  - key: year
    rate_limit: { unit: year, requests_per_unit: 2000 }
  - key: other
    rate_limit: { unit: year, requests_per_unit: 3000 }
  - key: bucket
    rate_limit: { unit: hour, requests_per_unit: 1, burst: 4000, algorithm: token_bucket, accuracy: leased }
  - key: spare
    rate_limit: { unit: hour, requests_per_unit: 1, burst: 4000, algorithm: token_bucket, accuracy: leased }
  - key: local
    rate_limit: { unit: year, requests_per_unit: 2000, on_failure: local }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: year, requests_per_unit: 2000 }
";

/// Buys and checks until there is nothing to buy.
async fn exhaust_alone(lessor: &Lessor, keys: &[&str], tokens: u64) -> u64 {
    let mut sum = 0;
    loop {
        let leased = lessor.lease(keys, tokens).await;
        sum += leased.granted + u64::from(lessor.check(keys, 1).await);
        if leased.granted == 0 {
            return sum;
        }
    }
}

/// Buys and checks from eight sides at once until nothing is left; returns what was had.
async fn exhaust(lessor: &Arc<Lessor>, keys: &'static [&'static str]) -> u64 {
    let tasks: Vec<_> = (0..8_u64)
        .map(|side| {
            let lessor = lessor.clone();
            tokio::spawn(async move { exhaust_alone(&lessor, keys, 100 + side).await })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    // over slots two that come at once may refuse each other
    while lessor.check(keys, 1).await {
        sum += 1;
    }
    sum
}

async fn grants_the_limit_and_no_more(store: Arc<dyn Store>) {
    let lessor = Arc::new(Lessor::over(store, RULES));
    assert_eq!(exhaust(&lessor, &["year"]).await, 2_000);
    // requests stop at half the burst; what was leased of it was charged to the same half
    assert_eq!(exhaust(&lessor, &["bucket"]).await, 2_000);
    assert_eq!(lessor.lease(&["bucket"], 1).await.reason(), Reason::Exhausted);
}

async fn gives_back_once(store: Arc<dyn Store>) {
    let lessor = Lessor::over(store, RULES);
    let keys = &["other", "spare"];
    let friend = lessor.beside(Leases::shared_key(SECRET));
    let before = (lessor.remaining("other").await, lessor.remaining("spare").await);
    let leased = lessor.lease(keys, 40).await;
    assert_eq!(leased.granted, 40, "{leased:?}");
    let mut back = Vec::new();
    for server in [&friend, &lessor.leases, &friend, &lessor.leases] {
        back.push(give_back(server, keys, &leased.lease, 30).await);
    }
    assert_eq!(back, [30, 0, 0, 0]);
    let after = (lessor.remaining("other").await, lessor.remaining("spare").await);
    assert_eq!((before.0 - after.0, before.1 - after.1), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory() {
    gives_back_once(memory()).await;
    grants_the_limit_and_no_more(memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_redis_with_and_without_a_cache_of_refusals() {
    let server = Server::start().await;
    let mut other = options(access(single(server.port())));
    other.prefix = "other:".to_owned();
    for store in [
        redis_store(options(access(single(server.port())))) as Arc<dyn Store>,
        Arc::new(Denied::new(redis_store(other), 1 << 20)),
    ] {
        gives_back_once(store.clone()).await;
        grants_the_limit_and_no_more(store).await;
    }
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster() {
    let nodes = Cluster::start().await;
    let store = redis_store(options(access(cluster(nodes.nodes().iter().map(Server::port)))));
    gives_back_once(store.clone()).await;
    grants_the_limit_and_no_more(store).await;
    nodes.assert_all_have_ttl("").await;
}

/// A store that can be switched off.
struct Switched {
    store: Arc<dyn Store>,
    off: AtomicBool,
}

impl Store for Switched {
    fn charge<'a>(&'a self, request: Request<'a>) -> Charging<'a> {
        if self.off.load(SeqCst) {
            let faults = request.hits.iter().map(|_| Err(Fault::Unreachable)).collect();
            return Box::pin(std::future::ready(faults));
        }
        self.store.charge(request)
    }

    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], now: Time) -> Forgetting<'a> {
        self.store.forget(hits, now)
    }

    fn clear(&self) -> Clearing<'_> {
        self.store.clear()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }
}

#[tokio::test]
async fn without_a_store_there_are_no_leases() {
    let store = Arc::new(Switched { store: memory(), off: AtomicBool::new(false) });
    let lessor = Lessor::over(store.clone(), RULES);
    let leased = lessor.lease(&["year"], 100).await;
    store.off.store(true, SeqCst);
    let failed = lessor.leases.lease(&request(&["year"], 10), None).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    let failed = try_give_back(&lessor.leases, &["year"], &leased.lease, 50).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    // what a share of the limit would answer is no lease
    let local = lessor.lease(&["local"], 10).await;
    assert_eq!((local.granted, local.reason()), (0, Reason::NotLeasable));
    assert_eq!(span(local.retry_after), Some(Span::SECOND));
    let both = lessor.leases.lease(&request(&["local", "year"], 10), None).await.unwrap_err();
    assert_eq!(both.code(), Code::Unavailable);
    assert_eq!(lessor.lease(&["watched"], 10).await.granted, 10, "shadow refuses nothing");
    store.off.store(false, SeqCst);
    assert_eq!(lessor.give_back(&["year"], &leased.lease, 50).await, 50, "it can still be given back");
    assert_eq!((lessor.remaining("year").await, lessor.remaining("local").await), (1_950, 2_000));
}

fn lose(hit: &Hit<'_>, reply: &mut Result<tollgate_core::rules::Answer, Fault>) {
    let lost = hit.key.as_bytes().ends_with(b"year=\x01v");
    if lost && matches!(hit.ask.cost, tollgate_core::limit::Cost::Take(1..)) {
        *reply = Err(Fault::Timeout);
    }
}

/// A store whose charges of one counter get lost on the way, while looks and other counters work.
struct Lossy(Arc<dyn Store>);

impl Store for Lossy {
    fn charge<'a>(&'a self, request: Request<'a>) -> Charging<'a> {
        Box::pin(async move {
            let mut replies = self.0.charge(request).await;
            for (hit, reply) in request.hits.iter().zip(&mut replies) {
                lose(hit, reply);
            }
            replies
        })
    }

    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], now: Time) -> Forgetting<'a> {
        self.0.forget(hits, now)
    }

    fn clear(&self) -> Clearing<'_> {
        self.0.clear()
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }
}

#[tokio::test]
async fn what_was_charged_beside_a_limit_that_did_not_answer_is_given_back() {
    let lessor = Lessor::over(Arc::new(Lossy(memory())), RULES);
    let failed = lessor.leases.lease(&request(&["other", "year"], 40), None).await.unwrap_err();
    assert_eq!(failed.code(), Code::Timeout);
    let mut turns = 0;
    while lessor.remaining("other").await < 3_000 {
        turns += 1;
        assert!(turns < 10_000, "40 tokens are lost");
        tokio::task::yield_now().await;
    }
    assert_eq!(
        lessor.remaining("year").await,
        1_960,
        "this one may have been charged, so that it counts as such"
    );
}
