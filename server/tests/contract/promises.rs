//! What every store promises of single limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tollgate_core::limit::{CalendarUnit, Refused, Retry};
use tollgate_core::rules::Charge;
use tollgate_core::time::Span;
use tollgate_server::store::Store;

use crate::store_world::{
    Asking, Domain, HOUR, YEAR, calendar, each_algorithm, fixed, fixed_with, leaky, refund, rule, sliding,
    take, token,
};

pub(crate) async fn all(store: &Arc<dyn Store>) {
    the_limit_is_exact_under_concurrency(store).await;
    a_look_charges_nothing(store).await;
    a_refund_gives_back_and_never_more(store).await;
    the_cost_counts(store).await;
    a_refused_hit_counts_only_if_the_rule_says_so(store).await;
    one_request_may_ask_twice(store).await;
    a_refusal_is_honest(store).await;
    an_id_charges_once(store).await;
    a_queue_tells_each_its_turn(store).await;
    a_calendar_has_its_windows(store).await;
    a_changed_limit_keeps_what_was_used(store).await;
    keys_are_apart(store).await;
    a_refund_ends_a_refusal(store).await;
    a_forgotten_key_is_as_new(store).await;
}

async fn the_limit_is_exact_under_concurrency(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(100) {
        let matcher = Arc::new(Domain::new("exact", Charge::Admitted, vec![rule(key, limit)]).matcher());
        let asking = (0..64).map(|_| {
            let (store, matcher) = (store.clone(), matcher.clone());
            tokio::spawn(async move { passes(Asking::new(&*store, &matcher, "exact"), key, 5).await })
        });
        let mut passed = 0;
        for task in asking.collect::<Vec<_>>() {
            passed += task.await.unwrap();
        }
        assert_eq!(passed, 100, "{key}");
    }
}

/// How many of `times` requests one after the other are admitted.
async fn passes(asking: Asking<'_>, key: &str, times: u64) -> u64 {
    let mut passed = 0;
    for _ in 0..times {
        passed += u64::from(asking.pass(key, "hot").await);
    }
    passed
}

async fn a_look_charges_nothing(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(3) {
        let matcher = Domain::new("look", Charge::Admitted, vec![rule(key, limit)]).matcher();
        let asking = Asking::new(&**store, &matcher, "look");
        for _ in 0..5 {
            let verdict = asking.ask(&[take(key, "v", 0)]).await[0].verdict;
            assert_eq!(
                (verdict.allowed, verdict.used, verdict.remaining, verdict.limit),
                (true, 0, 3, 3),
                "{key}"
            );
        }
        assert!(asking.allowed(&[take(key, "v", 3)]).await[0], "{key}");
        assert!(!asking.pass(key, "v").await, "{key}");
        assert_eq!(asking.used(key, "v").await, 3, "{key}");
    }
}

async fn a_refund_gives_back_and_never_more(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(5) {
        let matcher = Domain::new("refund", Charge::Admitted, vec![rule(key, limit)]).matcher();
        let asking = Asking::new(&**store, &matcher, "refund");
        assert_eq!(asking.ask(&[take(key, "v", 4)]).await[0].verdict.remaining, 1, "{key}");
        assert_eq!(asking.ask(&[refund(key, "v", 2)]).await[0].verdict.used, 2, "{key}");
        assert_eq!(asking.ask(&[refund(key, "v", u64::MAX)]).await[0].verdict.used, 0, "{key}");
        assert_eq!(asking.ask(&[refund(key, "never used", 7)]).await[0].verdict.remaining, 5, "{key}");
        assert!(asking.allowed(&[take(key, "v", 5)]).await[0], "{key}");
        assert!(!asking.pass(key, "v").await, "{key}");
    }
}

async fn the_cost_counts(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(5) {
        let matcher = Domain::new("cost", Charge::Admitted, vec![rule(key, limit)]).matcher();
        let asking = Asking::new(&**store, &matcher, "cost");
        let huge = asking.ask(&[take(key, "v", (1 << 63) - 1)]).await[0].verdict;
        assert_eq!((huge.allowed, huge.retry_after), (false, Retry::Never), "{key}");
        assert!(asking.allowed(&[take(key, "v", 3)]).await[0], "{key}");
        assert!(!asking.allowed(&[take(key, "v", 3)]).await[0], "{key}");
        // that says nothing about a smaller one
        assert!(asking.allowed(&[take(key, "v", 2)]).await[0], "{key}");
    }
}

