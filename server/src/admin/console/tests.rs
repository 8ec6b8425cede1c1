use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::timeout;
use tollgate_core::limit::{Retry, Verdict};
use tollgate_core::rules::{Answer, By, Descriptor, Query};
use tollgate_core::time::Span;
use tower::ServiceExt as _;

use super::*;
use crate::admin::tests::{admin, ask, limited, load};
use crate::admin::{Admin, routes as admin_routes};
use crate::store::{Fault, Replies};
use crate::telemetry::metrics::{Answered, Api};

const OPEN: &str = r#"{"namespace":"shop","target":"bank","mode":"forced_open","reason":"drill","actor":"ann","ttl_seconds":60}"#;

/// `user=ann` asks `times` times, and is refused from the fifth on.
fn traffic(admin: &Admin, times: u64) {
    let rules = admin.engine.rules();
    let rules = rules.as_ref().unwrap();
    for used in 0..times {
        let descriptor =
            Descriptor { entries: [("user", "ann")].into_iter().collect(), ..Descriptor::default() };
        let query =
            Query { domain: "shop", descriptors: [descriptor].into_iter().collect(), ..Query::default() };
        let plan = rules.matcher().plan(&query);
        let verdict = Verdict {
            allowed: used < 4,
            limit: 4,
            remaining: 0,
            used_before: used,
            used,
            retry_after: Retry::After(Span::from_millis(2_500)),
            reset_after: Span::ZERO,
            wait: Span::ZERO,
        };
        let replies: Replies = [Ok(Answer { verdict, by: By::Memory })].into_iter().collect();
        if used == 9 {
            let faults: Replies = [Err(Fault::Timeout)].into_iter().collect();
            admin.metrics.fell_back(plan.hits(), &faults, &replies);
        }
        admin.metrics.decided(rules, &query, &plan.settle(&replies));
        let answered = if used < 4 { Answered::Ok } else { Answered::OverLimit };
        admin.metrics.request(Api::Rls, answered);
    }
}

async fn state_of(admin: Admin) -> Value {
    let (status, text) = ask(admin_routes(admin), Method::GET, "/console/state", None).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_str(&text).unwrap()
}

