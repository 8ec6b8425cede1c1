//! Domains that are bound to identities, on every way in.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_stream::once;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::admin_client::AdminClient;
use tollgate_proto::tollgate::v1::circuit_breakers_client::CircuitBreakersClient;
use tollgate_proto::tollgate::v1::rate_limiter_client::RateLimiterClient;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::certificates::Files;
use crate::world::{Tollgate, asks, clear, dial, http, secure, set};

const IDENTITIES: &str = r#"[
    {"identity": "spiffe://mesh/ns/shop/*", "domains": ["example"]},
    {"identity": "bank.example", "domains": ["bank*"]},
    {"token": "the-bank-token", "domains": ["bank*"]}
]"#;

fn descriptors() -> Vec<wire::Descriptor> {
    let entry = wire::Entry { key: "user".into(), value: "ann".into() };
    vec![wire::Descriptor { entries: vec![entry], cost: None }]
}

fn check(domain: &str) -> wire::CheckRequest {
    wire::CheckRequest { domain: domain.into(), descriptors: descriptors(), ..Default::default() }
}

/// What each gRPC way in answers to a question about `domain`, by its name.
async fn answers(channel: &Channel, domain: &str) -> Vec<(&'static str, Code)> {
    let code = |status: Result<(), Status>| status.err().map_or(Code::Ok, |status| status.code());
    let mut limiter = RateLimiterClient::new(channel.clone());
    let mut found = vec![("ShouldRateLimit", code(asks(channel, domain).await.map(drop)))];
    found.push(("Check", code(limiter.check(check(domain)).await.map(drop))));
    let lease = wire::LeaseRequest {
        domain: domain.into(),
        descriptors: descriptors(),
        tokens: 1,
        ..Default::default()
    };
    found.push(("Lease", code(limiter.lease(lease).await.map(drop))));
    let back = wire::ReturnLeaseRequest {
        domain: domain.into(),
        descriptors: descriptors(),
        lease: Some(wire::LeaseReturn::default()),
    };
    found.push(("ReturnLease", code(limiter.return_lease(back).await.map(drop))));
    found.push(("CheckStream", streamed(&mut limiter, domain).await));
    found
}