async fn a_refused_hit_counts_only_if_the_rule_says_so(store: &Arc<dyn Store>) {
    let rules = vec![
        rule("counts", fixed_with(5, YEAR, Refused::Counts)),
        rule("free", fixed_with(5, YEAR, Refused::Free)),
    ];
    let matcher = Domain::new("refused", Charge::Each, rules).matcher();
    let asking = Asking::new(&**store, &matcher, "refused");
    asking.ask(&[take("counts", "v", 3), take("free", "v", 3)]).await;
    let refused = asking.allowed(&[take("counts", "v", 3), take("free", "v", 3)]).await;
    assert_eq!(refused, [false, false]);
    assert_eq!(asking.used("counts", "v").await, 6);
    assert_eq!(asking.used("free", "v").await, 3);
    assert!(!asking.pass("counts", "v").await, "what was refused has been counted");
}

async fn one_request_may_ask_twice(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(3) {
        let matcher = Domain::new("twice", Charge::Admitted, vec![rule(key, limit)]).matcher();
        let asking = Asking::new(&**store, &matcher, "twice");
        let allowed = asking.allowed(&[take(key, "v", 2), take(key, "v", 2), take(key, "v", 1)]).await;
        assert_eq!(allowed, [true, false, true], "{key}");
    }
}

/// Refused before `retry_after`, admitted at it. The store's clock is not ours, so this waits a little less
/// than that, and then exactly as long as the refusal before says.
async fn a_refusal_is_honest(store: &Arc<dyn Store>) {
    let rules = vec![
        rule("token", token(1, Span::from_millis(150))),
        rule("sliding", sliding(1, Span::from_millis(150))),
        rule("fixed", fixed(1, Span::from_millis(150))),
    ];
    let matcher = Domain::new("honest", Charge::Admitted, rules).matcher();
    let asking = Asking::new(&**store, &matcher, "honest");
    for key in ["token", "sliding", "fixed"] {
        assert!(asking.pass(key, "v").await, "{key}");
        let mut refusals = 0;
        loop {
            let asked = Instant::now();
            let verdict = asking.ask(&[take(key, "v", 1)]).await[0].verdict;
            if verdict.allowed {
                break;
            }
            let Retry::After(retry) = verdict.retry_after else { panic!("{key} is never admitted") };
            assert!(retry > Span::ZERO && retry <= Span::from_millis(300), "{key}: {retry}");
            refusals += 1;
            // the answer came after the question: whoever waits from there on has waited long enough
            let until = Instant::now() + Duration::from_micros(retry.as_micros());
            assert!(refusals < 3, "{key}: refused again after {retry} since {asked:?}");
            sleep_until(until).await;
        }
        // a window may have ended by itself between the first two requests
        assert!(refusals <= 1, "{key}");
    }
}

async fn an_id_charges_once(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(10) {
        let matcher = Domain::new("id", Charge::Admitted, vec![rule(key, limit)]).matcher();
        let asking = Asking::new(&**store, &matcher, "id");
        let named = Asking { id: Some(b"one"), ..asking };
        let first = named.ask(&[take(key, "v", 4)]).await;
        for _ in 0..3 {
            let again = named.ask(&[take(key, "v", 4)]).await;
            assert_eq!(again[0].verdict, first[0].verdict, "{key}");
        }
        assert_eq!(asking.used(key, "v").await, 4, "{key}");
        let other = Asking { id: Some(b"two"), ..asking };
        assert!(other.allowed(&[take(key, "v", 4)]).await[0], "{key}");
        assert!(!Asking { id: Some(b"three"), ..asking }.allowed(&[take(key, "v", 4)]).await[0], "{key}");
        assert_eq!(asking.used(key, "v").await, 8, "{key}");
    }
}

async fn a_queue_tells_each_its_turn(store: &Arc<dyn Store>) {
    let matcher = Domain::new("queue", Charge::Admitted, vec![rule("q", leaky(3, HOUR))]).matcher();
    let asking = Asking::new(&**store, &matcher, "queue");
    let mut waits = Vec::new();
    for _ in 0..4 {
        waits.push(asking.ask(&[take("q", "v", 1)]).await[0].verdict.wait);
    }
    assert_eq!(waits[0], Span::ZERO);
    for (turn, wait) in waits.iter().enumerate().skip(1) {
        let turn = Span::from_secs(3_600 * turn as u64);
        assert!(*wait <= turn && *wait + Span::from_secs(60) > turn, "{waits:?}");
    }
    assert!(!asking.pass("q", "v").await, "the queue is full");
    let impatient = Asking { patience: Span::SECOND, ..asking };
    assert!(impatient.pass("q", "other").await);
    let refused = impatient.ask(&[take("q", "other", 1)]).await[0].verdict;
    assert!(!refused.allowed && refused.remaining == 0, "an hour is too long");
    assert!(asking.pass("q", "other").await, "for the patient there is a place");
}