async fn post(admin: Admin, token: Option<&str>, body: &str) -> (StatusCode, Value) {
    let mut request = Request::post("/console/override").header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = admin_routes(admin).oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn token() -> Writes {
    Writes::Token("secret".into())
}

#[tokio::test]
async fn the_state_names_the_refused_key_and_its_rule() {
    let admin = admin(Writes::Closed);
    load(&admin, vec![limited("user", 4), limited("quiet", 4)]);
    traffic(&admin, 10);
    let state = state_of(admin).await;
    let now = &state["now"];
    let refused = &now["keys"]["refused"][0];
    assert_eq!((&refused["key"], &refused["rule"]), (&"user=ann".into(), &"shop.user".into()));
    assert_eq!((&refused["count"], &refused["low"], &refused["high"]), (&6.into(), &6.into(), &6.into()));
    assert_eq!((&refused["retry_ms"], &refused["limit"]), (&2_500.into(), &4.into()));
    assert_eq!(now["keys"]["asked"][0]["count"], 10);
    let rules = now["rules"]["shown"].as_array().unwrap();
    let states: Vec<_> = rules.iter().map(|rule| (rule["rule"].as_str(), rule["state"].as_str())).collect();
    assert_eq!(states, [(Some("shop.user"), Some("over")), (Some("shop.quiet"), Some("idle"))]);
    assert_eq!((&rules[0]["use_percent"], &rules[0]["fullest"]), (&100.into(), &"user=ann".into()));
    assert_eq!(rules[0]["limit"], "4 per hour");
}

#[tokio::test]
async fn the_state_has_the_settings_with_their_origins_and_no_secrets() {
    let state = state_of(admin(Writes::Closed)).await;
    assert_eq!(state["fixed"]["writes"], "closed");
    let settings = state["fixed"]["settings"].as_array().unwrap();
    let admin_token = settings.iter().find(|row| row[0] == "admin.token").unwrap();
    assert_eq!(admin_token[2], "default");
    assert!(settings.len() > 50);
    assert_eq!(state_of(admin(token())).await["fixed"]["writes"], "token");
}

#[tokio::test(start_paused = true)]
async fn seconds_become_points_and_lines_of_the_log() {
    let admin = admin(Writes::Closed);
    load(&admin, vec![limited("user", 4)]);
    let console = admin.console.clone();
    tokio::time::advance(SECOND).await;
    console.note_second();
    traffic(&admin, 10);
    tokio::time::advance(SECOND).await;
    console.note_second();
    let state = state_of(admin).await;
    assert_eq!(state["history"].as_array().map(Vec::len), Some(2));
    let point = &state["now"]["point"];
    assert_eq!((&point[1], &point[2], &point[5]), (&4.0.into(), &6.0.into(), &1.0.into()));
    let line = &state["now"]["fallbacks"][0];
    assert_eq!(
        (&line["rule"], &line["cause"], &line["answer"]),
        (&"shop.user".into(), &"timeout".into(), &"deny".into())
    );
}

#[tokio::test(start_paused = true)]
async fn events_begin_with_everything_and_go_on_each_second() {
    let admin = admin(Writes::Closed);
    let console = admin.console.clone();
    let keeping = tokio::spawn(console.clone().keep());
    let request = Request::get("/console/events").body(Body::empty()).unwrap();
    let response = admin_routes(admin).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || {
        let frame = timeout(Duration::from_secs(5), body.frame()).await.unwrap().unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    };
    let first = next().await;
    assert!(
        first.starts_with("event: state\nretry: 1000\ndata: {\"fixed\":") && first.ends_with("}\n\n"),
        "{first}"
    );
    for _ in 0..3 {
        let event = next().await;
        let data = event.strip_prefix("event: now\ndata: ").unwrap();
        let now: Value = serde_json::from_str(data.trim_end()).unwrap();
        assert!(now["rules"].is_object());
    }
    assert_eq!(console.news.receiver_count(), 1);
    drop(body);
    assert_eq!(console.news.receiver_count(), 0);
    keeping.abort();
}

#[tokio::test]
async fn the_number_of_viewers_is_bounded() {
    let admin = admin(Writes::Closed);
    let viewers: Vec<_> = (0..MOST_VIEWERS).map(|_| admin.console.news.subscribe()).collect();
    let (status, why) = ask(admin_routes(admin), Method::GET, "/console/events", None).await;
    assert_eq!(
        (status, why),
        (StatusCode::SERVICE_UNAVAILABLE, format!("{} viewers are here already\n", viewers.len()))
    );
}

#[tokio::test]
async fn every_file_is_served_with_a_strict_policy_and_names_no_other_place() {
    for file in &page::FILES {
        let request = Request::get(file.path).body(Body::empty()).unwrap();
        let response = admin_routes(admin(Writes::Closed)).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http:") && !text.contains("https:"), "{} names another place", file.path);
        assert!(
            !text.contains(" style=") && !text.contains(" onclick="),
            "{} has what the policy forbids",
            file.path
        );
        assert!(text.lines().count() <= 400, "{} is too long", file.path);
    }
}

#[tokio::test]
async fn a_breaker_is_forced_with_the_token_only() {
    for (writes, sent, expected) in [
        (Writes::Closed, Some("secret"), StatusCode::FORBIDDEN),
        (token(), None, StatusCode::UNAUTHORIZED),
        (token(), Some("guess"), StatusCode::UNAUTHORIZED),
    ] {
        let admin = admin(writes);
        let console = admin.console.clone();
        let (status, answer) = post(admin, sent, OPEN).await;
        assert_eq!(status, expected);
        assert!(answer["error"].as_str().is_some_and(|why| why.contains("token")), "{answer}");
        assert!(console.sources.breakers.own_circuits().0.is_empty());
    }
}

#[tokio::test]
async fn an_override_is_in_force_and_in_the_history_and_can_be_ended() {
    let admin = admin(token());
    let console = admin.console.clone();
    let (status, circuit) = post(admin, Some("secret"), OPEN).await;
    assert_eq!(
        (status, &circuit["target"], &circuit["state"]),
        (StatusCode::OK, &"bank".into(), &"forced_open".into())
    );
    assert_eq!(circuit["override"]["reason"], "drill");
    let (circuits, changes) = console.sources.breakers.own_circuits();
    assert_eq!(
        (circuits.len(), &changes[0]["to"], &changes[0]["target"]),
        (1, &"forced_open".into(), &"bank".into())
    );
}

#[tokio::test]
async fn a_wish_that_makes_no_sense_is_refused_with_the_reason() {
    for (from, to, expected) in [
        ("\"drill\"", "\" \"", "reason is empty"),
        ("60", "0", "ttl_seconds is 0, must be 1 to 604800"),
        (",\"ttl_seconds\":60", "", "ttl_seconds is missing"),
        ("\"shop\"", "\"\"", "namespace"),
        ("\"ann\"", "\"\"", "override.actor has 0 bytes"),
        ("forced_open", "ajar", "unknown variant `ajar`"),
        ("\"reason\"", "\"raison\"", "unknown field `raison`"),
    ] {
        let (status, answer) = post(admin(token()), Some("secret"), &OPEN.replace(from, to)).await;
        assert!(status.is_client_error(), "{to}: {status}");
        assert!(answer["error"].as_str().is_some_and(|why| why.contains(expected)), "{to}: {answer}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_cannot_force_anything() {
    let request = Request::post("/console/override").header(header::AUTHORIZATION, "Bearer secret");
    let request = request.header(header::CONTENT_TYPE, "text/plain").body(Body::from(OPEN)).unwrap();
    let response = admin_routes(admin(token())).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
