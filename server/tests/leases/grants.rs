//! What is granted, for how long, and why not.

use tollgate_core::rules::{Defaults, Layout};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1::lease_response::Reason;
use tollgate_proto::tollgate::v1::limit_status::Outcome;

use tollgate_server::config::compile::compile;
use tollgate_server::config::rules::{Options, Source};

use crate::lessor::{Lessor, NOW, request, span};

const RULES: &str = "
domain: d
descriptors:
  - key: window
    rate_limit: { unit: minute, requests_per_unit: 1000 }
  - key: small
    rate_limit: { unit: minute, requests_per_unit: 999 }
  - key: asked
    rate_limit: { unit: minute, requests_per_unit: 8, accuracy: leased }
  - key: nothing
    rate_limit: { unit: minute, requests_per_unit: 0, accuracy: leased }
  - key: strict
    rate_limit: { unit: minute, requests_per_unit: 5000, accuracy: strict }
  - key: bucket
    rate_limit: { unit: second, requests_per_unit: 1000, algorithm: token_bucket, accuracy: leased }
  - key: plain
    rate_limit: { unit: second, requests_per_unit: 1000, algorithm: token_bucket }
  - key: queue
    rate_limit: { unit: second, requests_per_unit: 1000, algorithm: leaky_bucket, queue: 2000 }
  - key: quota
    quota_mode: true
    rate_limit: { unit: minute, requests_per_unit: 5000 }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: minute, requests_per_unit: 2 }
  - key: free
    rate_limit: { unlimited: true }
";

#[tokio::test]
async fn a_lease_is_charged_at_once_and_ends_with_its_window() {
    let lessor = Lessor::new(RULES);
    let leased = lessor.lease(&["window"], 100).await;
    assert_eq!((leased.granted, leased.reason()), (100, Reason::Unspecified));
    assert!(!leased.lease.is_empty() && leased.retry_after.is_none());
    assert_eq!(span(leased.ttl), Some(Span::from_secs(10)), "the server's choice");
    assert_eq!((leased.limits[0].outcome(), leased.limits[0].remaining), (Outcome::Decided, 900));
    assert_eq!(lessor.remaining("window").await, 900);
    let mut long = request(&["window"], 1);
    long.ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let long = lessor.leases.lease(&long, None).await.unwrap();
    assert_eq!(span(long.ttl), Some(Span::from_secs(30)), "the window's end");
}

#[tokio::test]
async fn a_lease_is_at_most_a_quarter_of_what_remains_and_the_last_token_is_found() {
    let lessor = Lessor::new(RULES);
    let first = lessor.lease(&["window"], 1_000_000).await;
    assert_eq!((first.granted, first.reason()), (250, Reason::Capped));
    let second = lessor.lease(&["window"], 1_000_000).await;
    assert_eq!(second.granted, 187);
    let (mut sum, mut last) = (437, second);
    for _ in 0..100 {
        let next = lessor.lease(&["window"], 1_000_000).await;
        if next.granted == 0 {
            break;
        }
        sum += next.granted;
        last = next;
    }
    assert_eq!(sum, 1_000, "all of it and no more");
    assert_eq!((last.granted, last.reason()), (1, Reason::Exhausted));
    let refused = lessor.lease(&["window"], 10).await;
    assert_eq!((refused.granted, refused.reason(), refused.lease.len()), (0, Reason::Exhausted, 0));
    assert_eq!(span(refused.retry_after), Some(Span::from_secs(30)));
    assert!(refused.retry_jitter.is_some() && refused.ttl.is_none());
    assert!(!refused.limits[0].allowed);
    lessor.clock.advance(Span::from_micros(29_999_999));
    assert_eq!(span(lessor.lease(&["window"], 10).await.retry_after), Some(Span::MICRO));
    lessor.clock.advance(Span::MICRO);
    assert_eq!(lessor.lease(&["window"], 10).await.granted, 10, "exactly then");
}

#[tokio::test]
async fn a_refused_lease_is_not_counted_though_refused_requests_are() {
    let lessor = Lessor::new(RULES);
    assert!(lessor.check(&["window"], 1_000).await);
    for _ in 0..3 {
        assert_eq!(lessor.lease(&["window"], 500).await.granted, 0);
    }
    assert_eq!(lessor.lease(&["window"], 1).await.limits[0].remaining, 0);
    let page = lessor.engine.metrics().render();
    assert!(page.contains("tollgate_leases_total{result=\"exhausted\"} 4"), "{page}");
    // a count of 1000 and not more: giving one back makes room for one
    let request = tollgate_proto::tollgate::v1::CheckRequest {
        domain: "d".into(),
        descriptors: request(&["window"], 1).descriptors,
        refund: true,
        ..Default::default()
    };
    lessor.native.answer(&request, None, tollgate_server::telemetry::metrics::Api::Check).await.unwrap();
    assert_eq!(lessor.lease(&["window"], 5).await.granted, 1);
}

