//! Redis that answers late.

use std::time::Duration;

use tollgate_server::store::Fault;
use tollgate_server::store::redis::Options;

use super::limiter::{Limiter, SOON, store_of, store_on};
use super::load::{ask, burst};
use crate::redis_world::{Proxy, Server, eventually, within};
use crate::store_world::{YEAR, access, fixed, options, redis_store, single};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_is_not_waited_for_longer_than_the_caller_does() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let store = store_on(single(proxy.port()));
    Limiter::wide(&store).works("slow").await;
    proxy.delay(Duration::from_millis(30));
    let patience = Duration::from_millis(20);
    let hurried = Limiter::wide(&store).patient(patience);
    let mut faults = Vec::new();
    for _ in 0..5 {
        let asked = ask(&hurried, &"slow".into()).await;
        let fault = asked.answer.unwrap_err();
        faults.push(fault);
        assert!(asked.took <= patience + Duration::from_millis(30), "{:?}", asked.took);
    }
    assert_eq!(faults[0], Fault::Timeout);
    // who is late three times in a row is left alone for a moment
    assert!(faults.iter().all(|fault| [Fault::Timeout, Fault::Open].contains(fault)), "{faults:?}");

    let patient = Limiter::wide(&store).patient(Duration::from_millis(500));
    patient.works("slow").await;
    let asked = ask(&patient, &"slow".into()).await;
    println!("30 ms each way: answered after {:?}; hurried callers got {faults:?}", asked.took);
    assert_eq!(asked.answer, Ok(true));
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_callers_are_told_so_at_once() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let options = Options { max_waiting: 10, ..options(access(single(proxy.port()))) };
    let patience = Duration::from_millis(400);
    let limit = fixed(20, YEAR);
    let limiter = Limiter::new(&redis_store(options), limit.clone()).patient(patience);
    limiter.works("many").await;
    proxy.delay(Duration::from_millis(20));
    let (mut admitted, mut overloaded) = (0, 0);
    for _ in 0..4 {
        let tally = within(SOON, burst(&limiter, "many", 500)).await;
        admitted += tally.admitted();
        overloaded += tally.faults_of(Fault::Overloaded);
        assert_eq!(tally.faults().into_keys().collect::<Vec<_>>(), ["overloaded"]);
        assert!(tally.longest() <= patience + Duration::from_millis(100), "{:?}", tally.longest());
        let refused_at_once = tally.only(|asked| asked.answer == Err(Fault::Overloaded));
        println!(
            "500 at once with room for 10: {} answered, longest {:?}; {} told of the overload, median {:?}",
            tally.asked.len() - refused_at_once.asked.len(),
            tally.longest(),
            refused_at_once.asked.len(),
            refused_at_once.percentile(50)
        );
    }
    assert!(overloaded > 0);
    assert_eq!(admitted, 20);
    let direct = Limiter::new(&store_of(&server), limit);
    eventually(SOON, "all is counted", || async { direct.used("many").await == 20 }).await;
    server.assert_all_have_ttl("").await;
}
