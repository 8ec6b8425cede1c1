//! What people see and force.

use tollgate_proto::tollgate::v1::CircuitState::{Closed, Disabled, ForcedOpen, Open, Recovering};
use tollgate_proto::tollgate::v1::r#override::Mode;
use tollgate_proto::tollgate::v1::{
    Circuit, GetCircuitRequest, ListCircuitsRequest, Override, SetOverrideRequest,
};
use tonic::{Request, Status};

use crate::client::{Api, Client, crowd, key};
use crate::redis_world::eventually;
use crate::world::{ADMIN, QUICK, SOON, Tollgate};

pub async fn force(
    api: &mut Api,
    target: &str,
    mode: Mode,
    ttl_secs: Option<i64>,
) -> Result<Circuit, Status> {
    let ttl = ttl_secs.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    let force = Override { mode: mode.into(), ttl, actor: "ann".into(), reason: "drill".into() };
    let mut request = Request::new(SetOverrideRequest { key: Some(key(target)), r#override: Some(force) });
    request.metadata_mut().insert("authorization", format!("Bearer {ADMIN}").parse().unwrap());
    api.set_override(request).await.map(tonic::Response::into_inner)
}

pub async fn get(api: &mut Api, target: &str) -> Result<Circuit, Status> {
    api.get_circuit(GetCircuitRequest { key: Some(key(target)) }).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_is_forced_and_freed_and_all_clients_hear_of_it() {
    let server = Tollgate::start(QUICK, &[]);
    let mut clients = crowd(&server, 3, "pay").await;
    let mut api = Api::new(server.channel().await);
    let forced = force(&mut api, "pay", Mode::ForcedOpen, Some(3_600)).await.unwrap();
    assert_eq!(forced.state(), ForcedOpen);
    let told = forced.r#override.unwrap();
    assert_eq!((told.actor.as_str(), told.reason.as_str(), told.mode()), ("ann", "drill", Mode::ForcedOpen));
    assert!((3_590..=3_600).contains(&told.ttl.unwrap().seconds));
    for client in &mut clients {
        client.until_state(ForcedOpen).await;
    }
    eventually(SOON, "it is on record", || async {
        server.has_said(&["audit", "ForcedOpen", "ann", "drill", "shop/pay"])
    })
    .await;
    assert_eq!(force(&mut api, "pay", Mode::Disabled, None).await.unwrap().state(), Disabled);
    clients[0].until_state(Disabled).await;
    force(&mut api, "pay", Mode::ForcedOpen, None).await.unwrap();
    let freed = force(&mut api, "pay", Mode::None, None).await.unwrap();
    assert!(freed.state() == Recovering && freed.r#override.is_none(), "{freed:?}");
    clients[0].until_state(Closed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_ends_by_itself() {
    let server = Tollgate::start(QUICK, &[]);
    let mut client = Client::open(server.channel().await, "ann", "pay").await;
    let mut api = Api::new(server.channel().await);
    force(&mut api, "pay", Mode::ForcedOpen, Some(1)).await.unwrap();
    client.until_state(ForcedOpen).await;
    client.until_state(Recovering).await;
    assert!(get(&mut api, "pay").await.unwrap().r#override.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_only_tells_can_be_made_to_judge_for_a_while() {
    let mut settings = QUICK.to_vec();
    settings.retain(|(name, _)| *name != "MODE");
    let server = Tollgate::start(&settings, &[]);
    let mut clients = crowd(&server, 5, "pay").await;
    assert!(clients[0].last.metrics_only);
    let mut api = Api::new(server.channel().await);
    force(&mut api, "pay", Mode::Enforce, Some(3)).await.unwrap();
    for client in &mut clients {
        client.until("it is to be obeyed", |directive| !directive.metrics_only).await;
        client.report(0, 10);
    }
    let open = clients[0].until_state(Open).await;
    assert!(!open.metrics_only && open.admit == 0.0, "{open:?}");
    clients[0].until("it only tells again", |directive| directive.metrics_only).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn circuits_are_listed_page_by_page_in_the_order_of_their_keys() {
    let server = Tollgate::start(QUICK, &[]);
    let mut api = Api::new(server.channel().await);
    for number in 0..25 {
        force(&mut api, &format!("t{number:02}"), Mode::Disabled, None).await.unwrap();
    }
    let (mut seen, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListCircuitsRequest { namespace: "shop".into(), page_size: 10, page_token };
        let page = api.list_circuits(request).await.unwrap().into_inner();
        seen.extend(page.circuits.into_iter().map(|circuit| circuit.key.unwrap().target));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = (0..25).map(|number| format!("t{number:02}")).collect();
    assert_eq!((seen, pages), (expected, 3));
    let other = ListCircuitsRequest { namespace: "other".into(), ..Default::default() };
    assert!(api.list_circuits(other).await.unwrap().into_inner().circuits.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_shows_circuits() {
    let server = Tollgate::start(QUICK, &[]);
    let mut client = Client::open(server.channel().await, "ann", "pay").await;
    client.report(7, 3);
    eventually(SOON, "the page shows the calls", || async {
        let page: serde_json::Value = serde_json::from_str(&server.page("/circuits").await).unwrap();
        let seen = &page["circuits"][0];
        assert_eq!((&seen["target"], &seen["state"]), (&"pay".into(), &"closed".into()));
        (&seen["calls"], &seen["failures"]) == (&10.into(), &3.into())
    })
    .await;
    assert_eq!(server.metric("tollgate_breaker_circuits{state=\"closed\"}").await, 1.0);
    assert_eq!(server.metric("tollgate_breaker_streams").await, 1.0);
}