#[tokio::test]
async fn requests_of_a_leased_bucket_have_what_the_pool_leaves() {
    let lessor = Lessor::new(RULES);
    assert_eq!(lessor.remaining("bucket").await, 500);
    let leased = lessor.lease(&["bucket"], 1_000).await;
    // half of what the pool grants at once, 125
    assert_eq!((leased.granted, leased.reason()), (62, Reason::Capped));
    assert_eq!(span(leased.ttl), Some(Span::from_millis(150)));
    assert_eq!(lessor.remaining("bucket").await, 438);
    assert!(lessor.check(&["bucket"], 438).await);
    assert!(!lessor.check(&["bucket"], 1).await);
    let refused = lessor.lease(&["bucket"], 1).await;
    assert_eq!(
        (refused.reason(), span(refused.retry_after)),
        (Reason::Exhausted, Some(Span::from_millis(1)))
    );
    lessor.clock.advance(Span::from_millis(1));
    assert_eq!(lessor.lease(&["bucket"], 1).await.granted, 1);
}

#[tokio::test]
async fn a_pool_that_is_empty_refuses_leases_and_no_requests() {
    let lessor = Lessor::new(RULES);
    let mut sum = 0;
    let refused = loop {
        let leased = lessor.lease(&["bucket"], 1_000).await;
        if leased.granted == 0 {
            break leased;
        }
        sum += leased.granted;
    };
    assert_eq!((sum, refused.reason()), (125, Reason::Exhausted));
    // 375 tokens in 187.5 ms
    assert_eq!(span(refused.retry_after), Some(Span::from_micros(500)));
    assert_eq!(lessor.remaining("bucket").await, 375);
    lessor.clock.advance(Span::from_micros(500));
    assert_eq!(lessor.lease(&["bucket"], 1_000).await.granted, 1);
}

#[tokio::test]
async fn what_is_never_leased_says_so_and_still_tells_its_limits() {
    let lessor = Lessor::new(RULES);
    for key in ["small", "strict", "plain", "queue", "quota"] {
        let refused = lessor.lease(&[key], 10).await;
        assert_eq!((refused.granted, refused.reason()), (0, Reason::NotLeasable), "{key}");
        assert_eq!(refused.retry_after, None, "{key}");
        assert_eq!((refused.limits.len(), refused.limits[0].outcome()), (1, Outcome::Decided), "{key}");
        assert_eq!(refused.limits[0].remaining, refused.limits[0].limit, "{key} was charged nothing");
    }
    assert_eq!(lessor.lease(&["window", "strict"], 10).await.reason(), Reason::NotLeasable);
    assert_eq!(lessor.remaining("window").await, 1_000);
    assert_eq!(lessor.lease(&["asked"], 10).await.granted, 2, "small, and leased since it asks for it");
    let never = lessor.lease(&["nothing"], 1).await;
    assert_eq!((never.granted, never.reason(), never.retry_after), (0, Reason::Exhausted, None));
    assert!(never.limits[0].never);
}

#[tokio::test]
async fn a_window_that_is_about_to_end_is_not_leased() {
    let lessor = Lessor::new(RULES);
    lessor.clock.set(NOW + Span::from_micros(29_985_000));
    let refused = lessor.lease(&["window"], 10).await;
    assert_eq!((refused.granted, refused.reason()), (0, Reason::NotLeasable));
    assert_eq!(span(refused.retry_after), Some(Span::from_millis(15)));
    lessor.clock.advance(Span::from_millis(15));
    assert_eq!(lessor.lease(&["window"], 10).await.granted, 10);
}

#[tokio::test]
async fn without_a_limit_nothing_need_be_asked() {
    let lessor = Lessor::new(RULES);
    for keys in [&["free"][..], &["nobody"], &["free", "nobody"]] {
        let leased = lessor.lease(keys, 10).await;
        assert_eq!((leased.granted, leased.reason(), leased.lease.len()), (0, Reason::Unlimited, 0));
        assert_eq!(span(leased.ttl), Some(Span::from_secs(10)));
        assert_eq!(leased.limits.len(), keys.len());
    }
    assert_eq!(lessor.lease(&["free", "window"], 10).await.granted, 10, "one limit is enough");
}