async fn a_calendar_has_its_windows(store: &Arc<dyn Store>) {
    for (unit, zone) in [
        (CalendarUnit::Day, "Europe/Berlin"),
        (CalendarUnit::Month, "America/New_York"),
        (CalendarUnit::Year, "UTC"),
    ] {
        let matcher = Domain::new(zone, Charge::Admitted, vec![rule("c", calendar(2, unit, zone))]).matcher();
        let asking = Asking::new(&**store, &matcher, zone);
        let first = asking.ask(&[take("c", "v", 1)]).await[0].verdict;
        assert!(first.allowed && first.reset_after > Span::ZERO, "{zone}");
        assert!(first.reset_after <= Span::from_secs(366 * 86_400 + 3_600), "{zone}");
        assert!(asking.pass("c", "v").await);
        let refused = asking.ask(&[take("c", "v", 1)]).await[0].verdict;
        assert_eq!(refused.retry_after, Retry::After(refused.reset_after), "{zone}");
    }
}

async fn a_changed_limit_keeps_what_was_used(store: &Arc<dyn Store>) {
    for ((key, small), (_, large)) in each_algorithm(3).into_iter().zip(each_algorithm(5)) {
        let small = Domain::new("change", Charge::Admitted, vec![rule(key, small)]).matcher();
        let large = Domain::new("change", Charge::Admitted, vec![rule(key, large)]).matcher();
        let before = Asking::new(&**store, &small, "change");
        let after = Asking { generation: 2, ..Asking::new(&**store, &large, "change") };
        assert!(before.allowed(&[take(key, "v", 3)]).await[0], "{key}");
        assert!(!before.pass(key, "v").await, "{key}");
        assert_eq!(after.allowed(&[take(key, "v", 3)]).await, [false], "{key}");
        assert!(after.allowed(&[take(key, "v", 2)]).await[0], "{key}: the raised limit is in force");
        assert!(!Asking { generation: 3, ..before }.pass(key, "v").await, "{key}: lowered again");
    }
}

async fn keys_are_apart(store: &Arc<dyn Store>) {
    let matcher =
        Domain::new("apart", Charge::Admitted, vec![rule("k", fixed(1, YEAR)), rule("l", fixed(1, YEAR))])
            .matcher();
    let asking = Asking::new(&**store, &matcher, "apart");
    for value in ["", "a", "{a}", "}{", "{}", "a{b}c", "\u{ff}", "ü", "a b\r\n*"] {
        for key in ["k", "l"] {
            assert!(asking.pass(key, value).await, "{key} {value:?}");
            assert!(!asking.pass(key, value).await, "{key} {value:?}");
        }
    }
    let long = "x".repeat(10_000);
    assert!(asking.pass("k", &long).await && !asking.pass("k", &long).await);
}

async fn a_forgotten_key_is_as_new(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(2) {
        let matcher = Domain::new("forgotten", Charge::Admitted, vec![rule(key, limit)]).matcher();
        let asking = Asking::new(&**store, &matcher, "forgotten");
        assert!(asking.allowed(&[take(key, "v", 2), take(key, "other", 2)]).await[0], "{key}");
        assert!(!asking.pass(key, "v").await && !asking.pass(key, "v").await, "{key}");
        asking.forget(&[take(key, "v", 0)]).await.unwrap();
        asking.forget(&[take(key, "never used", 0)]).await.unwrap();
        assert!(asking.allowed(&[take(key, "v", 2)]).await[0], "{key}: all of it is there again");
        assert!(!asking.pass(key, "other").await, "{key}: only that one");
    }
}

async fn a_refund_ends_a_refusal(store: &Arc<dyn Store>) {
    for (key, limit) in each_algorithm(2) {
        let matcher =
            Domain::new("refused then refunded", Charge::Admitted, vec![rule(key, limit)]).matcher();
        let asking = Asking::new(&**store, &matcher, "refused then refunded");
        assert!(asking.allowed(&[take(key, "v", 2)]).await[0], "{key}");
        assert!(!asking.pass(key, "v").await && !asking.pass(key, "v").await, "{key}");
        asking.ask(&[refund(key, "v", 1)]).await;
        assert!(asking.pass(key, "v").await, "{key}");
    }
}
