//! A master that dies before its replica has everything.

use std::slice;
use std::time::Duration;

use tollgate_server::store::Fault;
use tollgate_server::store::redis::Options;

use super::limiter::{Limiter, SOON, store_of, wait_replicated};
use super::load::{Load, Tally};
use crate::redis_world::{Proxy, Server, eventually};
use crate::store_world::{access, options, redis_store, single};

const VALUE: &str = "tail";

/// A master and a replica, with a proxy between them that can hold back what the master tells.
struct Pair {
    master: Server,
    replica: Server,
    between: Proxy,
}

impl Pair {
    async fn start() -> Pair {
        let master = Server::start().await;
        let between = Proxy::start(master.port()).await;
        let replica =
            Server::builder().argument("replicaof", &format!("127.0.0.1 {}", between.port())).start().await;
        let linked = || async {
            replica.info("replication", "master_link_status").await == "up"
                && master.info("replication", "connected_slaves").await == "1"
        };
        eventually(SOON, "the replica follows", linked).await;
        Pair { master, replica, between }
    }

    fn limiter(&self, wait_replicas: u32) -> Limiter {
        let options = Options { wait_replicas, ..options(access(single(self.master.port()))) };
        Limiter::wide(&redis_store(options))
    }

    /// Charges while the replica hears nothing, until `enough` says so; then the master dies.
    async fn charge_unheard(&self, limiter: &Limiter) -> Tally {
        self.between.swallow();
        let used = Limiter::wide(&store_of(&self.master)).used(VALUE).await;
        let load = Load::start(slice::from_ref(limiter), &[VALUE.to_owned()], 4, Duration::from_millis(2));
        let watch = Limiter::wide(&store_of(&self.master));
        let grown = || async { watch.used(VALUE).await > used + 40 };
        eventually(SOON, "some charges the replica has not heard of", grown).await;
        let tally = load.stop().await;
        self.master.kill9();
        tally
    }

    /// Units in use on the replica, as the new master.
    async fn promote(&self) -> u64 {
        self.between.refuse().await;
        self.between.close_all().await;
        self.replica.command(&["REPLICAOF", "NO", "ONE"]).await;
        Limiter::wide(&store_of(&self.replica)).used(VALUE).await
    }
}

/// Requests while the replica listens.
async fn charge_heard(limiter: &Limiter) -> Tally {
    let load = Load::start(slice::from_ref(limiter), &[VALUE.to_owned()], 4, Duration::from_millis(2));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let tally = load.stop().await;
    tally.assert_no_fault();
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_at_most_what_was_not_replicated() {
    let pair = Pair::start().await;
    let limiter = pair.limiter(0);
    let heard = charge_heard(&limiter).await.admitted();
    wait_replicated(&pair.master, &pair.replica).await;
    let unheard = pair.charge_unheard(&limiter).await;
    unheard.assert_no_fault();
    let kept = pair.promote().await;
    let lost = heard + unheard.admitted() - kept;
    println!("{heard} units replicated, {} not, {lost} lost with the master", unheard.admitted());
    assert!(lost > 0 && lost <= unheard.admitted(), "{lost}");
    pair.replica.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_confirmed_charges_nothing_admitted_is_lost() {
    let pair = Pair::start().await;
    let limiter = pair.limiter(1);
    let heard = charge_heard(&limiter).await;
    let unheard = pair.charge_unheard(&limiter).await;
    let kept = pair.promote().await;
    println!(
        "{} units confirmed (p99 {:?}), then {:?} of {}; the new master has {kept}",
        heard.admitted(),
        heard.percentile(99),
        unheard.faults(),
        unheard.asked.len()
    );
    assert_eq!(unheard.admitted(), 0);
    assert!(unheard.faults_of(Fault::Unreplicated) > 0);
    assert!(kept >= heard.admitted(), "{kept} of {}", heard.admitted());
}
