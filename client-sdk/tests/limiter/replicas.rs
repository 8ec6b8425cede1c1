//! Several limiters.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;
use tollgate_client::limiter::{LeaseMode, Member, RateLimiterClient, Request, Resolve};
use tollgate_client::testing::{InProcessLimiter, ServedLimiter};

use crate::world::{Wire, acme, bind, bucket, client, generous, target, until};

async fn three() -> Vec<(InProcessLimiter, ServedLimiter, Wire)> {
    let mut all = Vec::new();
    for _ in 0..3 {
        let limiter = generous();
        let served = limiter.serve().await.unwrap();
        let wire = Wire::to(&served).await;
        all.push((limiter, served, wire));
    }
    all
}

/// Asks until every limiter of `all` has answered something.
async fn meet(client: &RateLimiterClient, all: &[(InProcessLimiter, ServedLimiter, Wire)]) {
    for _ in 0..10_000 {
        assert!(client.try_check(acme()).await.is_ok());
        if all.iter().all(|(limiter, ..)| limiter.questions() > 0) {
            return;
        }
    }
    panic!("a limiter is never asked");
}

#[tokio::test]
async fn of_three_one_may_die_at_the_cost_of_one_call() {
    let all = three().await;
    let client = client(target(all.iter().map(|(.., wire)| wire.address()))).connect_lazy().unwrap();
    meet(&client, &all).await;
    let (limiter, _, wire) = &all[0];
    wire.cut().await;
    let seen = limiter.questions();
    let mut failed = 0;
    for _ in 0..2_000 {
        failed += u32::from(client.try_check(acme()).await.is_err());
    }
    assert!(failed <= 1, "{failed} failed");
    assert_eq!(limiter.questions(), seen);
    wire.join().await;
    let back = async {
        while limiter.questions() == seen {
            assert!(client.try_check(acme()).await.is_ok());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.unwrap();
}

#[tokio::test]
async fn a_slow_replica_gets_little() {
    let serve = |latency| {
        let builder = InProcessLimiter::builder().limit("shop", &["tenant"], bucket(1_000_000, 1_000_000));
        builder.latency(Duration::from_millis(latency)).build().unwrap()
    };
    let limiters = [serve(4), serve(4), serve(200)];
    let mut served = Vec::new();
    for limiter in &limiters {
        served.push(limiter.serve().await.unwrap());
    }
    let client = client(target(served.iter().map(ServedLimiter::address))).connect_lazy().unwrap();
    let caller = |_| async {
        for _ in 0..200 {
            assert!(client.try_check(acme()).await.is_ok());
        }
    };
    join_all((0..16).map(caller)).await;
    let asked = limiters.each_ref().map(InProcessLimiter::questions);
    let all: u64 = asked.iter().sum();
    assert_eq!(all, 3_200);
    assert!(asked[2] * 20 < all, "{asked:?}");
    assert!(asked[0] * 5 > all && asked[1] * 5 > all, "{asked:?}");
}

/// Asks until it is told to stop; no check may fail. How many there were.
async fn ask_by_name(client: RateLimiterClient, caller: u32, stop: CancellationToken) -> u32 {
    let mut asked = 0_u32;
    while !stop.is_cancelled() {
        let name = [caller.to_le_bytes(), asked.to_le_bytes()].concat();
        let outcome = client.try_check(acme().idempotency_key(name)).await;
        assert!(outcome.is_ok(), "caller {caller}, check {asked}: {outcome:?}");
        asked += 1;
    }
    asked
}

#[tokio::test]
async fn a_rolling_restart_fails_no_named_check() {
    let limiters = [generous(), generous(), generous()];
    let mut served = Vec::new();
    for limiter in &limiters {
        served.push(limiter.serve().await.unwrap());
    }
    let client = client(target(served.iter().map(ServedLimiter::address))).connect_lazy().unwrap();
    let stop = CancellationToken::new();
    let callers = join_all((0..16).map(|number| ask_by_name(client.clone(), number, stop.clone())));
    let restart = async {
        for (place, limiter) in limiters.iter().enumerate() {
            until("all are asked", || limiter.questions() > 0).await;
            let address = served[place].address();
            let old = std::mem::replace(&mut served[place], generous().serve().await.unwrap());
            old.shut_down().await;
            drop(bind(address).await);
            let before = limiter.questions();
            served[place] = limiter.serve_on(address).await.unwrap();
            until("it is asked again", || limiter.questions() > before).await;
        }
        stop.cancel();
    };
    let (asked, ()) = tokio::join!(callers, restart);
    assert!(asked.iter().all(|&asked| asked > 10), "{asked:?}");
}

/// A list that a test changes.
#[derive(Clone, Debug, Default)]
struct Listed(Arc<Mutex<Vec<Member>>>);

impl Listed {
    fn set(&self, served: &[&ServedLimiter]) {
        *self.0.lock().unwrap() = served.iter().map(|one| Member::new(one.address().to_string())).collect();
    }
}

impl Resolve for Listed {
    fn resolve(&self) -> BoxFuture<'_, io::Result<Vec<Member>>> {
        let members = self.0.lock().unwrap().clone();
        Box::pin(std::future::ready(Ok(members)))
    }
}

#[tokio::test]
async fn changed_addresses_are_followed_and_an_empty_answer_is_not() {
    let (old, new) = (generous(), generous());
    let (old_served, new_served) = (old.serve().await.unwrap(), new.serve().await.unwrap());
    let listed = Listed::default();
    listed.set(&[&old_served]);
    let client = RateLimiterClient::with_resolver(listed.clone())
        .domain("shop")
        .lease(LeaseMode::Off)
        .refresh(Duration::from_secs(1))
        .deadline(Duration::from_secs(5))
        .connect_lazy()
        .unwrap();
    assert!(client.try_check(acme()).await.is_ok());
    listed.set(&[]);
    until("nothing was found", || client.metrics().resolve_failures > 0).await;
    assert!(client.try_check(acme()).await.is_ok());
    assert_eq!(old.questions(), 2);
    listed.set(&[&new_served]);
    let moved = async {
        while new.questions() == 0 {
            assert!(client.try_check(acme()).await.is_ok());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), moved).await.unwrap();
    let seen = old.questions();
    assert!(client.try_check(acme()).await.is_ok());
    assert_eq!(old.questions(), seen);
}

#[tokio::test]
async fn an_address_that_cannot_be_reached_is_looked_up_anew() {
    let (old, new) = (generous(), generous());
    let (old_served, new_served) = (old.serve().await.unwrap(), new.serve().await.unwrap());
    let wire = Wire::to(&old_served).await;
    let listed = Listed::default();
    *listed.0.lock().unwrap() = vec![Member::new(wire.address().to_string())];
    let client = RateLimiterClient::with_resolver(listed.clone())
        .domain("shop")
        .lease(LeaseMode::Off)
        .refresh(Duration::from_secs(3_600))
        .connect_lazy()
        .unwrap();
    while client.try_check(acme()).await.is_err() {}
    listed.set(&[&new_served]);
    wire.cut().await;
    let moved = async {
        while client.try_check(acme()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), moved).await.unwrap();
    assert_eq!(new.questions(), 1);
}

#[tokio::test]
async fn a_leased_key_is_asked_of_one_owner() {
    let all = three().await;
    let target = target(all.iter().map(|(.., wire)| wire.address()));
    let clients = [(); 2].map(|()| client(target.clone()).lease(LeaseMode::Always).connect_lazy().unwrap());
    let key = |tenant: String| Request::of([("tenant", tenant)]);
    for client in &clients {
        let before: Vec<u64> = all.iter().map(|(limiter, ..)| limiter.questions()).collect();
        let met = || all.iter().zip(&before).all(|((limiter, ..), before)| limiter.questions() > *before);
        let mut tenant = 0;
        while !met() {
            assert!(client.try_check(key(format!("tenant {tenant}"))).await.is_ok());
            tenant += 1;
            assert!(tenant < 10_000, "keys are spread over all");
        }
    }
    let before: Vec<u64> = all.iter().map(|(limiter, ..)| limiter.questions()).collect();
    for client in &clients {
        for _ in 0..50 {
            assert!(client.try_check(key("owned".into())).await.is_ok());
        }
    }
    let asked: Vec<u64> =
        all.iter().zip(before).map(|((limiter, ..), before)| limiter.questions() - before).collect();
    assert!(asked.contains(&100), "{asked:?}");
}
