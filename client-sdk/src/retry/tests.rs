use std::cell::Cell;

use super::*;
use crate::classify::{AnyError, classify_fn};
use crate::hint::Hint;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn attempts(retry: &Retry, verdict: Verdict) -> u32 {
    let made = Cell::new(0);
    let classifier =
        classify_fn(move |result: Result<&(), &()>| if result.is_ok() { Verdict::SUCCESS } else { verdict });
    let call = || {
        made.set(made.get() + 1);
        async { Err::<(), ()>(()) }
    };
    retry.call(&classifier, call).await.unwrap_err();
    made.get()
}

#[tokio::test(start_paused = true)]
async fn three_attempts_and_the_last_error() {
    let retry = Retry::exponential(MS(50)).build().unwrap();
    assert_eq!(attempts(&retry, Verdict::UNAVAILABLE).await, 3);
    assert_eq!(attempts(&retry, Verdict::FAILURE).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_it() {
    let retry = Retry::exponential(MS(1)).build().unwrap();
    let made = Cell::new(0);
    let call = || {
        made.set(made.get() + 1);
        let good = made.get() == 2;
        std::future::ready(good.then_some(7).ok_or("no"))
    };
    assert_eq!(retry.call(&AnyError, call).await, Ok(7));
    assert_eq!(made.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn pushback_is_obeyed_and_no_means_no() {
    let retry = Retry::exponential(MS(1)).max_attempts(2).build().unwrap();
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let start = tokio::time::Instant::now();
        assert_eq!(attempts(&retry, Verdict::UNAVAILABLE.hinted(Hint::wait(MS(700)))).await, 2);
        waits.insert(start.elapsed());
    }
    assert!(waits.iter().all(|wait| (MS(700)..=MS(772)).contains(wait)), "{waits:?}");
    assert!(waits.len() > 10, "they are spread: {waits:?}");
    assert_eq!(attempts(&retry, Verdict::UNAVAILABLE.hinted(Hint::NO_RETRY)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_does_not_fit_into_the_deadline_is_not_begun() {
    let retry = Retry::exponential(MS(1)).build().unwrap();
    let start = tokio::time::Instant::now();
    let verdict = Verdict::UNAVAILABLE.hinted(Hint::wait(MS(700)));
    let made = Deadline::within(MS(500)).scope(attempts(&retry, verdict)).await;
    assert_eq!((made, start.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_retries_and_time_outs_cost_double() {
    let budget = || RetryBudget::percent(0).min_per_second(1).build().unwrap();
    for (verdict, expected) in [(Verdict::UNAVAILABLE, 10), (Verdict::TIMEOUT.retryable(true), 5)] {
        let retry = Retry::exponential(MS(1)).max_attempts(2).budget(budget()).build().unwrap();
        let mut retries = 0;
        for _ in 0..50 {
            retries += attempts(&retry, verdict).await - 1;
        }
        assert_eq!(retries, expected, "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_of_backon_is_followed_and_ends_the_call() {
    let schedule = backon::ConstantBuilder::new().with_delay(MS(30)).with_max_times(4);
    let retry = Retry::exponential(MS(1)).max_attempts(10).schedule(schedule).build().unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(attempts(&retry, Verdict::UNAVAILABLE).await, 5);
    assert_eq!(start.elapsed(), MS(120));
}

#[test]
fn an_open_breaker_is_worth_another_attempt_only_if_it_says_when() {
    let open = |after| Error::<()>::circuit_open("b".into(), crate::State::Open, after);
    assert!(!of_error::<(), ()>(&open(None), &AnyError).retryable);
    let verdict = of_error::<(), ()>(&open(Some(MS(40))), &AnyError);
    assert_eq!((verdict.retryable, verdict.hint.after), (true, Some(MS(40))));
    assert!(!of_error::<(), ()>(&Error::deadline_exceeded(true), &AnyError).retryable);
    assert!(of_error::<(), ()>(&Error::deadline_exceeded(false), &AnyError).retryable);
    assert!(!of_error::<(), ()>(&Error::limit_exceeded(1), &AnyError).retryable);
}

#[test]
fn attempts_are_told_to_the_target() {
    let mut headers = HeaderMap::new();
    mark(&mut headers, 0);
    assert_eq!((headers.len(), previous_attempts(&headers)), (0, 0));
    mark(&mut headers, 2);
    assert_eq!((headers.len(), previous_attempts(&headers)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_asks_for_too_much_gets_no_other_attempt() {
    let retry = Retry::exponential(MS(1)).max_attempts(2).max_hint_wait(MS(900)).build().unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(attempts(&retry, Verdict::UNAVAILABLE.hinted(Hint::wait(MS(901)))).await, 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(attempts(&retry, Verdict::UNAVAILABLE.hinted(Hint::wait(MS(900)))).await, 2);
    let default = Retry::exponential(MS(1)).build().unwrap();
    assert_eq!(attempts(&default, Verdict::UNAVAILABLE.hinted(Hint::wait(MS(10_001)))).await, 1);
}

#[tokio::test(start_paused = true)]
async fn come_again_at_once_means_after_the_backoff() {
    let retry = Retry::exponential(Duration::from_secs(1)).max_attempts(2).seed(7).build().unwrap();
    let start = tokio::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(attempts(&retry, Verdict::UNAVAILABLE.hinted(Hint::wait(Duration::ZERO))).await, 2);
    }
    assert!(start.elapsed() > Duration::from_secs(5), "half a second each on average: {:?}", start.elapsed());
}

#[test]
fn bad_settings_are_named() {
    let error = Retry::exponential(MS(50)).max_attempts(0).build().unwrap_err();
    assert!(error.to_string().contains("retry.max_attempts"), "{error}");
    let error = Retry::exponential(Duration::ZERO).build().unwrap_err();
    assert!(error.to_string().contains("retry.initial"), "{error}");
    let error = Retry::exponential(MS(50)).max_hint_wait(Duration::from_secs(301)).build().unwrap_err();
    assert_eq!(error.to_string(), "retry.max_hint_wait must be 1ms to 300s, not 301s");
    assert!(RetryBudget::percent(5_000).build().is_err());
}
