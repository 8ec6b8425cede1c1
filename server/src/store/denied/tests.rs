use std::sync::Mutex;

use tollgate_core::limit::{FixedWindow, Rate, Refused as Hits, TokenBucket, Window};
use tollgate_core::rules::{
    Accuracy, Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher, OnFailure, Query, Quota, RuleSpec,
};
use tollgate_core::time::Time;

use super::*;

const NOW: Time = Time::from_micros(1_700_000_000_000_000);

/// Refuses or admits everything, and remembers what it was asked.
struct Scripted {
    verdict: Mutex<Verdict>,
    asked: Mutex<Vec<(Vec<u8>, Cost)>>,
}

impl Scripted {
    fn new(allowed: bool, retry: Span) -> Arc<Scripted> {
        let store = Scripted { verdict: Mutex::new(verdict(allowed, retry)), asked: Mutex::default() };
        Arc::new(store)
    }

    fn says(&self, allowed: bool, retry: Span) {
        *self.verdict.lock().unwrap() = verdict(allowed, retry);
    }

    fn questions(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn verdict(allowed: bool, retry: Span) -> Verdict {
    Verdict {
        allowed,
        limit: 10,
        remaining: 0,
        used_before: 10,
        used: 10,
        retry_after: Retry::After(retry),
        reset_after: retry,
        wait: Span::ZERO,
    }
}

impl Store for Scripted {
    fn charge<'a>(&'a self, request: Request<'a>) -> Charging<'a> {
        let verdict = *self.verdict.lock().unwrap();
        let replies = request.hits.iter().map(|hit| {
            self.asked.lock().unwrap().push((hit.key.as_bytes().to_vec(), hit.ask.cost));
            let looks = matches!(hit.ask.cost, Cost::Take(0));
            Ok(Answer { verdict: Verdict { allowed: verdict.allowed || looks, ..verdict }, by: By::Redis })
        });
        let replies: Replies = replies.collect();
        Box::pin(std::future::ready(replies))
    }

    fn forget<'a>(&'a self, _: &'a [Hit<'a>], _: Time) -> Forgetting<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear(&self) -> Clearing<'_> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }
}

fn limits() -> Vec<(&'static str, Limit, bool)> {
    let fixed = |limit| FixedWindow::new(limit, Window::Epoch(Span::from_secs(3600)), Hits::Free).unwrap();
    let rate = Rate::new(1, Span::SECOND).unwrap();
    vec![
        ("fixed", Limit::FixedWindow(fixed(10)), false),
        ("token", Limit::TokenBucket(TokenBucket::new(rate, 10).unwrap()), false),
        ("shadow", Limit::FixedWindow(fixed(10)), true),
    ]
}

fn matcher(charge: Charge) -> Matcher {
    let descriptors = limits().into_iter().map(|(key, limit, shadow)| DescriptorSpec {
        key: key.into(),
        shadow,
        rule: Some(RuleSpec {
            limit: Some(limit),
            quota: Quota::default(),
            name: String::new(),
            replaces: Vec::new(),
            on_failure: OnFailure::Error,
            accuracy: Accuracy::Auto,
            max_hold: Span::MAX,
        }),
        ..DescriptorSpec::default()
    });
    let descriptors = descriptors.collect();
    let domain = DomainSpec { name: "d".into(), charge, descriptors, ..DomainSpec::default() };
    Matcher::build(vec![domain], Defaults::default()).unwrap()
}

struct World {
    inner: Arc<Scripted>,
    denied: Denied,
    matcher: Matcher,
    generation: u64,
    now: Time,
}

impl World {
    fn new(charge: Charge) -> World {
        let inner = Scripted::new(false, Span::from_secs(10));
        let denied = Denied::new(inner.clone(), 1 << 20);
        World { inner, denied, matcher: matcher(charge), generation: 1, now: NOW }
    }

    async fn ask(&self, asks: &[(&str, Cost)]) -> Vec<Answer> {
        let descriptors = asks.iter().map(|(key, cost)| {
            let (hits, refund) = match *cost {
                Cost::Take(units) => (units, false),
                Cost::Refund(units) => (units, true),
            };
            let entries = [(*key, "v")].into_iter().collect();
            Descriptor { entries, hits: Some(hits), refund, limit: None }
        });
        let query = Query {
            domain: "d",
            hits: 1,
            descriptors: descriptors.collect(),
            patience: Span::MAX,
            ..Query::default()
        };
        let plan = self.matcher.plan(&query);
        let request =
            Request { generation: self.generation, ..Request::new(plan.charge(), plan.hits(), self.now) };
        self.denied.charge(request).await.into_iter().map(Result::unwrap).collect()
    }

    /// Who answers one unit of `key`.
    async fn by(&self, key: &str, units: u64) -> By {
        self.ask(&[(key, Cost::Take(units))]).await[0].by
    }
}

