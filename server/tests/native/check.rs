use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_core::rules::Hit;
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::limit_status::Outcome;
use tollgate_proto::tollgate::v1::{Accuracy, DecidedBy};
use tollgate_server::store::{Charging, Clearing, Fault, Forgetting, Request as Charge, Store, Usage};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::native_world::{Native, check, descriptor};
use crate::rls_world::{World, memory};

pub(crate) const RULES: &str = "
domain: d
on_overload: error
descriptors:
  - key: three
    rate_limit: { unit: hour, requests_per_unit: 3, name: three }
  - key: other
    rate_limit: { unit: hour, requests_per_unit: 3 }
  - key: zero
    rate_limit: { unit: minute, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: hour, requests_per_unit: 1 }
  - key: bucket
    rate_limit: { unit: second, requests_per_unit: 10, algorithm: token_bucket, burst: 5 }
  - key: queue
    rate_limit: { unit: second, requests_per_unit: 10, algorithm: leaky_bucket, queue: 2 }
";

/// 600 s before the end of an hour.
pub(crate) const NOW: Time = Time::from_micros(3_000_000_000);

pub(crate) async fn world() -> (World, Native) {
    let world = World::new(RULES, NOW);
    let native = Native::serve(world.engine.clone(), "").await;
    (world, native)
}

async fn ask(native: &Native, request: wire::CheckRequest) -> wire::CheckResponse {
    native.limiter.clone().check(request).await.unwrap().into_inner()
}

fn millis(duration: Option<prost_types::Duration>) -> Option<i64> {
    duration.map(|duration| duration.seconds * 1_000 + i64::from(duration.nanos / 1_000_000))
}

#[tokio::test]
async fn an_answer_tells_everything_about_each_limit() {
    let (_world, native) = world().await;
    let answer = ask(&native, check(&["three", "bucket", "free", "nobody"])).await;
    assert!(answer.allowed && !answer.never && answer.retry_after.is_none() && answer.wait.is_none());
    let [three, bucket, free, nobody] = &answer.limits[..] else { panic!("{answer:?}") };
    assert_eq!(three.outcome(), Outcome::Decided);
    assert_eq!((three.allowed, three.limit, three.remaining, &*three.rule), (true, 3, 2, "three"));
    assert_eq!(millis(three.reset_after), Some(600_000));
    assert_eq!((three.by(), three.accuracy()), (DecidedBy::Memory, Accuracy::Strict));
    assert_eq!((bucket.limit, bucket.remaining, &*bucket.rule), (5, 4, "d.bucket"));
    assert_eq!(millis(bucket.reset_after), Some(100));
    assert_eq!((free.outcome(), free.allowed), (Outcome::Unlimited, true));
    assert_eq!((nobody.outcome(), nobody.allowed), (Outcome::Unmatched, true));
    assert!((answer.pressure - 1.0 / 3.0).abs() < 1e-6, "{}", answer.pressure);
    let unknown = wire::CheckRequest { domain: "nobody's".into(), ..check(&["three"]) };
    assert_eq!(ask(&native, unknown).await.limits[0].outcome(), Outcome::UnknownDomain);
    let brief = wire::CheckRequest { explain: false, ..check(&["three"]) };
    assert_eq!(ask(&native, brief).await.limits[0].rule, "");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_says_exactly_when_to_come_again() {
    let (world, native) = world().await;
    let five = wire::CheckRequest { cost: Some(5), ..check(&["bucket"]) };
    assert!(ask(&native, five).await.allowed);
    let refused = ask(&native, check(&["bucket", "three"])).await;
    assert!(!refused.allowed && !refused.never);
    assert_eq!(millis(refused.retry_after), Some(100));
    assert_eq!(millis(refused.retry_jitter), Some(100), "a tenth of the second");
    assert!((refused.pressure - 1.0).abs() < f32::EPSILON);
    assert!(!refused.limits[0].allowed && refused.limits[0].remaining == 0);
    assert_eq!(millis(refused.limits[0].retry_after), Some(100));
    world.clock.advance(Span::from_micros(99_999));
    assert!(!ask(&native, check(&["bucket"])).await.allowed);
    world.clock.advance(Span::MICRO);
    assert!(ask(&native, check(&["bucket"])).await.allowed);

    let never = ask(&native, wire::CheckRequest { cost: Some(6), ..check(&["bucket"]) }).await;
    assert!(never.never && never.retry_after.is_none() && never.limits[0].never);
    assert!(ask(&native, check(&["zero"])).await.never);
}

#[tokio::test]
async fn looks_refunds_costs_and_shadow_do_what_they_say() {
    let (_world, native) = world().await;
    let look = || wire::CheckRequest { cost: Some(0), ..check(&["three"]) };
    assert_eq!(ask(&native, look()).await.limits[0].remaining, 3);
    let mut mixed = wire::CheckRequest { cost: Some(2), ..check(&["three", "other"]) };
    mixed.descriptors[1].cost = Some(1);
    let answer = ask(&native, mixed.clone()).await;
    assert_eq!((answer.limits[0].remaining, answer.limits[1].remaining), (1, 2));
    let answer = ask(&native, wire::CheckRequest { refund: true, ..mixed }).await;
    assert!(answer.allowed);
    assert_eq!(ask(&native, look()).await.limits[0].remaining, 3);
    assert!(ask(&native, check(&["watched"])).await.allowed);
    let over = ask(&native, check(&["watched"])).await;
    assert!(over.allowed && over.limits[0].allowed && over.limits[0].shadowed);
}

#[tokio::test]
async fn who_asks_again_by_the_same_name_is_charged_once() {
    let (_world, native) = world().await;
    let named = || wire::CheckRequest { idempotency_key: b"one".to_vec(), ..check(&["three"]) };
    let first = ask(&native, named()).await;
    assert_eq!(ask(&native, named()).await, first);
    let other = wire::CheckRequest { cost: Some(2), ..named() };
    assert_eq!(ask(&native, other).await.limits[0].remaining, 0, "another question by the same name");
    let both = wire::CheckRequest { idempotency_key: b"one".to_vec(), ..check(&["three", "other"]) };
    let answer = ask(&native, both).await;
    assert_eq!(answer.limits.len(), 2);
    assert_eq!(answer.limits[1].remaining, 2);
}

#[tokio::test]
async fn a_turn_in_a_queue_is_told_at_once_and_bounded_by_what_the_caller_can_bear() {
    let (_world, native) = world().await;
    let began = tokio::time::Instant::now();
    assert!(ask(&native, check(&["queue"])).await.wait.is_none(), "the first leaves at once");
    assert_eq!(millis(ask(&native, check(&["queue"])).await.wait), Some(100));
    let bears = |millis: i32| wire::CheckRequest {
        max_wait: Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 }),
        ..check(&["queue"])
    };
    let refused = ask(&native, bears(150)).await;
    assert!(!refused.allowed, "its turn comes in 200 ms");
    assert_eq!(millis(refused.retry_after), Some(50));
    assert_eq!(millis(ask(&native, bears(200)).await.wait), Some(200));
    let mut hurried = Request::new(check(&["queue"]));
    hurried.set_timeout(Duration::from_secs(5));
    let full = native.limiter.clone().check(hurried).await.unwrap().into_inner();
    assert!(!full.allowed, "two wait already");
    assert!(began.elapsed() < Duration::from_secs(5), "nobody was held");
}

