//! Redis that is not there at first, that comes back empty, or whose place another server takes.

use std::os::unix::fs::symlink;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_server::store::Fault;
use tollgate_server::store::redis::{Login, Place, Target};

use super::limiter::{Limiter, store_of, store_on, wait_replicated};
use crate::redis_world::{MASTER_NAME, Sentinel, Server};
use crate::store_world::{YEAR, fixed, place};

const PATIENCE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_later_is_used_without_a_new_store() {
    let server = Server::start().await;
    server.kill9();
    let limiter = Limiter::new(&store_of(&server), fixed(10, YEAR)).patient(PATIENCE);
    for turn in 0..5 {
        let asked = Instant::now();
        let fault = limiter.take("v", 1).await.unwrap_err();
        println!("absent, request {turn}: {} after {:?}", fault.name(), asked.elapsed());
        assert!(asked.elapsed() < Duration::from_millis(500));
        assert!([Fault::Unreachable, Fault::Open, Fault::Timeout].contains(&fault), "{fault:?}");
    }
    server.restart().await;
    let started = Instant::now();
    limiter.charges("v").await;
    println!("works {:?} after the start", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(limiter.used("v").await, 1);

    // it keeps nothing on disk
    server.restart().await;
    let started = Instant::now();
    limiter.charges("v").await;
    println!("works {:?} after a restart that lost all data", started.elapsed());
    assert_eq!(limiter.used("v").await, 1);
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_the_next_master() {
    let world = Sentinel::start().await;
    let target = Target::Sentinel {
        master: MASTER_NAME.to_owned(),
        sentinels: (0..3).map(|index| place(world.sentinel(index).port())).collect(),
        login: Login::default(),
    };
    let limiter = Limiter::new(&store_on(target), fixed(10, YEAR)).patient(PATIENCE);
    limiter.charges("v").await;
    wait_replicated(world.data(0), world.data(1)).await;
    let killed = Instant::now();
    world.data(0).kill9();
    let promoted = world.wait_promoted(0).await;
    limiter.charges("v").await;
    println!(
        "promoted {:?} after the kill, works {:?} after the promotion",
        promoted - killed,
        promoted.elapsed()
    );
    assert!(promoted.elapsed() < Duration::from_secs(3));
    assert_eq!(limiter.used("v").await, 2, "what was replicated is there");

    // the master of before becomes a replica of its own, and is made master again while both live
    world.data(0).restart().await;
    world.wait_whole().await;
    world.sentinel(0).command(&["SENTINEL", "FAILOVER", MASTER_NAME]).await;
    let promoted = world.wait_promoted(1).await;
    limiter.charges("v").await;
    println!("works {:?} after a failover without a failure", promoted.elapsed());
    assert!(promoted.elapsed() < Duration::from_secs(3));
    world.data(0).assert_all_have_ttl("").await;
}

/// An address that leads to another server from one moment to the next, while the old one lives on as a
/// replica, as with the address of a managed service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_became_a_replica_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let socket = |name: &str| directory.path().join(name);
    let with_socket = |name: &str| Server::builder().argument("unixsocket", socket(name).to_str().unwrap());
    let (old, new) = (with_socket("old").start().await, with_socket("new").start().await);
    symlink(socket("old"), socket("now")).unwrap();
    let limiter = Limiter::new(&store_on(Target::Single(Place::Unix(socket("now")))), fixed(10, YEAR));
    assert!(limiter.pass("v").await);
    std::fs::remove_file(socket("now")).unwrap();
    symlink(socket("new"), socket("now")).unwrap();
    old.command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).await;
    // the replica refuses, and the same request goes over a new connection
    limiter.take("v", 1).await.unwrap();
    assert_eq!(Limiter::new(&store_of(&new), fixed(10, YEAR)).used("v").await, 1);
}
