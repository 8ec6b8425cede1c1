//! What makes no sense is refused with the name of its field, and what is not allowed with the reason.

use tollgate_proto::tollgate::v1::peers_client::PeersClient;
use tollgate_proto::tollgate::v1::{
    AcquireProbeRequest, CircuitKey, GetCircuitRequest, ListCircuitsRequest, OutcomeDelta, Override,
    ReportOutcomesRequest, SetOverrideRequest, SyncRequest,
};
use tonic::{Code, Request, Status};

use crate::client::{Api, Client, key, reporter};
use crate::world::{ADMIN, QUICK, SOON, Tollgate};

fn says(status: &Status, code: Code, words: &str) {
    assert!(status.code() == code && status.message().contains(words), "{words}: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_make_no_sense_are_named() {
    let server = Tollgate::start(QUICK, &[]);
    let mut api = Api::new(server.channel().await);
    let nobody = api.report_outcomes(ReportOutcomesRequest::default()).await.unwrap_err();
    says(&nobody, Code::InvalidArgument, "reporter is missing");
    let delta = OutcomeDelta { key: Some(key("")), sequence: 1, ..Default::default() };
    let request =
        ReportOutcomesRequest { reporter: Some(reporter("ann")), deltas: vec![delta], ..Default::default() };
    says(
        &api.report_outcomes(request).await.unwrap_err(),
        Code::InvalidArgument,
        "deltas[0].key.target is empty",
    );
    let request = AcquireProbeRequest { reporter: Some(reporter("ann")), key: None };
    says(&api.acquire_probe(request).await.unwrap_err(), Code::InvalidArgument, "key is missing");
    let long = CircuitKey { namespace: "x".repeat(600), ..key("t") };
    let request = GetCircuitRequest { key: Some(long) };
    says(&api.get_circuit(request).await.unwrap_err(), Code::InvalidArgument, "at most 512");
    let request = GetCircuitRequest { key: Some(key("unknown")) };
    says(&api.get_circuit(request).await.unwrap_err(), Code::NotFound, "nobody has reported on shop/unknown");
    let request = ListCircuitsRequest { page_size: 1_001, ..Default::default() };
    says(&api.list_circuits(request).await.unwrap_err(), Code::InvalidArgument, "page_size is 1001");
    let request = ListCircuitsRequest { page_token: "mine".into(), ..Default::default() };
    says(&api.list_circuits(request).await.unwrap_err(), Code::InvalidArgument, "page_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_reason_if_a_message_makes_no_sense() {
    let server = Tollgate::start(QUICK, &[]);
    let ends = async |request: SyncRequest| {
        let mut client = Client::connect(server.channel().await, "ann", "pay").await;
        client.say(request);
        client.try_next(SOON).await.unwrap_err()
    };
    let other = SyncRequest { reporter: Some(reporter("bob")), ..Default::default() };
    says(&ends(other).await, Code::InvalidArgument, "reporter is another one");
    let delta = OutcomeDelta { key: Some(key("pay")), sequence: 0, ..Default::default() };
    let zero = SyncRequest { deltas: vec![delta], ..Default::default() };
    says(&ends(zero).await, Code::InvalidArgument, "deltas[0].sequence is 0");
    let wrong = SyncRequest { watch: vec![CircuitKey::default()], ..Default::default() };
    says(&ends(wrong).await, Code::InvalidArgument, "watch[0].namespace is empty");
}

fn forcing(mode: i32) -> SetOverrideRequest {
    let force = Override { mode, ttl: None, actor: "ann".into(), reason: "drill".into() };
    SetOverrideRequest { key: Some(key("pay")), r#override: Some(force) }
}

fn with_token(request: SetOverrideRequest, token: &str) -> Request<SetOverrideRequest> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whoever_has_the_token_forces_circuits() {
    let server = Tollgate::start(QUICK, &[]);
    let mut api = Api::new(server.channel().await);
    let without = api.set_override(forcing(2)).await.unwrap_err();
    says(&without, Code::Unauthenticated, "authorization: Bearer");
    let wrong = api.set_override(with_token(forcing(2), "guess")).await.unwrap_err();
    says(&wrong, Code::Unauthenticated, "authorization: Bearer");
    let senseless = api.set_override(with_token(forcing(0), ADMIN)).await.unwrap_err();
    says(&senseless, Code::InvalidArgument, "override.mode is 0");

    let closed = Tollgate::start(QUICK, &[("TOLLGATE__ADMIN__TOKEN", "")]);
    let mut api = Api::new(closed.channel().await);
    let nobody = api.set_override(with_token(forcing(2), ADMIN)).await.unwrap_err();
    says(&nobody, Code::PermissionDenied, "admin.token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_servers_of_the_fleet_are_peers() {
    let alone = Tollgate::start(QUICK, &[]);
    let mut peers = PeersClient::new(alone.channel().await);
    for token in ["", "guess"] {
        let mut request = Request::new(GetCircuitRequest { key: Some(key("pay")) });
        request.metadata_mut().insert("x-tollgate-peer", token.parse().unwrap());
        says(&peers.get_own_circuit(request).await.unwrap_err(), Code::Unauthenticated, "peers.token");
    }
    let relay = peers.relay(futures_util::stream::pending()).await.unwrap_err();
    says(&relay, Code::Unauthenticated, "peers.token");
}
