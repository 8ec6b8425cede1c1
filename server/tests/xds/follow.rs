//! Rules over a stream.

use prost_types::Any;
use tollgate_proto::envoy::config::core::v3::node::UserAgentVersionType;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tollgate_proto::ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitPolicy, RateLimitReplace};
use tollgate_server::xds::TYPE_URL;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::management::{Management, config, descriptor, response};
use crate::world::{Server, soon};

const DAY: i32 = 4;

#[tokio::test]
async fn the_first_rules_make_the_server_ready_and_each_version_replaces_the_one_before() {
    let mut management = Management::start().await;
    let variables = [
        ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "zone=a,rack=7"),
        ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "x-token:s3,X-Team:limits"),
    ];
    let server = Server::start(&management.address.to_string(), &variables).await;
    let (mut call, first) = management.call().await;
    let node = first.node.clone().unwrap();
    assert_eq!(node.id, "envoy-ratelimit");
    assert!(matches!(node.user_agent_version_type, Some(UserAgentVersionType::UserAgentVersion(_))));
    let metadata = node.metadata.unwrap().fields;
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["rack", "zone"]);
    assert_eq!((&*first.type_url, &*first.version_info, &*first.response_nonce), (TYPE_URL, "", ""));
    assert!(first.resource_names.is_empty() && first.error_detail.is_none());
    assert_eq!(call.headers.get("x-token").unwrap(), "s3");
    assert_eq!(call.headers.get("x-team").unwrap(), "limits");

    assert_eq!(server.health().await, ServingStatus::NotServing);
    assert!(server.http("/healthcheck").await.starts_with("HTTP/1.1 500"));
    let error = server.asks("shop", "user", "ann").await.unwrap_err();
    assert_eq!(error.message(), "no rate limit configuration loaded");

    let ack = call.sends("1", &[config("shop", DAY, 1), config("bank", DAY, 1)]).await;
    assert_eq!((&*ack.version_info, &*ack.response_nonce), ("1", "n-1"));
    assert!(ack.error_detail.is_none());
    assert_eq!(server.health().await, ServingStatus::Serving);
    assert!(server.http("/healthcheck").await.starts_with("HTTP/1.1 200"));
    for domain in ["shop", "bank"] {
        assert_eq!(server.asks(domain, "user", "ann").await.unwrap(), Code::Ok);
        assert_eq!(server.asks(domain, "user", "ann").await.unwrap(), Code::OverLimit);
    }

    let ack = call.sends("2", &[config("shop", DAY, 100)]).await;
    assert_eq!((&*ack.version_info, ack.error_detail), ("2", None));
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::Ok);
    assert_eq!(server.asks("bank", "user", "ann").await.unwrap(), Code::Ok, "bank has no rules any more");

    let ack = call.sends("3", &[]).await;
    assert_eq!((&*ack.version_info, ack.error_detail), ("3", None));
    assert_eq!(server.health().await, ServingStatus::Serving);
    let page = server.metrics().await;
    assert!(page.contains("tollgate_xds_connected 1"), "{page}");
    assert!(page.contains("tollgate_xds_responses_total{result=\"ack\"} 3"), "{page}");
    assert!(page.contains("tollgate_xds_in_force{version=\"3\"} 1"), "{page}");
    assert!(!page.contains("tollgate_xds_in_force{version=\"1\"}"), "{page}");
}

#[tokio::test]
async fn bad_rules_are_refused_with_every_error_and_the_old_ones_stay() {
    let mut management = Management::start().await;
    let server = Server::start(&management.address.to_string(), &[]).await;
    let (mut call, _) = management.call().await;
    call.sends("1", &[config("shop", DAY, 1)]).await;

    let mut bad = config("shop", 42, 1);
    bad.descriptors.push(descriptor("", "", None, Vec::new()));
    let nack = call.sends("2", &[bad, config("bank", 0, 1)]).await;
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("1", "n-2"));
    let detail = nack.error_detail.unwrap();
    assert_eq!(detail.code, 3);
    for says in [
        "of-shop: invalid rate limit unit '42' (at shop: descriptors[0].rate_limit",
        "of-shop: descriptor has empty key (at shop: descriptors[1]",
        "of-bank: invalid rate limit unit 'UNKNOWN' (at bank: descriptors[0].rate_limit",
    ] {
        assert!(detail.message.contains(says), "{}", detail.message);
    }
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::Ok);
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::OverLimit);

    // a version that was refused is never said to be in force
    drop(call);
    let (mut call, first) = management.call().await;
    assert_eq!((&*first.version_info, &*first.response_nonce), ("1", ""));
    assert!(first.node.is_some() && first.error_detail.is_none());
    let page = server.metrics().await;
    assert!(page.contains("tollgate_xds_responses_total{result=\"nack\"} 1"), "{page}");
    let ack = call.sends("3", &[config("shop", DAY, 100)]).await;
    assert_eq!((&*ack.version_info, ack.error_detail), ("3", None));
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn resources_of_other_types_are_refused() {
    let mut management = Management::start().await;
    let _server = Server::start(&management.address.to_string(), &[]).await;
    let (mut call, _) = management.call().await;
    let other = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

    let mut wrong = response("1", &[config("shop", DAY, 1)]);
    wrong.resources.push(Any { type_url: other.into(), value: Vec::new() });
    wrong.resources.push(Any { type_url: TYPE_URL.into(), value: vec![0xff] });
    let nack = call.sends_raw(wrong).await;
    let detail = nack.error_detail.unwrap().message;
    assert!(detail.contains(&format!("resources[1]: its type is {other:?}")), "{detail}");
    assert!(detail.contains("resources[2]: "), "{detail}");

    let mut wrong = response("2", &[]);
    wrong.type_url = other.into();
    let nack = call.sends_raw(wrong).await;
    assert_eq!((&*nack.type_url, &*nack.version_info, &*nack.response_nonce), (other, "", "n-2"));
    assert!(nack.error_detail.unwrap().message.contains("were not asked for"));
}

