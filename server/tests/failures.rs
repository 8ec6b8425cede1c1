//! What callers are told when the store has no answer: over gRPC, `/json` and `/auth`, and on the metrics page.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod rls_world;

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use rls_world::{World, descriptor, memory, request};
use tollgate_core::rules::Hit;
use tollgate_core::time::Time;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tollgate_server::store::{Charging, Clearing, Fault, Forgetting, Store, Usage};
use tower::ServiceExt as _;

const NOW: Time = Time::from_micros(3_000_000_000);

const RULES: &str = "
domain: d
descriptors:
  - key: error
    rate_limit: { unit: hour, requests_per_unit: 2 }
  - key: allow
    rate_limit: { unit: hour, requests_per_unit: 2, on_failure: allow }
  - key: deny
    rate_limit: { unit: hour, requests_per_unit: 2, on_failure: deny }
  - key: local
    rate_limit: { unit: hour, requests_per_unit: 2, on_failure: local }
  - key: shadow
    shadow_mode: true
    rate_limit: { unit: hour, requests_per_unit: 2 }
  - key: remote_address
    rate_limit: { unit: hour, requests_per_unit: 2 }
  - key: fine
    rate_limit: { unit: hour, requests_per_unit: 1 }
";

/// A store in memory that, once it is broken, has no answer for any rule but `fine`.
struct Breakable {
    store: Arc<dyn Store>,
    fault: Mutex<Option<Fault>>,
}

impl Store for Breakable {
    fn charge<'a>(&'a self, request: tollgate_server::store::Request<'a>) -> Charging<'a> {
        Box::pin(async move {
            let fault = *self.fault.lock().unwrap();
            let Some(fault) = fault else { return self.store.charge(request).await };
            let replies = self.store.charge(request).await.into_iter().zip(request.hits);
            replies.map(|(reply, hit)| if is_fine(hit) { reply } else { Err(fault) }).collect()
        })
    }

    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], now: Time) -> Forgetting<'a> {
        let fault = *self.fault.lock().unwrap();
        match fault {
            Some(fault) => Box::pin(std::future::ready(Err(fault))),
            None => self.store.forget(hits, now),
        }
    }

    fn clear(&self) -> Clearing<'_> {
        self.store.clear()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }
}

fn is_fine(hit: &Hit<'_>) -> bool {
    hit.rule.path.ends_with("fine")
}

fn broken(fault: Fault) -> World {
    let store = Breakable { store: memory(), fault: Mutex::new(Some(fault)) };
    World::over(Arc::new(store), RULES, NOW)
}

async fn code(world: &World, keys: &[&str]) -> Code {
    let descriptors = keys.iter().map(|key| descriptor(key, "v")).collect();
    Code::try_from(world.asks(request("d", descriptors)).await.overall_code).unwrap()
}

#[tokio::test]
async fn an_error_is_unknown_with_a_text_that_names_the_cause() {
    let world = broken(Fault::Timeout);
    let text = world.fails(request("d", vec![descriptor("error", "v")])).await;
    assert_eq!(text, "rate limit store: no answer in time");
    let text = world.fails(request("d", vec![descriptor("allow", "v"), descriptor("error", "v")])).await;
    assert_eq!(text, "rate limit store: no answer in time", "one is enough");
}

#[tokio::test]
async fn the_other_policies_answer() {
    let world = broken(Fault::Unreachable);
    assert_eq!(code(&world, &["allow"]).await, Code::Ok);
    assert_eq!(code(&world, &["deny"]).await, Code::OverLimit);
    assert_eq!([code(&world, &["local"]).await, code(&world, &["local"]).await], [Code::Ok, Code::Ok]);
    assert_eq!(code(&world, &["local"]).await, Code::OverLimit, "its share is used up");
    assert_eq!(code(&world, &["shadow"]).await, Code::Ok, "a rule in shadow fails nobody");
}

#[tokio::test]
async fn a_refusal_by_a_limit_that_was_asked_stands() {
    let world = broken(Fault::Open);
    assert_eq!(code(&world, &["fine"]).await, Code::Ok);
    assert_eq!(code(&world, &["fine", "error"]).await, Code::OverLimit);
}

#[tokio::test]
async fn a_request_that_a_policy_refuses_charges_nothing_if_it_is_all_or_nothing() {
    let store = Breakable { store: memory(), fault: Mutex::new(Some(Fault::Open)) };
    let rules = RULES.replace("domain: d", "domain: d\ncharge: all_or_nothing");
    let world = World::over(Arc::new(store), &rules, NOW);
    assert_eq!(code(&world, &["fine", "deny"]).await, Code::OverLimit);
    // what was charged is given back in a task of its own
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(&world, &["fine"]).await, Code::Ok, "its only unit is there");
}

#[tokio::test]
async fn overload_is_the_domains_to_answer() {
    let world = broken(Fault::Overloaded);
    assert_eq!([code(&world, &["error"]).await, code(&world, &["error"]).await], [Code::Ok, Code::Ok]);
    assert_eq!(code(&world, &["error"]).await, Code::OverLimit, "its share, by default");
}

#[tokio::test]
async fn gateways_are_told_too() {
    let send = async |request: Request<Body>| {
        let response = broken(Fault::Full).http().oneshot(request).await.unwrap();
        let status = response.status();
        let why = response.headers().get("x-tollgate-error").map(|why| why.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        (status, why.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
    };
    let body = r#"{"domain":"d","descriptors":[{"entries":[{"key":"error","value":"x"}]}]}"#;
    let (status, why, _) = send(Request::post("/json").body(Body::from(body)).unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "as the reference");
    assert_eq!(why, "rate limit store: it has no memory left");
    let ask = Request::get("/auth/d").header("x-real-ip", "10.0.0.1").body(Body::empty()).unwrap();
    let (status, _, body) = send(ask).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "rate limit store: it has no memory left\n");
}

#[tokio::test]
async fn every_fallback_is_counted_by_rule_cause_and_answer() {
    let world = broken(Fault::Loading);
    world.fails(request("d", vec![descriptor("error", "v")])).await;
    for key in ["allow", "deny", "local", "local"] {
        code(&world, &[key]).await;
    }
    let page = world.page();
    for (answer, rule, times) in
        [("error", "error", 1), ("allow", "allow", 1), ("deny", "deny", 1), ("share", "local", 2)]
    {
        let line = format!(
            "tollgate_fallbacks_total{{answer=\"{answer}\",cause=\"loading\",domain=\"d\",rule=\"{rule}\"}} {times}"
        );
        assert!(page.contains(&line), "{line} in {page}");
    }
}
