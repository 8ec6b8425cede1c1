//! Slots that move to another master under load.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tollgate_core::rules::Charge;
use tollgate_server::store::redis::RedisStore;
use tollgate_server::store::{Fault, Replies};

use super::limiter::{Housed, Limiter, PARTITION, calm_store_of_cluster, start_cluster};
use super::load::Load;
use crate::redis_world::Server;
use crate::store_world::{Asking, Domain, YEAR, fixed, rule, take};

const KEYS: [&str; 3] = ["a", "b", "c"];
/// Between two keys that move: so that requests meet every state in between.
const STEP: Duration = Duration::from_millis(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_loses_nothing() {
    let nodes = start_cluster(Server::builder()).await;
    single_keys_have_no_fault(&nodes).await;
    several_keys_are_charged_together_or_not_at_all(&nodes).await;
    nodes.assert_all_have_ttl("").await;
}

/// Moves the slot of the partition to the next master, key by key.
async fn move_slot(nodes: &Housed) {
    let slot = nodes.slot_of(&format!("{{{}}}", PARTITION.1)).await;
    let to = (nodes.owner_of_slot(slot).await + 1) % 3;
    let migration = nodes.begin_migration(slot, to).await;
    while migration.move_next().await.is_some() {
        sleep(STEP).await;
    }
    sleep(STEP).await;
    migration.finish().await;
    assert_eq!(nodes.owner_of_slot(slot).await, to);
}

async fn single_keys_have_no_fault(nodes: &Housed) {
    let stores = [calm_store_of_cluster(nodes), calm_store_of_cluster(nodes)];
    let limiters = stores.each_ref().map(|store| Limiter::partitioned(store, fixed(1_000_000, YEAR)));
    let values: Vec<String> = (0..40).map(|index| format!("moved {index}")).collect();
    for value in &values {
        limiters[0].charges(value).await;
    }
    let mut before = Vec::new();
    for value in &values {
        before.push(limiters[0].used(value).await);
    }
    let load = Load::start(&limiters, &values, 6, Duration::from_millis(1));
    for _ in 0..3 {
        move_slot(nodes).await;
    }
    let tally = load.stop().await;
    println!(
        "a slot moved 3 times: {} requests, p99 {:?}, longest {:?}, faults {:?}",
        tally.asked.len(),
        tally.percentile(99),
        tally.longest(),
        tally.faults()
    );
    tally.assert_no_fault();
    for (value, before) in values.iter().zip(before) {
        assert_eq!(limiters[1].used(value).await, before + tally.admitted_of(value), "{value}");
    }
}

/// A request for all of [`KEYS`] in the partition.
#[derive(Clone)]
struct Together {
    store: Arc<RedisStore>,
    domain: Arc<tollgate_core::rules::Matcher>,
}

impl Together {
    async fn ask(&self, value: &str, units: u64) -> Replies {
        let asking = Asking::new(&*self.store, &self.domain, "together");
        let asking = Asking { partition: Some(PARTITION), ..asking };
        asking.try_ask(&KEYS.map(|key| take(key, value, units))).await
    }
}

/// What came of one caller's requests.
#[derive(Debug, Default)]
struct Sum {
    asked: u64,
    admitted: u64,
    refused: u64,
    faults: u64,
    /// Of these: those that may have been charged.
    unsure: u64,
}

async fn ask_together(together: Together, value: String, count: u64) -> Sum {
    let mut sum = Sum::default();
    for _ in 0..count {
        let replies = together.ask(&value, 1).await;
        sum.asked += 1;
        match replies.iter().copied().collect::<Result<Vec<_>, Fault>>() {
            Ok(answers) if answers.iter().all(|answer| answer.verdict.allowed) => sum.admitted += 1,
            Ok(_) => sum.refused += 1,
            Err(fault) => {
                assert!(replies.iter().all(Result::is_err), "one group, one fault: {replies:?}");
                sum.faults += 1;
                sum.unsure += u64::from(fault == Fault::Timeout);
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    sum
}

async fn several_keys_are_charged_together_or_not_at_all(nodes: &Housed) {
    let limits = KEYS.into_iter().zip([100_000, 40, 100_000]);
    let rules = limits.map(|(key, limit)| rule(key, fixed(limit, YEAR))).collect();
    let mut domain = Domain::new("together", Charge::AllOrNothing, rules);
    domain.partition = Some(PARTITION.0.to_owned());
    let together = Together { store: calm_store_of_cluster(nodes), domain: Arc::new(domain.matcher()) };
    let values: Vec<String> = (0..8).map(|index| format!("together {index}")).collect();
    let callers: Vec<_> =
        values.iter().map(|value| tokio::spawn(ask_together(together.clone(), value.clone(), 300))).collect();
    move_slot(nodes).await;
    let mut total = Sum::default();
    for (value, caller) in values.iter().zip(callers) {
        let sum = caller.await.unwrap();
        let used: Vec<u64> =
            together.ask(value, 0).await.iter().map(|reply| reply.unwrap().verdict.used).collect();
        assert!(used.iter().all(|each| *each == used[0]), "{value}: {used:?}");
        let possible = sum.admitted..=sum.admitted + sum.unsure;
        assert!(possible.contains(&used[0]) && used[0] <= 40, "{value}: {used:?} of {sum:?}");
        total.asked += sum.asked;
        total.admitted += sum.admitted;
        total.refused += sum.refused;
        total.faults += sum.faults;
        total.unsure += sum.unsure;
    }
    println!("several keys of a slot that moves: {total:?}");
    assert!(total.admitted > 0 && total.faults < total.asked / 2);
}
