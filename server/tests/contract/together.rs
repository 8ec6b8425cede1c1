//! What every store promises of requests that meet several limits.

use std::sync::Arc;

use tollgate_core::rules::{By, Charge};
use tollgate_server::store::Store;

use crate::store_world::{Ask, Asking, Domain, Rule, YEAR, each_algorithm, fixed, refund, rule, take};

pub(crate) async fn all(store: &Arc<dyn Store>) {
    for partition in [None, Some("tenant")] {
        a_refusal_by_one_charges_none(store, partition).await;
        an_admitted_request_charges_all(store, partition).await;
        shadow_and_alternatives_refuse_as_they_should(store, partition).await;
        refunds_go_along_only_if_admitted(store, partition).await;
        an_id_charges_all_once(store, partition).await;
        nobody_spends_more_together_than_apart(store, partition).await;
    }
    each_charges_whatever_the_others_say(store).await;
}

/// Rules under one name of a domain, all or nothing.
struct Together {
    domain: Domain,
}

impl Together {
    fn new(name: &str, partition: Option<&str>, rules: Vec<Rule>) -> Together {
        let name = format!("{name} {}", partition.is_some());
        let mut domain = Domain::new(&name, Charge::AllOrNothing, rules);
        domain.partition = partition.map(ToOwned::to_owned);
        Together { domain }
    }

