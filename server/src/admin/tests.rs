use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use serde_json::Value;
use tollgate_core::limit::{FixedWindow, Limit, Refused, Window};
use tollgate_core::rules::{Defaults, DescriptorSpec, DomainSpec, Hit, Matcher, Quota, RuleSpec, Unit};
use tollgate_core::time::{Span, Time};
use tower::ServiceExt as _;

use super::*;
use crate::breaker::{BreakerOptions, Breakers, Member, Policy};
use crate::clock::ManualClock;
use crate::config::ruleset::Ruleset;
use crate::config::settings::{self, Effective, Log};
use crate::fallback::{Fallback, Servers};
use crate::store::{Charging, Clearing, Forgetting, Replies, Usage};
use crate::telemetry::log;
use crate::telemetry::metrics::{ConnectionKind, MetricOptions};

struct NoStore;

impl Store for NoStore {
    fn charge<'a>(&'a self, _: crate::store::Request<'a>) -> Charging<'a> {
        Box::pin(std::future::ready(Replies::new()))
    }

    fn forget<'a>(&'a self, _: &'a [Hit<'a>], _: Time) -> Forgetting<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear(&self) -> Clearing<'_> {
        Box::pin(std::future::ready(Ok(7)))
    }

    fn usage(&self) -> Usage {
        Usage { keys: 7, ..Usage::default() }
    }
}

pub(super) fn admin(writes: Writes) -> Admin {
    let metrics = Arc::new(Metrics::new(MetricOptions {
        near_limit_ratio: 0.8,
        reference_names: false,
        stripes: 1,
        response_time_as_milliseconds: false,
    }));
    let store: Arc<dyn Store> = Arc::new(NoStore);
    let config: Arc<ConfigState> = Arc::default();
    let engine = Engine::new(
        store.clone(),
        Arc::new(Fallback::new(Servers::new(1))),
        Arc::new(ManualClock::default()),
        metrics.clone(),
    );
    let log = log::init(&Log::default());
    let circuits: CircuitsPage = Arc::new(|| Value::Array(Vec::new()));
    let engine = Arc::new(engine);
    let sources = ConsoleSources {
        engine: engine.clone(),
        metrics: metrics.clone(),
        config: config.clone(),
        store: store.clone(),
        breakers: breakers(writes.clone()),
    };
    let (settings, origins) = Default::default();
    let console = Console::new(sources, &Effective { settings, origins, warnings: Vec::new() }).unwrap();
    Admin { engine, metrics, config, log, store, circuits, console, writes }
}

fn breakers(writes: Writes) -> Arc<Breakers> {
    let options = BreakerOptions {
        policy: Policy::new(settings::Breaker::default().compile().unwrap()).unwrap(),
        max_circuits: 10,
        max_keys_per_client: 10,
        writes,
        token: String::new(),
        me: Member { name: "alone".into(), incarnation: 1, address: String::new() },
        store: None,
        tls: None,
    };
    Breakers::new(options, &ManualClock::at(Time::from_micros(1_000_000_000_000))).unwrap()
}

pub(super) fn limited(key: &str, requests_per_unit: u32) -> DescriptorSpec {
    let window = Window::Epoch(Span::from_secs(3_600));
    let limit = FixedWindow::new(requests_per_unit.into(), window, Refused::Counts).unwrap();
    let rule = RuleSpec {
        limit: Some(Limit::FixedWindow(limit)),
        quota: Quota { requests_per_unit, unit: Unit::Hour, multiplier: 1 },
        name: String::new(),
        replaces: Vec::new(),
        on_failure: Default::default(),
        accuracy: Default::default(),
        max_hold: Span::ZERO,
    };
    DescriptorSpec { key: key.into(), rule: Some(rule), ..DescriptorSpec::default() }
}

pub(super) fn load(admin: &Admin, descriptors: Vec<DescriptorSpec>) {
    let spec = DomainSpec { name: "shop".into(), descriptors, ..DomainSpec::default() };
    let matcher = Matcher::build(vec![spec], Defaults::default()).unwrap();
    admin.engine.use_rules(Arc::new(Ruleset::new(matcher, &admin.metrics)));
}

