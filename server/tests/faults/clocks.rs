//! A promoted replica whose clock is wrong.

use std::time::Duration;

use tollgate_core::invariant::{Admission, broken};
use tollgate_core::limit::{Limit, Retry};
use tollgate_core::time::{Span, Time};

use super::limiter::{Limiter, SOON, store_of, wait_replicated};
use crate::redis_world::{Server, eventually};
use crate::store_world::{fixed, leaky, log, sliding, token};

const LIMIT: u64 = 10;
const STEP: i64 = 10;

/// Limits, and how long each takes by itself to admit one unit after it was used up.
fn limits() -> Vec<(&'static str, Limit, Span)> {
    let secs = Span::from_secs;
    vec![
        ("token", token(LIMIT, secs(2)), secs(2)),
        ("leaky", leaky(LIMIT - 1, secs(2)), secs(2)),
        ("fixed", fixed(LIMIT, secs(5)), secs(5)),
        ("sliding", sliding(LIMIT, secs(20)), secs(40)),
        ("log", log(LIMIT, secs(15)), secs(15)),
    ]
}

fn at(time: Duration) -> Time {
    Time::from_micros(u64::try_from(time.as_micros()).unwrap())
}

/// A limit that was used up on a master, and its replica in the master's place.
struct Promoted {
    replica: Server,
    /// How far its clock is ahead of ours, in microseconds.
    offset: i64,
    /// The master's clock before the first charge.
    used_up: Time,
}

async fn promote(offset: i64, limits: &[(&'static str, Limit, Span)]) -> Promoted {
    let master = Server::builder().clock_offset(0).start().await;
    // no window ends while this goes on: all begin with a minute
    let shift = 60_000_000 - (at(master.time().await).as_micros() % 60_000_000).cast_signed();
    let offset = shift + offset * 1_000_000;
    let replica = Server::builder()
        .clock_offset(0)
        .argument("replicaof", &format!("127.0.0.1 {}", master.port()))
        .start()
        .await;
    let linked = || async { replica.info("replication", "master_link_status").await == "up" };
    eventually(SOON, "the replica follows", linked).await;
    master.set_clock_offset(shift);
    replica.set_clock_offset(offset);
    let store = store_of(&master);
    let used_up = at(master.time().await);
    for (name, limit, _) in limits {
        let limiter = Limiter::new(&store, limit.clone());
        for _ in 0..LIMIT {
            limiter.take(name, 1).await.unwrap();
        }
    }
    wait_replicated(&master, &replica).await;
    master.kill9();
    replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    Promoted { replica, offset, used_up }
}

/// Units that are admitted at once, one by one, and the refusal after them.
async fn drain(limiter: &Limiter, name: &str) -> (u64, Span) {
    for admitted in 0..=10 * LIMIT {
        let verdict = limiter.take(name, 1).await.unwrap().verdict;
        if !verdict.allowed {
            let Retry::After(retry) = verdict.retry_after else { panic!("{name} is never admitted") };
            return (admitted, retry);
        }
    }
    panic!("{name} admits without end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_behind_neither_gives_a_burst_nor_locks_out() {
    for (name, limit, own) in limits() {
        // one at a time: the clock is moved for each
        let promoted = promote(-STEP, &[(name, limit.clone(), own)]).await;
        let limiter = Limiter::new(&store_of(&promoted.replica), limit.clone());
        let (admitted, retry) = drain(&limiter, name).await;
        println!("{name}: {STEP} s behind, {admitted} of {LIMIT} admitted at once, the next after {retry}");
        assert_eq!(admitted, 0, "{name}");
        assert!(retry <= Span::from_secs(STEP.unsigned_abs()) + own, "{name}: {retry}");
        // exactly then there is room; nobody has to wait for that here
        let retry = i64::try_from(retry.as_micros()).unwrap();
        promoted.replica.set_clock_offset(promoted.offset + retry);
        assert!(limiter.pass(name).await, "{name}");
        promoted.replica.assert_all_have_ttl("").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_ahead_brings_what_its_lead_refills() {
    let limits = limits();
    let promoted = promote(STEP, &limits).await;
    let store = store_of(&promoted.replica);
    for (name, limit, _) in limits {
        let (admitted, _) = drain(&Limiter::new(&store, limit.clone()), name).await;
        let until = at(promoted.replica.time().await);
        println!("{name}: {STEP} s ahead, {admitted} of {LIMIT} admitted at once");
        if name == "leaky" {
            // what leaves is judged: one per two seconds, whatever is queued
            let most = (until - promoted.used_up).as_micros() / 2_000_000;
            assert!(admitted <= most, "{name}: {admitted}");
            continue;
        }
        let admissions =
            [Admission { at: promoted.used_up, cost: LIMIT }, Admission { at: until, cost: admitted }];
        assert_eq!(broken(&limit, &admissions), None, "{name}");
    }
    promoted.replica.assert_all_have_ttl("").await;
}