    async fn allowed(&self, store: &dyn Store, id: Option<&[u8]>, asks: &[Ask<'_>]) -> Vec<bool> {
        let matcher = self.domain.matcher();
        let asking = Asking::new(store, &matcher, &self.domain.name);
        let partition = self.domain.partition.as_deref().map(|key| (key, "acme"));
        Asking { partition, id, ..asking }.allowed(asks).await
    }

    async fn used(&self, store: &dyn Store, key: &str) -> u64 {
        let matcher = self.domain.matcher();
        let partition = self.domain.partition.as_deref().map(|key| (key, "acme"));
        Asking { partition, ..Asking::new(store, &matcher, &self.domain.name) }.used(key, "v").await
    }
}

async fn a_refusal_by_one_charges_none(store: &Arc<dyn Store>, partition: Option<&str>) {
    let mut rules: Vec<Rule> = each_algorithm(10).into_iter().map(|(key, limit)| rule(key, limit)).collect();
    rules.push(rule("small", fixed(1, YEAR)));
    let together = Together::new("none", partition, rules);
    let all = ["fixed", "sliding", "log", "token", "leaky", "small"].map(|key| take(key, "v", 1));
    assert_eq!(together.allowed(&**store, None, &all).await, [true; 6]);
    for _ in 0..3 {
        let allowed = together.allowed(&**store, None, &all).await;
        assert_eq!(allowed, [true, true, true, true, true, false], "only the small one refuses");
    }
    for key in ["fixed", "sliding", "log", "token", "leaky", "small"] {
        assert_eq!(together.used(&**store, key).await, 1, "{key} {partition:?}");
    }
}

async fn an_admitted_request_charges_all(store: &Arc<dyn Store>, partition: Option<&str>) {
    let rules = each_algorithm(10).into_iter().map(|(key, limit)| rule(key, limit)).collect();
    let together = Together::new("all", partition, rules);
    let all = ["fixed", "sliding", "log", "token", "leaky"].map(|key| take(key, "v", 2));
    for _ in 0..2 {
        assert_eq!(together.allowed(&**store, None, &all).await, [true; 5]);
    }
    for key in ["fixed", "sliding", "log", "token", "leaky"] {
        assert_eq!(together.used(&**store, key).await, 4, "{key} {partition:?}");
    }
}

async fn shadow_and_alternatives_refuse_as_they_should(store: &Arc<dyn Store>, partition: Option<&str>) {
    let shadow = Rule { shadow: true, ..rule("shadow", fixed(1, YEAR)) };
    let alternative = |key| Rule { alternative: true, ..rule(key, fixed(1, YEAR)) };
    let rules = vec![rule("big", fixed(100, YEAR)), shadow, alternative("one"), alternative("two")];
    let together = Together::new("modes", partition, rules);
    let with = |key| [take("big", "v", 1), take(key, "v", 1)];
    assert_eq!(together.allowed(&**store, None, &with("shadow")).await, [true, true]);
    assert_eq!(together.allowed(&**store, None, &with("shadow")).await, [true, false]);
    assert_eq!(together.used(&**store, "big").await, 2, "shadow refuses nothing");
    let both = [take("big", "v", 1), take("one", "v", 1), take("two", "v", 1)];
    assert_eq!(together.allowed(&**store, None, &[take("one", "v", 1)]).await, [true]);
    assert_eq!(together.allowed(&**store, None, &both).await, [true, false, true], "one alternative is left");
    assert_eq!(together.used(&**store, "big").await, 3);
    assert_eq!(together.allowed(&**store, None, &both).await, [true, false, false], "none is left");
    assert_eq!(together.used(&**store, "big").await, 3, "refused: nothing is charged {partition:?}");
}

async fn refunds_go_along_only_if_admitted(store: &Arc<dyn Store>, partition: Option<&str>) {
    let rules = vec![rule("back", fixed(10, YEAR)), rule("small", fixed(1, YEAR))];
    let together = Together::new("back", partition, rules);
    together.allowed(&**store, None, &[take("back", "v", 5)]).await;
    let moves = [refund("back", "v", 2), take("small", "v", 1)];
    assert_eq!(together.allowed(&**store, None, &moves).await, [true, true]);
    assert_eq!(together.used(&**store, "back").await, 3, "{partition:?}");
    assert!(!together.allowed(&**store, None, &moves).await[1]);
    assert_eq!(together.used(&**store, "back").await, 3, "{partition:?}");
}

async fn an_id_charges_all_once(store: &Arc<dyn Store>, partition: Option<&str>) {
    let rules = vec![rule("a", fixed(10, YEAR)), rule("b", fixed(5, YEAR)), rule("c", fixed(10, YEAR))];
    let together = Together::new("id", partition, rules);
    let all = ["a", "b", "c"].map(|key| take(key, "v", 3));
    for _ in 0..3 {
        assert_eq!(together.allowed(&**store, Some(b"first"), &all).await, [true; 3]);
    }
    for _ in 0..2 {
        assert!(!together.allowed(&**store, Some(b"second"), &all).await[1], "{partition:?}");
    }
    for key in ["a", "b", "c"] {
        assert_eq!(together.used(&**store, key).await, 3, "{key} {partition:?}");
    }
}

/// Many requests at once over limits of different sizes: the smallest admits exactly what it may, and the
/// others are charged for these requests only.
async fn nobody_spends_more_together_than_apart(store: &Arc<dyn Store>, partition: Option<&str>) {
    let rules =
        vec![rule("wide", fixed(1_000, YEAR)), rule("narrow", fixed(20, YEAR)), rule("mid", fixed(50, YEAR))];
    let together = Arc::new(Together::new("storm", partition, rules));
    let tasks = (0..40).map(|_| {
        let (store, together) = (store.clone(), together.clone());
        tokio::spawn(async move {
            let all = ["wide", "narrow", "mid"].map(|key| take(key, "v", 1));
            together.allowed(&*store, None, &all).await.into_iter().all(|allowed| allowed)
        })
    });
    let mut admitted = 0;
    for task in tasks.collect::<Vec<_>>() {
        admitted += u64::from(task.await.unwrap());
    }
    // over slots two requests may refuse each other, but never admit too many
    assert!((1..=20).contains(&admitted), "{admitted}");
    for key in ["wide", "narrow", "mid"] {
        assert_eq!(together.used(&**store, key).await, admitted, "{key} {partition:?}");
    }
}

async fn each_charges_whatever_the_others_say(store: &Arc<dyn Store>) {
    let rules = vec![rule("a", fixed(10, YEAR)), rule("b", fixed(1, YEAR))];
    let matcher = Domain::new("each", Charge::Each, rules).matcher();
    let asking = Asking::new(&**store, &matcher, "each");
    for turn in 0..3 {
        let answers = asking.ask(&[take("a", "v", 1), take("b", "v", 1)]).await;
        assert_eq!([answers[0].verdict.allowed, answers[1].verdict.allowed], [true, turn == 0]);
        assert_ne!(answers[0].by, By::Denial);
    }
    assert_eq!(asking.used("a", "v").await, 3);
}