#[tokio::test]
async fn a_server_that_comes_late_or_goes_away_is_found_again() {
    let management = Management::start().await;
    let address = management.address.to_string();
    drop(management);
    let server = Server::start(&address, &[]).await;
    assert_eq!(server.health().await, ServingStatus::NotServing);

    let mut management = Management::at(&address).await;
    let (mut call, _) = management.call().await;
    call.sends("7", &[config("shop", DAY, 1)]).await;
    assert_eq!(server.health().await, ServingStatus::Serving);
    drop(call);
    let (call, first) = management.call().await;
    assert_eq!((&*first.version_info, &*first.response_nonce), ("7", ""));
    assert_eq!(server.health().await, ServingStatus::Serving);

    // SIGHUP opens a new stream at once
    server.reload.send(()).await.unwrap();
    let (_call, first) = management.call().await;
    assert_eq!(&*first.version_info, "7");
    drop(call);
}

#[tokio::test]
async fn a_forced_start_is_ready_and_lets_everything_pass() {
    let mut management = Management::start().await;
    let variables = [("FORCE_START_WITHOUT_INITIAL_CONFIG", "true")];
    let server = Server::start(&management.address.to_string(), &variables).await;
    let (mut call, _) = management.call().await;
    assert_eq!(server.health().await, ServingStatus::Serving);
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::Ok);
    call.sends("1", &[config("shop", DAY, 0)]).await;
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::OverLimit);
}

#[tokio::test]
async fn a_response_that_is_too_large_ends_the_stream_and_a_large_one_does_not() {
    let mut management = Management::start().await;
    let variables = [("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "8388608")];
    let server = Server::start(&management.address.to_string(), &variables).await;
    let (mut call, _) = management.call().await;
    let mut large = config("shop", DAY, 1);
    let filler = "x".repeat(1000);
    large.descriptors.extend((0..5000).map(|n| descriptor("k", &format!("{n}{filler}"), None, Vec::new())));
    let ack = call.sends("1", std::slice::from_ref(&large)).await;
    assert_eq!((&*ack.version_info, ack.error_detail), ("1", None));
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::Ok);
    large.descriptors[1].value = "y".repeat(8 << 20);
    call.say.send(Ok(response("2", &[large]))).await.unwrap();
    let (_call, first) = management.call().await;
    assert_eq!(&*first.version_info, "1");
    soon(async { while !server.metrics().await.contains("tollgate_xds_connected 1") {} }).await;
}

#[tokio::test]
async fn everything_that_the_protocol_can_say_is_read() {
    let mut management = Management::start().await;
    let server = Server::start(&management.address.to_string(), &[]).await;
    let (mut call, _) = management.call().await;
    let named = |name: &str, requests| RateLimitPolicy {
        unit: DAY,
        requests_per_unit: requests,
        name: name.into(),
        ..RateLimitPolicy::default()
    };
    let free = RateLimitPolicy { unlimited: true, ..RateLimitPolicy::default() };
    let odd = "a\"b\\c\u{7f}\u{85}\u{2028}\u{1f600}: #";
    let mut shadow = descriptor("watched", "", Some(named("", 0)), Vec::new());
    (shadow.shadow_mode, shadow.detailed_metric) = (true, true);
    let mut replacing = named("two", 5);
    replacing.replaces = vec![RateLimitReplace { name: "one".into() }];
    let numbers = [("big", 1e300), ("small", 1e-7), ("whole", 3.0)];
    let value = |number| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number)) };
    let mut third = descriptor("third", odd, Some(replacing), Vec::new());
    third.metadata = Some(prost_types::Struct {
        fields: numbers.into_iter().map(|(name, number)| (name.to_owned(), value(number))).collect(),
    });
    let domain = RateLimitConfig {
        name: String::new(),
        domain: "all".into(),
        descriptors: vec![
            descriptor("free", "", Some(free), Vec::new()),
            descriptor("any", "pre*", Some(named("one", 0)), Vec::new()),
            shadow,
            third,
            descriptor("odd", odd, Some(named("", 0)), Vec::new()),
        ],
    };
    let ack = call.sends("1", std::slice::from_ref(&domain)).await;
    assert_eq!(ack.error_detail, None);
    for (key, value, code) in [
        ("free", "x", Code::Ok),
        ("any", "prefix", Code::OverLimit),
        ("any", "other", Code::Ok),
        ("watched", "x", Code::Ok),
        ("odd", odd, Code::OverLimit),
        ("odd", "x", Code::Ok),
    ] {
        assert_eq!(server.asks("all", key, value).await.unwrap(), code, "{key}={value}");
    }
    // a resource without a name is named by its place
    let nack = call.sends("2", &[RateLimitConfig { domain: String::new(), ..domain }]).await;
    let detail = nack.error_detail.unwrap().message;
    assert!(detail.starts_with("resources[0]: config file cannot have empty domain"), "{detail}");
}
