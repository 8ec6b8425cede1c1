//! One list of promises, kept by every store: in memory, in Redis, in a cluster, each with and without the
//! cache of refusals.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod redis_world;
mod store_world;

#[path = "contract/promises.rs"]
mod promises;
#[path = "contract/together.rs"]
mod together;

use std::sync::Arc;

use redis_world::{Cluster, Server};
use store_world::{access, cluster, options, redis_store, single};
use tollgate_server::store::Store;
use tollgate_server::store::denied::Denied;
use tollgate_server::store::memory::{Bounds, MemoryStore, OnFull};

fn memory() -> Arc<dyn Store> {
    let bounds = Bounds { max_keys: 100_000, max_bytes: u64::MAX, on_full: OnFull::Deny };
    Arc::new(MemoryStore::new(bounds))
}

fn with_denials(store: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Denied::new(store, 1 << 20))
}

async fn keeps_all(store: Arc<dyn Store>) {
    promises::all(&store).await;
    together::all(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_its_promises() {
    keeps_all(memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_behind_a_cache_of_refusals_does_too() {
    keeps_all(with_denials(memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_its_promises() {
    let server = Server::start().await;
    keeps_all(redis_store(options(access(single(server.port()))))).await;
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_behind_a_cache_of_refusals_does_too() {
    let server = Server::start().await;
    keeps_all(with_denials(redis_store(options(access(single(server.port())))))).await;
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_its_promises_with_and_without_a_cache_of_refusals() {
    let nodes = Cluster::start().await;
    let target = || cluster(nodes.nodes().iter().map(Server::port));
    keeps_all(redis_store(options(access(target())))).await;
    let mut other = options(access(target()));
    other.prefix = "other:".to_owned();
    keeps_all(with_denials(redis_store(other))).await;
    nodes.assert_all_have_ttl("").await;
}
