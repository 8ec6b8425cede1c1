use super::*;

fn two() -> ConcurrencyLimiter {
    ConcurrencyLimiter::fixed(2).build().unwrap()
}

#[test]
fn never_more_than_the_limit() {
    let limit = two();
    let (one, _two) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
    assert_eq!(limit.try_acquire().unwrap_err(), LimitExceeded { limit: 2 });
    one.record(Outcome::Success);
    assert_eq!(limit.in_flight(), 1);
    assert!(limit.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order_and_time_out() {
    let limit = two();
    let held = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
    let wait = |ms| {
        let limit = limit.clone();
        tokio::spawn(async move { limit.acquire_within(Duration::from_millis(ms)).await })
    };
    let (first, second, short) = (wait(1_000), wait(1_000), wait(10));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(short.await.unwrap().is_err());
    assert!(!first.is_finished());
    let [one, other] = held;
    drop(one);
    let first = first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    drop(other);
    let second = second.await.unwrap().unwrap();
    assert_eq!(limit.in_flight(), 2);
    drop((first, second));
    assert_eq!((limit.in_flight(), limit.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_leaves_its_place_to_the_next() {
    let limit = two();
    let (one, other) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
    let mut gone = Box::pin(limit.acquire_within(Duration::from_secs(1)));
    let mut stays = Box::pin(limit.acquire_within(Duration::from_secs(1)));
    assert!(futures_util::poll!(gone.as_mut()).is_pending());
    assert!(futures_util::poll!(stays.as_mut()).is_pending());
    drop(gone);
    drop(one);
    let slot = stays.await.unwrap();
    drop((slot, other));
    assert_eq!((limit.in_flight(), limit.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slot_given_to_a_waiter_that_gives_up_afterwards_comes_back() {
    let limit = two();
    let (one, _other) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
    let mut waiter = Box::pin(limit.acquire_within(Duration::from_secs(1)));
    assert!(futures_util::poll!(waiter.as_mut()).is_pending());
    drop(one);
    assert_eq!(limit.in_flight(), 2, "handed over");
    drop(waiter);
    assert_eq!(limit.in_flight(), 1);
}

async fn hold(limit: ConcurrencyLimiter) {
    let _slot = limit.acquire_within(Duration::from_secs(5)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cancelled_calls_leave_nothing_behind() {
    let limit = two();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1_000_u64 {
        let held = hold(limit.clone());
        tasks.spawn(tokio::time::timeout(Duration::from_millis(number % 7), held));
    }
    while tasks.join_next().await.is_some() {}
    assert_eq!(limit.in_flight(), 0);
    assert!(limit.acquire_within(Duration::from_secs(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn time_outs_shrink_an_adaptive_limit_and_quick_failures_do_not() {
    let limit = ConcurrencyLimiter::aimd().initial(20).window(Duration::from_millis(10), 10).build().unwrap();
    let calls = async |verdict: Verdict| {
        let slots: Vec<_> = (0..10).map(|_| limit.try_acquire().unwrap()).collect();
        tokio::time::advance(Duration::from_millis(20)).await;
        slots.into_iter().for_each(|slot| slot.settle(&verdict));
    };
    calls(Verdict::FAILURE).await;
    assert_eq!(limit.limit(), 20);
    calls(Verdict::TIMEOUT).await;
    assert_eq!(limit.limit(), 18);
    calls(Verdict::SUCCESS).await;
    assert_eq!(limit.limit(), 19);
}

#[test]
fn bad_settings_are_named() {
    let error = ConcurrencyLimiter::gradient2().min(0).build().unwrap_err();
    assert!(error.to_string().contains("concurrency.min"), "{error}");
    let error = ConcurrencyLimiter::fixed(0).build().unwrap_err();
    assert!(error.to_string().contains("concurrency.max"), "{error}");
    let error = ConcurrencyLimiter::fixed(1).queue(0).build().unwrap_err();
    assert!(error.to_string().contains("concurrency.queue"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost() {
    let limit = two();
    let caller = |limit: ConcurrencyLimiter| async move {
        for _ in 0..500 {
            // far longer than all others together need: only a lost wake-up takes so long
            let slot = limit.acquire_within(Duration::from_secs(8)).await.unwrap();
            assert!(limit.in_flight() <= 2);
            tokio::task::yield_now().await;
            slot.record(Outcome::Success);
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    (0..8).for_each(|_| drop(tasks.spawn(caller(limit.clone()))));
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!((limit.in_flight(), limit.waiting()), (0, 0));
}
