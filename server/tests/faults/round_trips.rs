//! What a decision costs Redis.

use tollgate_core::rules::Charge;

use super::limiter::{KEY, Limiter, PARTITION, calm_store_of, calm_store_of_cluster, start_cluster};
use super::load::burst;
use crate::redis_world::Server;
use crate::store_world::{Asking, Domain, YEAR, fixed, rule, take};

const DECISIONS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_one_call_and_many_at_once_are_fewer() {
    let server = Server::start().await;
    let limiter = Limiter::new(&calm_store_of(&server), fixed(150, YEAR));
    limiter.works("v").await;
    let before = server.command_counts().await;
    for _ in 0..DECISIONS {
        assert!(limiter.pass("v").await);
    }
    let new = server.command_counts().await.since(&before);
    assert_eq!(new.of("evalsha"), DECISIONS, "{new:?}");
    // the script's own, one of each; nothing else, no script sent again
    assert_eq!((new.of("time"), new.of("get"), new.of("set")), (DECISIONS, DECISIONS, DECISIONS), "{new:?}");
    assert_eq!(new.total(), 4 * DECISIONS, "{new:?}");

    let before = server.command_counts().await;
    let tally = burst(&limiter, "v", 200).await;
    tally.assert_no_fault();
    let calls = server.command_counts().await.since(&before).of("evalsha");
    println!("200 decisions at once: {calls} calls, longest {:?}", tally.longest());
    assert!(calls < 200, "{calls}");
    assert_eq!((tally.admitted(), limiter.used("v").await), (50, 150));
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_limits_of_a_partition_are_one_call() {
    let nodes = start_cluster(Server::builder()).await;
    let store = calm_store_of_cluster(&nodes);
    let keys = ["one", "two", "three", KEY];
    let rules = keys.into_iter().map(|key| rule(key, fixed(1_000, YEAR))).collect();
    let mut domain = Domain::new("four", Charge::AllOrNothing, rules);
    domain.partition = Some(PARTITION.0.to_owned());
    let matcher = domain.matcher();
    let asking = Asking { partition: Some(PARTITION), ..Asking::new(&*store, &matcher, "four") };
    let asks = keys.map(|key| take(key, "v", 1));
    assert_eq!(asking.allowed(&asks).await, [true; 4]);
    let before = nodes.command_counts().await;
    for _ in 0..DECISIONS {
        assert_eq!(asking.allowed(&asks).await, [true; 4]);
    }
    let new = nodes.command_counts().await.since(&before);
    assert_eq!((new.of("evalsha"), new.of("eval")), (DECISIONS, 0), "{new:?}");
    assert_eq!(new.of("set"), 4 * DECISIONS, "{new:?}");
    for key in keys {
        assert_eq!(asking.used(key, "v").await, DECISIONS + 1);
    }
    nodes.assert_all_have_ttl("").await;
}