pub(super) async fn ask(
    router: Router,
    method: Method,
    path: &str,
    token: Option<&str>,
) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get_text(admin: Admin, path: &str) -> (StatusCode, String) {
    ask(routes(admin), Method::GET, path, None).await
}

#[tokio::test]
async fn the_root_lists_every_endpoint_and_each_of_them_answers() {
    let (status, list) = get_text(admin(Writes::Closed), "/").await;
    assert_eq!(status, StatusCode::OK);
    for line in list.lines() {
        let (path, help) = line.split_once(": ").unwrap();
        let expected =
            if help.starts_with("POST ") { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::OK };
        assert_eq!(get_text(admin(Writes::Closed), path).await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn the_store_is_cleared_by_whoever_has_the_token() {
    let clear = async |token| {
        let admin = admin(Writes::Token("secret".into()));
        ask(routes(admin), Method::POST, "/store/clear", token).await
    };
    assert_eq!(clear(None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(clear(Some("wrong")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(clear(Some("secret")).await, (StatusCode::OK, "7 keys cleared\n".to_owned()));
}

#[tokio::test]
async fn an_unknown_path_is_not_found_and_gets_the_list() {
    let (status, list) = get_text(admin(Writes::Closed), "/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(list.contains("/rlconfig: "));
}

#[tokio::test]
async fn rlconfig_is_empty_without_rules_and_sorted_with_them() {
    assert_eq!(get_text(admin(Writes::Closed), "/rlconfig").await, (StatusCode::OK, String::new()));
    let admin = admin(Writes::Closed);
    load(&admin, vec![limited("z", 2), limited("a", 1)]);
    let expected = "shop.a: unit=HOUR requests_per_unit=1, shadow_mode: false, quota_mode: false\n\
                    shop.z: unit=HOUR requests_per_unit=2, shadow_mode: false, quota_mode: false\n";
    assert_eq!(get_text(admin, "/rlconfig").await.1, expected);
}

#[tokio::test]
async fn stats_tell_the_state_of_the_server() {
    let admin = admin(Writes::Closed);
    load(&admin, vec![limited("a", 1)]);
    let _open = admin.metrics.connected(ConnectionKind::Grpc);
    let (_, text) = get_text(admin, "/stats").await;
    let stats: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stats["rules"], serde_json::json!({ "domains": ["shop"], "rules": 1 }));
    assert_eq!(stats["store"]["keys"], 7);
    assert_eq!(stats["connections"]["grpc"], 1);
    assert_eq!(stats["config"]["last_load_ok"], false);
}

#[tokio::test]
async fn the_metrics_page_is_on_its_own_port_too() {
    let router = metrics_routes(admin(Writes::Closed).metrics, "/own");
    let (status, page) = ask(router.clone(), Method::GET, "/own", None).await;
    assert!(status == StatusCode::OK && page.contains("tollgate_build_info"));
    assert_eq!(ask(router, Method::GET, "/stats", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_log_level_changes_only_with_permission() {
    let path = "/log?level=loud";
    let change = async |writes, token| ask(routes(admin(writes)), Method::PUT, path, token).await;
    // a level that is none: whoever may change it is told so, and nothing changes
    let (status, why) = change(Writes::Token("secret".into()), Some("secret")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(why.contains("'loud' is no level"), "{why}");
    let token = || Writes::Token("secret".into());
    assert_eq!(change(token(), Some("secret")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(change(token(), Some("guess")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(change(token(), None).await.0, StatusCode::FORBIDDEN);
    let (status, why) = change(Writes::Closed, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(why.contains("admin.token"), "{why}");
}

#[tokio::test]
async fn a_change_of_the_log_level_is_answered_with_the_new_one() {
    let (status, _level) =
        ask(routes(admin(Writes::Token("secret".into()))), Method::PUT, "/log?level=info", Some("secret"))
            .await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_change_of_the_log_level_needs_one() {
    let router = routes(admin(Writes::Token("secret".into())));
    assert_eq!(ask(router.clone(), Method::POST, "/log", Some("secret")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(router, Method::GET, "/log", None).await.0, StatusCode::OK);
}