async fn pass(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_until_its_end_and_tells_what_is_left() {
    let mut world = World::new(Charge::Admitted);
    assert_eq!(world.by("token", 1).await, By::Redis);
    pass(4_000).await;
    let answer = world.ask(&[("token", Cost::Take(1))]).await[0];
    assert_eq!((answer.by, answer.verdict.allowed), (By::Denial, false));
    assert_eq!(answer.verdict.retry_after, Retry::After(Span::from_secs(6)));
    assert_eq!(world.inner.questions(), 1);
    pass(6_000).await;
    assert_eq!(world.by("token", 1).await, By::Redis, "over");
    world.now = NOW + Span::from_secs(100);
    assert_eq!(world.by("token", 1).await, By::Redis, "over by the wall clock too");
    let usage = world.denied.usage().denials.unwrap();
    assert_eq!((usage.hits, usage.saved), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_refusal_says_of_other_costs_depends_on_the_algorithm() {
    let world = World::new(Charge::Admitted);
    world.ask(&[("fixed", Cost::Take(5)), ("token", Cost::Take(5))]).await;
    assert_eq!(world.by("fixed", 5).await, By::Denial);
    assert_eq!(world.by("fixed", 6).await, By::Denial, "a larger one is refused as long");
    assert_eq!(world.by("fixed", 4).await, By::Redis, "a smaller one may pass");
    assert_eq!(world.by("token", 5).await, By::Denial);
    assert_eq!(world.by("token", 6).await, By::Redis, "a larger one waits longer");
    assert_eq!(world.by("token", 6).await, By::Denial);
    let never = world.ask(&[("fixed", Cost::Take(11))]).await[0].verdict.retry_after;
    assert_eq!(never, Retry::Never);
}

#[tokio::test(start_paused = true)]
async fn looks_refunds_and_rules_in_shadow_ask_the_store() {
    let world = World::new(Charge::Admitted);
    for key in ["fixed", "shadow"] {
        world.by(key, 1).await;
    }
    assert_eq!(world.by("fixed", 0).await, By::Redis);
    assert_eq!(world.by("shadow", 1).await, By::Redis);
    assert_eq!(world.by("fixed", 1).await, By::Denial);
    assert_eq!(world.ask(&[("fixed", Cost::Refund(1))]).await[0].by, By::Redis);
    assert_eq!(world.by("fixed", 1).await, By::Redis, "a refund ends the refusal");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_dies_with_its_rules() {
    let mut world = World::new(Charge::Admitted);
    world.by("fixed", 1).await;
    assert_eq!(world.by("fixed", 1).await, By::Denial);
    world.generation = 2;
    assert_eq!(world.by("fixed", 1).await, By::Redis);
}

#[tokio::test(start_paused = true)]
async fn admissions_and_short_refusals_are_not_remembered() {
    let world = World::new(Charge::Admitted);
    world.inner.says(true, Span::ZERO);
    world.by("fixed", 1).await;
    world.inner.says(false, Span::from_micros(499));
    world.by("fixed", 1).await;
    assert_eq!(world.by("fixed", 1).await, By::Redis);
    world.inner.says(false, Span::from_millis(5));
    assert_eq!(world.by("fixed", 1).await, By::Redis);
    assert_eq!(world.by("fixed", 1).await, By::Denial);
}

#[tokio::test(start_paused = true)]
async fn the_other_hits_of_a_request_are_charged_or_only_looked_at() {
    for (charge, cost) in [(Charge::Admitted, Cost::Take(1)), (Charge::AllOrNothing, Cost::Take(0))] {
        let world = World::new(charge);
        world.by("fixed", 1).await;
        let answers = world.ask(&[("token", Cost::Take(1)), ("fixed", Cost::Take(1))]).await;
        assert_eq!([answers[0].by, answers[1].by], [By::Redis, By::Denial], "{charge:?}");
        assert_eq!(world.inner.asked.lock().unwrap().last().unwrap().1, cost, "{charge:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_with_an_id_asks_the_store() {
    let world = World::new(Charge::Admitted);
    world.by("fixed", 1).await;
    let query = Query {
        domain: "d",
        hits: 1,
        descriptors: [Descriptor {
            entries: [("fixed", "v")].into_iter().collect(),
            ..Descriptor::default()
        }]
        .into_iter()
        .collect(),
        patience: Span::MAX,
        ..Query::default()
    };
    let plan = world.matcher.plan(&query);
    let request = Request { generation: 1, id: Some(b"x"), ..Request::new(plan.charge(), plan.hits(), NOW) };
    assert_eq!(world.denied.charge(request).await[0].unwrap().by, By::Redis);
    let fresh = World::new(Charge::Admitted);
    fresh.denied.charge(request).await;
    assert_eq!(fresh.by("fixed", 1).await, By::Redis, "a replay tells an old instant");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_among_several_hits_of_all_or_nothing_is_not_learned() {
    let world = World::new(Charge::AllOrNothing);
    world.ask(&[("fixed", Cost::Take(1)), ("token", Cost::Take(1))]).await;
    assert_eq!(world.by("fixed", 1).await, By::Redis, "what refused it may have been taken back");
    assert_eq!(world.by("fixed", 1).await, By::Denial, "alone it says what is stored");
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let inner = Scripted::new(false, Span::from_secs(1_000));
    let denied = Denied::new(inner.clone(), 100 * 300);
    let world = World { denied, inner, ..World::new(Charge::Admitted) };
    for number in 0..1_000 {
        let value = format!("{number}");
        let entries = [("fixed", value.as_str())].into_iter().collect();
        let descriptors = [Descriptor { entries, ..Descriptor::default() }].into_iter().collect();
        let query = Query { domain: "d", hits: 1, descriptors, patience: Span::MAX, ..Query::default() };
        let plan = world.matcher.plan(&query);
        world.denied.charge(Request::new(plan.charge(), plan.hits(), NOW)).await;
    }
    world.denied.cache.run_pending_tasks();
    assert!(world.denied.usage().denials.unwrap().keys <= 100);
}
