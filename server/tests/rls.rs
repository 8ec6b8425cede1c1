//! The rate limit service as its callers see it, on a clock that the test moves. Real Envoy and gRPC clients are
//! in `e2e/`; here every status, text and number of the reference is fixed.

mod rls_world;

use rls_world::{World, descriptor, request};
use tollgate_core::time::{Span, Time};
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};

const RULES: &str = "
domain: d
descriptors:
  - key: three
    rate_limit: { unit: hour, requests_per_unit: 3, name: three }
  - key: zero
    rate_limit: { unit: minute, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: hour, requests_per_unit: 1 }
  - key: first
    quota_mode: true
    metadata: { pool: one, both: { a: 1 } }
    rate_limit: { unit: hour, requests_per_unit: 1 }
  - key: second
    quota_mode: true
    metadata: { pool: two, both: { b: 2 } }
    rate_limit: { unit: hour, requests_per_unit: 1 }
  - key: bucket
    rate_limit: { unit: second, requests_per_unit: 10, algorithm: token_bucket, burst: 5 }
  - key: slow
    rate_limit: { unit: minute, requests_per_unit: 1, algorithm: token_bucket, burst: 5 }
  - key: five_minutes
    rate_limit: { unit: minute, unit_multiplier: 5, requests_per_unit: 9 }
";

/// 600 s before the end of an hour.
const NOW: Time = Time::from_micros(3_000_000_000);

fn world() -> World {
    World::new(RULES, NOW)
}

fn codes(statuses: &[DescriptorStatus]) -> Vec<Code> {
    statuses.iter().map(DescriptorStatus::code).collect()
}

#[tokio::test]
async fn what_makes_no_sense_is_unknown_with_the_references_text() {
    let world = world();
    let error = world.fails(RateLimitRequest::default()).await;
    assert_eq!(error, "rate limit domain must not be empty");
    let error = world.fails(request("d", vec![])).await;
    assert_eq!(error, "rate limit descriptor list must not be empty");
    let error = World::without_rules().fails(request("d", vec![descriptor("three", "x")])).await;
    assert_eq!(error, "no rate limit configuration loaded");
}

#[tokio::test]
async fn overrides_and_costs_out_of_range_are_errors_and_the_server_lives() {
    let world = world();
    let with = |limit: RateLimitOverride| {
        let mut limited = descriptor("any", "x");
        limited.limit = Some(limit);
        request("d", vec![descriptor("three", "x"), limited])
    };
    for unit in [0, 8, 99, -1] {
        let error =
            world.fails(with(RateLimitOverride { requests_per_unit: 1, unit, unit_multiplier: None })).await;
        assert_eq!(error, format!("invalid rate limit unit {unit} in the limit of descriptor 1"));
    }
    let error = world
        .fails(with(RateLimitOverride { requests_per_unit: 1, unit: 1, unit_multiplier: Some(0) }))
        .await;
    assert_eq!(error, "unit_multiplier must not be 0 in the limit of descriptor 1");
    let error = world
        .fails(with(RateLimitOverride { requests_per_unit: 1, unit: 6, unit_multiplier: Some(101) }))
        .await;
    assert!(error.starts_with("invalid limit of descriptor 1: window of "), "{error}");
    let mut wrapped = descriptor("three", "x");
    wrapped.hits_addend = Some(1 << 63);
    let error = world.fails(request("d", vec![wrapped])).await;
    assert!(error.starts_with("hits_addend 9223372036854775808 of descriptor 0 is out of range"), "{error}");
    let answer = world.asks(request("d", vec![descriptor("three", "x")])).await;
    assert_eq!(answer.statuses[0].limit_remaining, 2, "nothing of a refused request was charged");
}

#[tokio::test]
async fn a_request_has_ten_thousand_descriptors_at_the_most() {
    let world = world();
    let many = |count: usize| request("d", vec![descriptor("free", "x"); count]);
    assert_eq!(world.asks(many(10_000)).await.statuses.len(), 10_000);
    let error = world.fails(many(10_001)).await;
    assert_eq!(error, "rate limit descriptor list has 10001 items, more than 10000");
}

