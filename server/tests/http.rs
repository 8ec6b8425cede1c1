//! The HTTP port: the reference's `/json` and `/healthcheck`, probes, and forward-auth.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod rls_world;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use rls_world::World;
use serde_json::{Value, json};
use tollgate_core::time::Time;
use tower::ServiceExt as _;

const RULES: &str = "
domain: d
descriptors:
  - key: two
    rate_limit: { unit: hour, requests_per_unit: 2 }
  - key: remote_address
    rate_limit: { unit: minute, requests_per_unit: 1, name: 'per \"client\"' }
  - key: path
    value: /free
    rate_limit: { unlimited: true }
";
/// 600 s before the end of an hour.
const NOW: Time = Time::from_micros(3_000_000_000);

fn routes() -> Router {
    World::new(RULES, NOW).http()
}

async fn send(routes: &Router, request: Request<Body>) -> Response<Body> {
    routes.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

async fn json_of(routes: &Router, body: &str) -> (StatusCode, Value) {
    let response = send(routes, Request::post("/json").body(Body::from(body.to_owned())).unwrap()).await;
    let status = response.status();
    (status, serde_json::from_str(&text(response).await).unwrap_or(Value::Null))
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn json_answers_200_then_429_in_protobufs_mapping() {
    let routes = routes();
    let body = r#"{"domain":"d","descriptors":[{"entries":[{"key":"two","value":"x"}]}]}"#;
    let limit = json!({"requestsPerUnit": 2, "unit": "HOUR"});
    let ok = |left: u32| {
        json!({"overallCode": "OK", "statuses": [{
        "code": "OK", "currentLimit": limit, "limitRemaining": left, "durationUntilReset": "600s"}]})
    };
    assert_eq!(json_of(&routes, body).await, (StatusCode::OK, ok(1)));
    json_of(&routes, body).await;
    let over = json!({"overallCode": "OVER_LIMIT", "statuses": [{
        "code": "OVER_LIMIT", "currentLimit": limit, "durationUntilReset": "600s"}]});
    assert_eq!(json_of(&routes, body).await, (StatusCode::TOO_MANY_REQUESTS, over));
}

#[tokio::test]
async fn json_takes_snake_case_numbers_for_enums_and_64_bits_as_text() {
    let routes = routes();
    let body = r#"{"domain":"d","hits_addend":1,"descriptors":[{"entries":[{"key":"any"}],
        "limit":{"requests_per_unit":9,"unit":7,"unitMultiplier":2},"hitsAddend":"4"}]}"#;
    let (status, answer) = json_of(&routes, body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["statuses"][0]["limitRemaining"], 5);
    assert_eq!(answer["statuses"][0]["currentLimit"]["unitMultiplier"], 2);
}

#[tokio::test]
async fn json_answers_400_to_whatever_is_wrong_and_says_why_in_a_header() {
    let routes = routes();
    for body in ["", "{", "[]", r#"{"domain":"d","nobody":1}"#, r#"{"domain":""}"#, r#"{"domain":"d"} x"#] {
        let request = Request::post("/json").body(Body::from(body)).unwrap();
        let response = send(&routes, request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        assert!(!response.headers()["x-tollgate-error"].is_empty());
        assert_eq!(text(response).await, "Bad Request\n");
    }
}

#[tokio::test]
async fn json_takes_any_method_and_no_endless_body() {
    let routes = routes();
    let body = r#"{"domain":"d","descriptors":[{}]}"#;
    let request = Request::get("/json").body(Body::from(body)).unwrap();
    assert_eq!(send(&routes, request).await.status(), StatusCode::OK);
    let request = Request::post("/json").body(Body::from("x".repeat(70_000))).unwrap();
    assert_eq!(send(&routes, request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn health_is_the_references_and_readiness_needs_rules() {
    let with = routes();
    assert_eq!(text(send(&with, get("/healthcheck", &[])).await).await, "OK");
    assert_eq!(send(&with, get("/livez", &[])).await.status(), StatusCode::OK);
    assert_eq!(send(&with, get("/readyz", &[])).await.status(), StatusCode::OK);
    let without = World::without_rules().http();
    assert_eq!(send(&without, get("/healthcheck", &[])).await.status(), StatusCode::OK);
    assert_eq!(send(&without, get("/livez", &[])).await.status(), StatusCode::OK);
    assert_eq!(send(&without, get("/readyz", &[])).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let unknown = send(&with, get("/nowhere", &[])).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(text(unknown).await, "404 page not found\n");
}

#[tokio::test]
async fn forward_auth_passes_then_refuses_with_the_fields_of_the_draft() {
    let routes = routes();
    let ask = || get("/auth/d", &[("x-forwarded-for", "10.1.2.3, 10.0.0.1"), ("x-forwarded-uri", "/a?b=c")]);
    let passed = send(&routes, ask()).await;
    assert_eq!(passed.status(), StatusCode::OK);
    assert_eq!(passed.headers()["ratelimit"], r#""per \"client\"";r=0;t=60"#);
    assert_eq!(passed.headers()["ratelimit-policy"], r#""per \"client\"";q=1;w=60"#);
    assert!(!passed.headers().contains_key("retry-after"));
    let refused = send(&routes, ask()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "60");
    assert_eq!(refused.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn the_status_of_a_refusal_can_be_chosen() {
    let routes = routes();
    let ask = |path: &str| get(path, &[("x-real-ip", "10.1.2.3")]);
    send(&routes, ask("/auth/d")).await;
    assert_eq!(send(&routes, ask("/auth/d?deny_status=403")).await.status(), StatusCode::FORBIDDEN);
    for wrong in ["200", "999", "x"] {
        let response = send(&routes, ask(&format!("/auth/d?deny_status={wrong}"))).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn forward_auth_without_rules_or_without_sources_is_clear() {
    let without = World::without_rules().http();
    assert_eq!(send(&without, get("/auth/d", &[])).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let routes = routes();
    for _ in 0..3 {
        let forged = get("/auth/d", &[("x-real-ip", "not an address\u{e9}")]);
        assert_eq!(send(&routes, forged).await.status(), StatusCode::OK, "no source, no descriptor");
    }
}
