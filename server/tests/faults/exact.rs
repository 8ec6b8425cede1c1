//! Two servers on one Redis admit together exactly what the limit says.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_server::store::redis::RedisStore;

use super::limiter::{Limiter, SOON, calm_store_of, calm_store_of_cluster, start_cluster};
use super::load::Load;
use crate::redis_world::{Server, eventually};
use crate::store_world::each_algorithm;

const TASKS: usize = 64;
const LIMIT: u64 = 100;

async fn ask_five_times(limiter: Limiter, value: &str) -> u64 {
    let mut admitted = 0;
    for _ in 0..5 {
        admitted += u64::from(limiter.pass(value).await);
    }
    admitted
}

async fn admit_exactly(stores: [Arc<RedisStore>; 2]) {
    for (name, limit) in each_algorithm(LIMIT) {
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let limiter = Limiter::new(&stores[task % 2], limit.clone());
            tasks.spawn(ask_five_times(limiter, name));
        }
        let admitted: u64 = tasks.join_all().await.iter().sum();
        assert_eq!(admitted, LIMIT, "{name}");
        for store in &stores {
            assert_eq!(Limiter::new(store, limit.clone()).used(name).await, LIMIT, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_redis_admit_exactly_the_limit() {
    let server = Server::start().await;
    admit_exactly([calm_store_of(&server), calm_store_of(&server)]).await;
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_cluster_admit_exactly_the_limit() {
    let nodes = start_cluster(Server::builder()).await;
    admit_exactly([calm_store_of_cluster(&nodes), calm_store_of_cluster(&nodes)]).await;
    nodes.assert_all_have_ttl("").await;
    forgotten_scripts(&nodes.nodes()[..3], &[calm_store_of_cluster(&nodes), calm_store_of_cluster(&nodes)])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgets_scripts_loses_nothing() {
    let server = Server::start().await;
    forgotten_scripts(std::slice::from_ref(&server), &[calm_store_of(&server), calm_store_of(&server)]).await;
    server.assert_all_have_ttl("").await;
}

/// Has `servers` forget all scripts again and again under load.
async fn forgotten_scripts(servers: &[Server], stores: &[Arc<RedisStore>]) {
    let limiters: Vec<Limiter> = stores.iter().map(Limiter::wide).collect();
    let values: Vec<String> = (0..8).map(|index| format!("flushed {index}")).collect();
    let load = Load::start(&limiters, &values, 8, Duration::ZERO);
    let sent = |store: &Arc<RedisStore>| tollgate_server::store::Store::usage(&**store).remote.unwrap().calls;
    let mut flushes = 0;
    let mut last: u64 = 0;
    for how in ["ASYNC", "SYNC"].into_iter().cycle().take(60) {
        for server in servers {
            server.command(&["SCRIPT", "FLUSH", how]).await;
            flushes += 1;
        }
        // each time some calls come in between
        eventually(SOON, "calls go on", || async { stores.iter().map(sent).sum::<u64>() > last + 5 }).await;
        last = stores.iter().map(sent).sum();
    }
    let tally = load.stop().await;
    tally.assert_no_fault();
    let mut evals = 0;
    for server in servers {
        evals += server.command_counts().await.of("eval");
    }
    println!(
        "scripts forgotten {flushes} times, sent again {evals} times, {} requests, longest {:?}",
        tally.asked.len(),
        tally.longest()
    );
    assert!(evals > 10, "{evals}");
    for value in &values {
        assert_eq!(limiters[0].used(value).await, tally.admitted_of(value), "{value}");
    }
}
