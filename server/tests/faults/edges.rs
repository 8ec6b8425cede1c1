//! Limits whose windows end while two servers ask as fast as they can.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tollgate_core::invariant::{Admission, broken};
use tollgate_core::time::{Span, Time};

use super::limiter::{Limiter, calm_store_of};
use super::load::Load;
use crate::redis_world::Server;
use crate::store_world::{fixed, log, sliding, token};

const LIMIT: u64 = 50;
const TASKS: usize = 64;
const LONG: Duration = Duration::from_millis(2_500);

/// What each window admitted carries the counts 1, 2, … of that window. So a count that comes more often than
/// there were windows would be a window that admitted it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_admits_more_than_the_limit() {
    let server = Server::start().await;
    let stores = [calm_store_of(&server), calm_store_of(&server)];
    let limiters = stores.each_ref().map(|store| Limiter::new(store, fixed(LIMIT, Span::SECOND)));
    let first = server.time().await.as_secs();
    let until = Instant::now() + LONG;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let limiter = limiters[task % 2].clone();
        tasks.spawn(ask_until(limiter, until));
    }
    let counts: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    let windows = server.time().await.as_secs() - first + 1;
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    for count in &counts {
        *times.entry(*count).or_default() += 1;
    }
    println!("{} admitted in {windows} windows of {LIMIT}", counts.len());
    assert!(times.iter().all(|(count, times)| (1..=LIMIT).contains(count) && *times <= windows), "{times:?}");
    assert!(times[&LIMIT] + 2 >= windows, "whole windows are used up: {times:?}");
    server.assert_all_have_ttl("").await;
}

/// The counts that admitted answers carry.
async fn ask_until(limiter: Limiter, until: Instant) -> Vec<u64> {
    let mut counts = Vec::new();
    while Instant::now() < until {
        let verdict = limiter.take("edge", 1).await.unwrap().verdict;
        counts.extend(verdict.allowed.then_some(verdict.used));
    }
    counts
}

/// All that was admitted between two looks at Redis' clock is within the envelope of the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_limit_admits_more_than_its_envelope() {
    let server = Server::start().await;
    let stores = [calm_store_of(&server), calm_store_of(&server)];
    let limits = [
        ("token", token(LIMIT, Span::from_millis(20))),
        ("sliding", sliding(LIMIT, Span::SECOND)),
        ("log", log(LIMIT, Span::from_secs(60))),
    ];
    let at = |time: Duration| Time::from_micros(u64::try_from(time.as_micros()).unwrap());
    let from = at(server.time().await);
    let loads = limits.each_ref().map(|(name, limit)| {
        let limiters = stores.each_ref().map(|store| Limiter::new(store, limit.clone()));
        Load::start(&limiters, &[(*name).to_owned()], 8, Duration::ZERO)
    });
    sleep_until(Instant::now() + LONG).await;
    for (load, (name, limit)) in loads.into_iter().zip(limits) {
        let tally = load.stop().await;
        let until = at(server.time().await);
        println!("{name}: {} admitted in {}", tally.admitted(), until - from);
        assert_eq!(broken(&limit, &evenly(tally.admitted(), [from, until])), None, "{name}");
        assert!(tally.admitted() >= LIMIT, "{name}");
    }
    server.assert_all_have_ttl("").await;
}

/// The most even way in which so much can have been admitted: if that breaks the limit, every other way does.
fn evenly(admitted: u64, [from, until]: [Time; 2]) -> Vec<Admission> {
    let length = u128::from((until - from).as_micros());
    let gaps = u128::from(admitted.max(2) - 1);
    let at = |index| from + Span::from_wide(length * u128::from(index) / gaps);
    (0..admitted).map(|index| Admission { at: at(index), cost: 1 }).collect()
}
