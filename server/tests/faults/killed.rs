//! A master of a cluster that dies or stops under load.

use std::slice;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollgate_server::store::Fault;

use super::keys::values_by_master;
use super::limiter::{Housed, Limiter, SOON, start_only_cluster, store_of_cluster};
use super::load::{Load, Tally};
use crate::redis_world::{Server, eventually};

const PATIENCE: Duration = Duration::from_millis(50);
const LONGEST_ANSWER: Duration = Duration::from_millis(500);
const LONGEST_RECOVERY: Duration = Duration::from_secs(3);
/// Tasks on each shard, and their pause after each request.
const TASKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_dies_or_stops_costs_its_own_keys_only() {
    // without this Redis itself refuses every slot while one has no master
    let nodes = start_only_cluster(Server::builder().argument("cluster-require-full-coverage", "no")).await;
    let values = values_by_master(&nodes, 3).await;
    lose(&nodes, &values, 0, Loss::Killed).await;
    lose(&nodes, &values, 1, Loss::Stopped).await;
    nodes.assert_all_have_ttl("").await;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Loss {
    Killed,
    Stopped,
}

async fn lose(nodes: &Housed, values: &[Vec<String>; 3], lost: usize, how: Loss) {
    let limiter = Limiter::wide(&store_of_cluster(nodes)).patient(PATIENCE);
    // as a server does: the store learns which shards there are
    let keeping = tokio::spawn({
        let store = limiter.store.clone();
        async move { store.keep_up().await }
    });
    limiter.store.check().await.unwrap();
    for value in values.iter().flatten() {
        limiter.works(value).await;
    }
    let loads = values.each_ref().map(|values| Load::start(slice::from_ref(&limiter), values, TASKS, PAUSE));
    sleep(Duration::from_millis(300)).await;
    let at = Instant::now();
    match how {
        Loss::Killed => nodes.node(lost).kill9(),
        Loss::Stopped => nodes.node(lost).pause().await,
    }
    let promoted = nodes.wait_promoted(lost).await.at;
    let back = || async { limiter.take(&values[lost][0], 1).await.is_ok() };
    eventually(SOON, "the shard is back", back).await;
    // what fails after its return would be seen too
    sleep(Duration::from_millis(300)).await;
    let mut tallies = Vec::new();
    for load in loads {
        tallies.push(load.stop().await);
    }
    keeping.abort();
    let failing = tallies.remove(lost);
    let others = Tally { asked: tallies.into_iter().flat_map(|tally| tally.asked).collect() };
    println!("{how:?}: promoted after {:?}", promoted - at);
    judge_others(&others.only(|asked| asked.at > at));
    judge_failing(&failing.only(|asked| asked.at > at), promoted);
    match how {
        Loss::Killed => nodes.node(lost).restart().await,
        Loss::Stopped => nodes.node(lost).resume(),
    }
    nodes.wait_whole().await;
}

fn judge_others(others: &Tally) {
    println!(
        "  other shards: {} requests, p99 {:?}, longest {:?}, faults {:?}",
        others.asked.len(),
        others.percentile(99),
        others.longest(),
        others.faults()
    );
    // a busy machine is late once in a while, and three late answers in a row are a reason to probe; but nothing
    // is wrong with the way there
    let faults: u64 = others.faults().values().sum();
    assert_eq!(others.faults_of(Fault::Unreachable), 0, "{:?}", others.faults());
    assert!(faults * 33 < others.asked.len() as u64, "{:?} of {}", others.faults(), others.asked.len());
}

fn judge_failing(failing: &Tally, promoted: Instant) {
    let last = failing.asked.iter().filter(|asked| asked.answer.is_err()).map(|asked| asked.at + asked.took);
    let recovery = last.max().unwrap().saturating_duration_since(promoted);
    let open = failing.only(|asked| asked.answer == Err(Fault::Open));
    println!(
        "  its shard: {} requests, longest answer {:?}, faults {:?}, Open in {:?} (median), back {recovery:?} after \
         the promotion",
        failing.asked.len(),
        failing.longest(),
        failing.faults(),
        open.percentile(50),
    );
    assert!(failing.longest() < LONGEST_ANSWER, "{:?}", failing.longest());
    assert!(recovery < LONGEST_RECOVERY, "{recovery:?}");
    // with the gate open nobody waits for anything
    assert!(open.percentile(50) < PATIENCE / 2);
}