#[tokio::test]
async fn several_limits_are_charged_together_or_not_at_all() {
    let lessor = Lessor::new(RULES);
    let leased = lessor.lease(&["window", "asked"], 1_000).await;
    assert_eq!(leased.granted, 2, "the tightest one decides");
    assert_eq!((lessor.remaining("window").await, lessor.remaining("asked").await), (998, 6));
    assert!(lessor.check(&["asked"], 6).await);
    let refused = lessor.lease(&["window", "asked"], 1_000).await;
    assert_eq!((refused.granted, refused.reason()), (0, Reason::Exhausted));
    assert_eq!(lessor.remaining("window").await, 998);
    let twice = lessor.lease(&["window", "window"], 1_000).await;
    assert_eq!(twice.granted, 998 / 8, "a token pays for both");
    assert_eq!(lessor.remaining("window").await, 998 - 2 * (998 / 8));
}

#[tokio::test]
async fn a_rule_in_shadow_is_charged_and_bounds_nothing() {
    let lessor = Lessor::new(RULES);
    let leased = lessor.lease(&["window", "watched"], 200).await;
    assert_eq!(leased.granted, 200);
    assert!(leased.limits[1].shadowed && leased.limits[1].allowed);
    assert_eq!(lessor.lease(&["watched"], 2).await.granted, 2, "there is nothing else");
    lessor.load(RULES, Defaults { shadow: true, ..Defaults::default() });
    assert_eq!(lessor.lease(&["strict"], 9_000).await.granted, 9_000, "SHADOW_MODE enforces nothing");
}

#[tokio::test]
async fn what_makes_no_sense_is_told_by_field() {
    let lessor = Lessor::new(RULES);
    let text = |change: fn(&mut tollgate_proto::tollgate::v1::LeaseRequest)| {
        let mut request = request(&["window"], 10);
        change(&mut request);
        let leases = lessor.leases.clone();
        async move { leases.lease(&request, None).await.unwrap_err().to_string() }
    };
    assert_eq!(text(|r| r.domain.clear()).await, "domain: must not be empty");
    assert_eq!(text(|r| r.tokens = 0).await, "tokens: 0 is out of range: 1 to 4294967295");
    assert_eq!(text(|r| r.tokens = 1 << 32).await, "tokens: 4294967296 is out of range: 1 to 4294967295");
    let ttl = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    assert_eq!(
        text(|r| r.ttl = Some(prost_types::Duration::default())).await,
        "ttl: is out of range: 1us to 60s"
    );
    let mut long = request(&["window"], 10);
    long.ttl = ttl(61);
    assert_eq!(
        lessor.leases.lease(&long, None).await.unwrap_err().to_string(),
        "ttl: is out of range: 1us to 60s"
    );
    long.ttl = ttl(-1);
    let negative = lessor.leases.lease(&long, None).await.unwrap_err().to_string();
    assert_eq!(negative, "ttl: must be a duration that is not negative");
    assert_eq!(lessor.remaining("window").await, 1_000);
}

#[tokio::test]
async fn with_the_references_names_nothing_is_leased() {
    let lessor = Lessor::new(RULES);
    let rules =
        "domain: d\ndescriptors:\n  - key: window\n    rate_limit: { unit: minute, requests_per_unit: 1000 }";
    lessor.load(rules, Defaults { layout: Layout::Reference, ..Defaults::default() });
    assert_eq!(lessor.lease(&["window"], 10).await.reason(), Reason::NotLeasable);
}

#[test]
fn a_limit_that_wants_to_be_leased_and_cannot_be_is_warned_of() {
    let warned = |fields: &str| {
        let text =
            format!("domain: d\ndescriptors:\n  - key: k\n    rate_limit: {{ unit: second, {fields} }}");
        let source = Source { name: "rules.yaml".into(), bytes: text.into_bytes() };
        let warnings = compile(&[source], &Options::default(), Defaults::default()).unwrap().warnings;
        warnings.iter().map(|warning| (warning.line, warning.text.clone())).collect::<Vec<_>>()
    };
    let expected = "this limit is never leased: its capacity is below 1000, or its rate brings more of it back \
                    within 20ms than leases may hold";
    for fields in [
        "requests_per_unit: 999, algorithm: token_bucket, accuracy: leased",
        "requests_per_unit: 999, algorithm: sliding_window, accuracy: leased",
        "requests_per_unit: 7501, burst: 1000, algorithm: token_bucket, accuracy: leased",
    ] {
        assert_eq!(warned(fields), [(4, expected.to_owned())], "{fields}");
    }
    for fields in [
        "requests_per_unit: 1000, algorithm: token_bucket, accuracy: leased",
        "requests_per_unit: 999, algorithm: token_bucket",
        "requests_per_unit: 1, accuracy: leased",
    ] {
        assert_eq!(warned(fields), [], "{fields}");
    }
}
