use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::check::{NOW, RULES};
use crate::rls_world::World;

fn routes() -> Router {
    World::new(RULES, NOW).http()
}

async fn post(routes: &Router, body: String) -> (StatusCode, HeaderMap, Value) {
    let request = Request::post("/v1/check").body(Body::from(body)).unwrap();
    let response = routes.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, headers, serde_json::from_slice(&body).unwrap())
}

fn question(key: &str, cost: u64) -> String {
    let descriptors = json!([{ "entries": [{ "key": key, "value": "v" }] }]);
    json!({ "domain": "d", "descriptors": descriptors, "cost": cost, "explain": true }).to_string()
}

#[tokio::test]
async fn an_admitted_request_is_200_and_a_refused_one_429_with_the_whole_answer() {
    let routes = routes();
    let (status, headers, answer) = post(&routes, question("three", 2)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(answer["allowed"], true);
    let limit = &answer["limits"][0];
    assert_eq!(
        (&limit["limit"], &limit["remaining"], &limit["rule"]),
        (&json!("3"), &json!("1"), &json!("three"))
    );
    assert_eq!(limit["resetAfter"], "600s");
    assert_eq!(limit["by"], "DECIDED_BY_MEMORY");

    let (status, headers, answer) = post(&routes, question("three", 2)).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(headers["retry-after"], "600");
    assert_eq!(answer["retryAfter"], "600s");
    assert_eq!(answer["retryJitter"], "10s");
    assert!(answer.get("allowed").is_none(), "a default is left out");
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let routes = routes();
    for (body, text) in [
        ("", "EOF"),
        ("{", "EOF"),
        (r#"{"domain": "d", "nonsense": 1}"#, "nonsense"),
        (r#"{"domain": "d", "cost": -1}"#, "out of range"),
        (r#"{"domain": ""}"#, "domain: must not be empty"),
        (r#"{"domain": "d", "descriptors": [{}]}"#, "descriptors[0].entries"),
    ] {
        let (status, _, answer) = post(&routes, body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer["code"], "INVALID_ARGUMENT");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(text), "{body}: {message}");
    }
    let (status, _, _) = post(&routes, "x".repeat(70_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_post_is_served() {
    let request = Request::get("/v1/check").body(Body::empty()).unwrap();
    let response = routes().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn without_rules_there_is_no_decision() {
    let (status, _, answer) = post(&World::without_rules().http(), question("three", 1)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["code"], "FAILED_PRECONDITION");
}