#[tokio::test]
async fn a_refused_bucket_tells_when_it_admits_again_not_when_it_is_full() {
    let world = world();
    let mut all = descriptor("slow", "x");
    all.hits_addend = Some(5);
    let answer = world.asks(request("d", vec![all])).await;
    assert_eq!(answer.statuses[0].duration_until_reset.unwrap().seconds, 300);
    let answer = world.asks(request("d", vec![descriptor("slow", "x")])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert_eq!(answer.statuses[0].duration_until_reset.unwrap().seconds, 60);
}

#[tokio::test]
async fn a_fixed_window_counts_down_and_over_as_the_reference() {
    let world = world();
    for left in [2, 1, 0] {
        let answer = world.asks(request("d", vec![descriptor("three", "x")])).await;
        assert_eq!(answer.overall_code(), Code::Ok);
        let status = &answer.statuses[0];
        assert_eq!((status.code(), status.limit_remaining), (Code::Ok, left));
        let limit = status.current_limit.as_ref().unwrap();
        assert_eq!((limit.requests_per_unit, limit.unit, limit.name.as_str()), (3, 3, "three"));
        assert_eq!(limit.unit_multiplier, None);
        assert_eq!(status.duration_until_reset.unwrap().seconds, 600);
        assert_eq!(status.duration_until_reset.unwrap().nanos, 0);
    }
    let answer = world.asks(request("d", vec![descriptor("three", "x")])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert_eq!((answer.statuses[0].code(), answer.statuses[0].limit_remaining), (Code::OverLimit, 0));
    world.clock.advance(Span::from_secs(600));
    let answer = world.asks(request("d", vec![descriptor("three", "x")])).await;
    assert_eq!((answer.statuses[0].code(), answer.statuses[0].limit_remaining), (Code::Ok, 2));
    assert_eq!(answer.statuses[0].duration_until_reset.unwrap().seconds, 3600);
}

#[tokio::test]
async fn the_reset_is_rounded_up_and_never_zero() {
    let world = World::new(RULES, Time::from_micros(3_599_999_999));
    let answer = world.asks(request("d", vec![descriptor("three", "x")])).await;
    assert_eq!(answer.statuses[0].duration_until_reset.unwrap().seconds, 1);
}

#[tokio::test]
async fn refused_hits_are_charged_and_a_large_cost_poisons_the_window() {
    let world = world();
    world.asks(request("d", vec![descriptor("three", "x")])).await;
    let mut ten = descriptor("three", "x");
    ten.hits_addend = Some(10);
    let answer = world.asks(request("d", vec![ten])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    let answer = world.asks(request("d", vec![descriptor("three", "x")])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit, "the counter stands at 12");
}

#[tokio::test]
async fn a_look_at_exactly_full_is_ok_and_changes_nothing() {
    let world = world();
    let mut three = descriptor("three", "x");
    three.hits_addend = Some(3);
    world.asks(request("d", vec![three])).await;
    let mut look = descriptor("three", "x");
    look.hits_addend = Some(0);
    for _ in 0..2 {
        let answer = world.asks(request("d", vec![look.clone()])).await;
        assert_eq!((answer.statuses[0].code(), answer.statuses[0].limit_remaining), (Code::Ok, 0));
    }
    let mut zero = descriptor("zero", "x");
    zero.hits_addend = Some(0);
    let answer = world.asks(request("d", vec![zero])).await;
    assert_eq!(answer.overall_code(), Code::Ok, "a look at a limit of nothing passes");
    let answer = world.asks(request("d", vec![descriptor("zero", "x")])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert_eq!(answer.statuses[0].current_limit.as_ref().unwrap().requests_per_unit, 0);
}

#[tokio::test]
async fn a_refund_gives_back_and_stops_at_nothing_used() {
    let world = world();
    world.asks(request("d", vec![descriptor("three", "x")])).await;
    let mut refund = descriptor("three", "x");
    refund.is_negative_hits = true;
    refund.hits_addend = Some(5);
    let answer = world.asks(request("d", vec![refund.clone()])).await;
    assert_eq!((answer.statuses[0].code(), answer.statuses[0].limit_remaining), (Code::Ok, 3));
    let answer = world.asks(request("d", vec![refund])).await;
    assert_eq!(answer.statuses[0].limit_remaining, 3);
}

#[tokio::test]
async fn one_status_per_descriptor_in_order() {
    let world = world();
    let mut requests = request(
        "d",
        vec![
            descriptor("nobody", "x"),
            descriptor("free", "x"),
            descriptor("zero", "x"),
            descriptor("three", "x"),
            descriptor("three", "x"),
        ],
    );
    requests.descriptors.push(Default::default());
    let answer = world.asks(requests).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    let over = Code::OverLimit;
    assert_eq!(codes(&answer.statuses), [Code::Ok, Code::Ok, over, Code::Ok, Code::Ok, Code::Ok]);
    let remaining: Vec<u32> = answer.statuses.iter().map(|status| status.limit_remaining).collect();
    assert_eq!(remaining, [0, u32::MAX, 0, 2, 1, 0], "the same descriptor twice is charged twice, in turn");
    assert!(answer.statuses[0].current_limit.is_none() && answer.statuses[1].current_limit.is_none());
    assert!(answer.statuses[1].duration_until_reset.is_none());
}

#[tokio::test]
async fn an_unknown_domain_is_ok() {
    let answer = world().asks(request("nobody", vec![descriptor("a", "b"), Default::default()])).await;
    assert_eq!(answer.overall_code(), Code::Ok);
    assert_eq!(codes(&answer.statuses), [Code::Ok, Code::Ok]);
}

#[tokio::test]
async fn request_hits_hold_for_every_descriptor_without_its_own() {
    let world = world();
    let mut two = request("d", vec![descriptor("three", "x"), descriptor("three", "y")]);
    two.hits_addend = 2;
    two.descriptors[1].hits_addend = Some(3);
    let answer = world.asks(two).await;
    let remaining: Vec<u32> = answer.statuses.iter().map(|status| status.limit_remaining).collect();
    assert_eq!(remaining, [1, 0]);
}

#[tokio::test]
async fn shadow_counts_and_passes_with_nothing_remaining() {
    let world = world();
    for _ in 0..3 {
        let answer = world.asks(request("d", vec![descriptor("watched", "x")])).await;
        assert_eq!((answer.overall_code(), answer.statuses[0].code()), (Code::Ok, Code::Ok));
        assert_eq!(answer.statuses[0].limit_remaining, 0);
    }
}

#[tokio::test]
async fn quota_rules_refuse_only_together() {
    let world = world();
    let both = || request("d", vec![descriptor("first", "x"), descriptor("second", "x")]);
    world.asks(request("d", vec![descriptor("first", "x")])).await;
    let answer = world.asks(both()).await;
    assert_eq!(answer.overall_code(), Code::Ok);
    assert_eq!(codes(&answer.statuses), [Code::OverLimit, Code::Ok]);
    let answer = world.asks(both()).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
}

#[tokio::test]
async fn an_override_needs_no_rule_and_tells_its_window() {
    let world = world();
    let mut limited = descriptor("nobody", "x");
    let limit = RateLimitOverride { requests_per_unit: 4, unit: 7, unit_multiplier: Some(2) };
    limited.limit = Some(limit);
    let answer = world.asks(request("d", vec![limited])).await;
    let told = answer.statuses[0].current_limit.as_ref().unwrap();
    assert_eq!((told.requests_per_unit, told.unit, told.unit_multiplier), (4, 7, Some(2)));
    assert_eq!(answer.statuses[0].limit_remaining, 3);
}

#[tokio::test]
async fn buckets_and_long_windows_tell_their_own_numbers() {
    let world = world();
    let answer =
        world.asks(request("d", vec![descriptor("bucket", "x"), descriptor("five_minutes", "x")])).await;
    assert_eq!(answer.statuses[0].limit_remaining, 4);
    assert_eq!(answer.statuses[0].duration_until_reset.unwrap().seconds, 1, "100 ms, rounded up");
    let told = answer.statuses[1].current_limit.as_ref().unwrap();
    assert_eq!((told.unit, told.unit_multiplier), (2, Some(5)));
}

#[tokio::test]
async fn headers_and_metadata_are_off_by_default() {
    let answer = world().asks(request("d", vec![descriptor("zero", "x")])).await;
    assert!(answer.response_headers_to_add.is_empty() && answer.request_headers_to_add.is_empty());
    assert!(answer.dynamic_metadata.is_none() && answer.raw_body.is_empty() && answer.quota.is_none());
}

#[tokio::test]
async fn headers_describe_the_tightest_limit_and_the_last_one_over() {
    let world = world().with_headers();
    let headers = |answer: &tollgate_proto::envoy::service::ratelimit::v3::RateLimitResponse| {
        let pair = |header: &tollgate_proto::envoy::config::core::v3::HeaderValue| {
            format!("{}: {}", header.key, header.value)
        };
        answer.response_headers_to_add.iter().map(pair).collect::<Vec<_>>()
    };
    let answer =
        world.asks(request("d", vec![descriptor("five_minutes", "x"), descriptor("three", "x")])).await;
    assert_eq!(headers(&answer), ["RateLimit-Limit: 3", "RateLimit-Remaining: 2", "RateLimit-Reset: 600"]);
    let answer = world.asks(request("d", vec![descriptor("zero", "x"), descriptor("three", "y")])).await;
    let expected = ["RateLimit-Limit: 0", "RateLimit-Remaining: 0", "RateLimit-Reset: 60", "Retry-After: 60"];
    assert_eq!(headers(&answer)[..3], expected[..3]);
    let answer = world.asks(request("d", vec![descriptor("free", "x")])).await;
    assert!(headers(&answer).is_empty());
}

#[tokio::test]
async fn metadata_of_the_rules_that_passed_is_merged_and_never_leaks() {
    let world = world().with_metadata();
    let both = request("d", vec![descriptor("first", "x"), descriptor("second", "x")]);
    let answer = world.asks(both).await;
    let text = format!("{:?}", answer.dynamic_metadata.unwrap().fields["metadata"]);
    assert!(text.contains("one") && !text.contains("two"), "the first wins: {text}");
    assert!(text.contains("\"a\"") && text.contains("\"b\""), "structs merge: {text}");
    let answer = world.asks(request("d", vec![descriptor("first", "y")])).await;
    let text = format!("{:?}", answer.dynamic_metadata.unwrap().fields["metadata"]);
    assert!(!text.contains("\"b\""), "another request's metadata: {text}");
}
