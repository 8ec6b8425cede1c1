//! Replies that are lost after Redis has charged.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tollgate_core::rules::Answer;
use tollgate_server::store::Fault;
use tollgate_server::store::redis::Options;

use super::limiter::{Limiter, SOON, store_of, store_on};
use crate::redis_world::{Proxy, Server, eventually};
use crate::store_world::{access, each_algorithm, options, redis_store, single};

const PATIENCE: Duration = Duration::from_millis(100);

/// Charges two units under `id` and loses the reply. The store asks again over a new connection, if it has the
/// time.
async fn lose_reply(
    server: &Server,
    proxy: &Proxy,
    limiter: &Limiter,
    id: Option<&[u8]>,
) -> Result<Answer, Fault> {
    let before = server.command_counts().await;
    proxy.swallow();
    let lost = {
        let (limiter, id) = (limiter.clone(), id.map(<[u8]>::to_vec));
        tokio::spawn(async move {
            match &id {
                Some(id) => limiter.take_as(id, "lost", 2).await,
                None => limiter.take("lost", 2).await,
            }
        })
    };
    let charged = || async { server.command_counts().await.since(&before).of("set") > 0 };
    eventually(SOON, "Redis has charged", charged).await;
    proxy.close_all().await;
    proxy.pass();
    lost.await.unwrap()
}

fn is_lost(told: &Result<Answer, Fault>) -> bool {
    matches!(told, Err(Fault::Timeout | Fault::Unreachable))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_asked_for_again_by_its_id() {
    // a leaky bucket refuses whoever has so little patience
    for (name, limit) in each_algorithm(20).into_iter().filter(|(name, _)| *name != "leaky") {
        let server = Server::start().await;
        let proxy = Proxy::start(server.port()).await;
        // one connection: another one that is still to be made would not get through
        let options = Options { lanes: 1, ..options(access(single(proxy.port()))) };
        let limiter = Limiter::new(&redis_store(options), limit.clone()).patient(PATIENCE);
        limiter.works("lost").await;
        let direct = Limiter::new(&store_of(&server), limit);

        let told = lose_reply(&server, &proxy, &limiter, Some(b"once")).await;
        assert!(told.is_ok_and(|answer| answer.verdict.used == 2) || is_lost(&told), "{name}: {told:?}");
        limiter.works("lost").await;
        let again = limiter.take_as(b"once", "lost", 2).await.unwrap().verdict;
        assert_eq!((again.allowed, again.used), (true, 2), "{name}");
        assert_eq!(direct.used("lost").await, 2, "{name}: charged once");

        if is_lost(&lose_reply(&server, &proxy, &limiter, None).await) {
            limiter.works("lost").await;
            assert!(limiter.take("lost", 2).await.unwrap().verdict.allowed, "{name}");
        }
        assert_eq!(direct.used("lost").await, 6, "{name}: without an id both count");
        server.assert_all_have_ttl("").await;
    }
}

/// Many callers, each of whom asks with its id until it is answered, while connections break all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_until_it_is_answered_is_charged_once() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let limiter = Limiter::wide(&store_on(single(proxy.port()))).patient(PATIENCE);
    let callers: Vec<_> =
        (0..16).map(|caller| tokio::spawn(ask_until_answered(limiter.clone(), caller))).collect();
    let mut cuts = 0;
    while !callers.iter().all(JoinHandle::is_finished) {
        proxy.swallow();
        sleep(Duration::from_millis(10)).await;
        proxy.close_all().await;
        proxy.pass();
        cuts += 1;
        sleep(Duration::from_millis(60)).await;
    }
    let (mut admitted, mut lost) = (0, 0);
    for caller in callers {
        let (one, other) = caller.await.unwrap();
        admitted += one;
        lost += other;
    }
    println!("{admitted} admitted, {lost} requests repeated, connections cut {cuts} times");
    assert!(lost > 0 && cuts > 1);
    assert_eq!(Limiter::wide(&store_of(&server)).used("hot").await, admitted);
    server.assert_all_have_ttl("").await;
}

/// The units admitted, and the requests that had to be repeated.
async fn ask_until_answered(limiter: Limiter, caller: u64) -> (u64, u64) {
    let (mut admitted, mut lost) = (0, 0);
    for turn in 0..25_u64 {
        let id = [caller.to_be_bytes(), turn.to_be_bytes()].concat();
        while limiter.take_as(&id, "hot", 1).await.is_err() {
            lost += 1;
            sleep(Duration::from_millis(5)).await;
        }
        admitted += 1;
        sleep(Duration::from_millis(1)).await;
    }
    (admitted, lost)
}