/// The answer of one item in a stream.
async fn streamed(limiter: &mut RateLimiterClient<Channel>, domain: &str) -> Code {
    let item = wire::CheckItem { id: 7, check: Some(check(domain)) };
    let asked = once(wire::CheckStreamRequest { items: vec![item] });
    let mut answers = limiter.check_stream(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().answers.remove(0);
    assert_eq!(answer.id, 7);
    match answer.answer.unwrap() {
        wire::check_answer::Answer::Decision(_) => Code::Ok,
        wire::check_answer::Answer::Error(error) => Code::from(error.code),
    }
}

/// The status of each HTTP way in.
async fn statuses(server: &Tollgate, config: &Arc<ClientConfig>, domain: &str) -> [u16; 3] {
    let body =
        format!(r#"{{"domain":"{domain}","descriptors":[{{"entries":[{{"key":"other","value":"ann"}}]}}]}}"#);
    let mut found = [0; 3];
    for (found, line) in
        found.iter_mut().zip(["POST /json", "POST /v1/check", &format!("GET /auth/{domain}")])
    {
        let stream = dial(server.http, config.clone()).await.unwrap();
        *found = http(stream, line, "", &body).await.0;
    }
    found
}

fn bound(files: &Files) -> Tollgate {
    let mut settings = [files.mutual("GRPC", "optional"), files.mutual("HTTP", "optional")].concat();
    settings.push(set("ACCESS__IDENTITIES", IDENTITIES));
    Tollgate::start(&settings)
}

#[tokio::test]
async fn one_tenant_reaches_no_others_domain_by_any_way_in() {
    let files = Files::new();
    let server = bound(&files);
    let (shop, bank) =
        (files.client_named(&["spiffe://mesh/ns/shop/web"]), files.client_named(&["bank.example"]));
    for (config, own, foreign) in [(&shop, "example", "bank"), (&bank, "bank1", "example")] {
        let channel = secure(server.grpc, config).await.unwrap();
        for (way, code) in answers(&channel, own).await {
            assert_eq!(code, Code::Ok, "{way} about {own}");
        }
        for domain in [foreign, "", "Example"] {
            let refused = answers(&channel, domain).await;
            assert!(
                refused.iter().all(|(_, code)| *code == Code::PermissionDenied),
                "{domain:?}: {refused:?}"
            );
        }
        assert_eq!(statuses(&server, config, own).await, [200; 3]);
        assert_eq!(statuses(&server, config, foreign).await, [403; 3]);
    }
    assert_eq!(server.metric("tollgate_requests_total{api=\"rls\",result=\"forbidden\"}").await, 6);
    assert!(server.metric("tollgate_requests_total{api=\"check_stream\",result=\"forbidden\"}").await >= 6);
}

#[tokio::test]
async fn who_is_nobody_reaches_nothing_but_health() {
    let files = Files::new();
    let server = bound(&files);
    for config in
        [files.client(), files.client_named(&["evil.example"]), files.client_named(&["xbank.example"])]
    {
        let channel = secure(server.grpc, &config).await.unwrap();
        for (way, code) in answers(&channel, "example").await {
            assert_eq!(code, Code::PermissionDenied, "{way}");
        }
        let mut circuits = CircuitBreakersClient::new(channel.clone());
        let listed = circuits.list_circuits(wire::ListCircuitsRequest::default()).await;
        assert_eq!(listed.unwrap_err().code(), Code::PermissionDenied);
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
        assert_eq!(statuses(&server, &config, "bank").await, [403; 3]);
    }
    let stream = dial(server.http, files.client()).await.unwrap();
    assert_eq!(http(stream, "GET /healthcheck", "", "").await.0, 200);
}

#[tokio::test]
async fn circuits_are_for_whoever_has_an_identity() {
    let files = Files::new();
    let server = bound(&files);
    let channel = secure(server.grpc, &files.client_named(&["bank.example"])).await.unwrap();
    let mut circuits = CircuitBreakersClient::new(channel);
    circuits.list_circuits(wire::ListCircuitsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_token_is_an_identity_too() {
    let files = Files::new();
    let identities = r#"[{"token": "the-bank-token", "domains": ["bank*"]}]"#;
    let server = Tollgate::start(&[set("ACCESS__IDENTITIES", identities)]);
    drop(files);
    let channel = clear(server.grpc).await;
    let with = |token: &'static str| {
        let show = move |mut request: Request<()>| {
            request.metadata_mut().insert("authorization", MetadataValue::from_static(token));
            Ok(request)
        };
        RateLimiterClient::new(InterceptedService::new(channel.clone(), show))
    };
    with("Bearer the-bank-token").check(check("bank")).await.unwrap();
    for (token, domain) in
        [("Bearer the-bank-token", "example"), ("Bearer the-bank-toke", "bank"), ("x", "bank")]
    {
        let refused = with(token).check(check(domain)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{token} {domain}");
    }
    let get = async |headers: &str| {
        let stream = TcpStream::connect(server.http).await.unwrap();
        http(stream, "GET /auth/bank", headers, "").await.0
    };
    assert_eq!(get("authorization: Bearer the-bank-token\r\n").await, 200);
    assert_eq!(get("").await, 403);
    assert_eq!(get("authorization: Bearer other\r\n").await, 403);
}

#[tokio::test]
async fn a_tenant_is_no_operator() {
    let files = Files::new();
    let server = bound(&files);
    let channel = secure(server.grpc, &files.client_named(&["bank.example"])).await.unwrap();
    let request = wire::ReadKeyRequest { domain: "bank".into(), descriptors: descriptors() };
    let refused = AdminClient::new(channel).read_key(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn while_nothing_is_bound_everybody_may_ask_about_everything() {
    let files = Files::new();
    let server = Tollgate::start(&files.mutual("GRPC", "optional"));
    for config in [files.client(), files.client_named(&["x"])] {
        let channel = secure(server.grpc, &config).await.unwrap();
        for (way, code) in answers(&channel, "example").await {
            assert_eq!(code, Code::Ok, "{way}");
        }
    }
}