#[tokio::test]
async fn what_makes_no_sense_names_the_field() {
    let (_world, native) = world().await;
    let fails = async |request: wire::CheckRequest| native.limiter.clone().check(request).await.unwrap_err();
    let status = fails(wire::CheckRequest::default()).await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "domain: must not be empty"));
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "domain");
    let empty = wire::CheckRequest {
        descriptors: vec![descriptor("three", "v"), wire::Descriptor::default()],
        ..check(&[])
    };
    assert_eq!(fails(empty).await.message(), "descriptors[1].entries: must not be empty");

    let without = World::without_rules();
    let native = Native::serve(without.engine.clone(), "").await;
    let status = native.limiter.clone().check(check(&["three"])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

/// A store that cannot be used.
struct Broken(Mutex<Fault>);

impl Store for Broken {
    fn charge<'a>(&'a self, request: Charge<'a>) -> Charging<'a> {
        let fault = *self.0.lock().unwrap();
        Box::pin(std::future::ready(request.hits.iter().map(|_| Err(fault)).collect()))
    }

    fn forget<'a>(&'a self, _: &'a [Hit<'a>], _: Time) -> Forgetting<'a> {
        Box::pin(std::future::ready(Err(*self.0.lock().unwrap())))
    }

    fn clear(&self) -> Clearing<'_> {
        Box::pin(std::future::ready(Err(*self.0.lock().unwrap())))
    }

    fn usage(&self) -> Usage {
        memory().usage()
    }
}

#[tokio::test]
async fn a_store_that_fails_has_a_code_of_its_own_and_says_when_to_come_again() {
    let store = Arc::new(Broken(Mutex::new(Fault::Open)));
    let world = World::over(store.clone(), RULES, NOW);
    let native = Native::serve(world.engine.clone(), "").await;
    let fails = async || native.limiter.clone().check(check(&["three"])).await.unwrap_err();

    let status = fails().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");

    *store.0.lock().unwrap() = Fault::Overloaded;
    let status = fails().await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "100");
    assert_eq!(status.get_details_quota_failure().unwrap().violations[0].subject, "store");

    *store.0.lock().unwrap() = Fault::Timeout;
    let status = fails().await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.metadata().get("grpc-retry-pushback-ms").is_none(), "it may have been charged");
}
