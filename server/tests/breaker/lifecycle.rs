//! A circuit from closed to closed, as clients on their streams see it.

use tollgate_proto::tollgate::v1::CircuitState::{Closed, HalfOpen, Open, Recovering};
use tollgate_proto::tollgate::v1::{
    AcquireProbeRequest, GetCircuitRequest, OutcomeDelta, ReportOutcomesRequest, SyncRequest,
};

use crate::client::{Api, Client, crowd, fail, key, reporter};
use crate::redis_world::eventually;
use crate::world::{QUICK, SOON, Tollgate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_opens_is_probed_ramps_up_and_closes() {
    let server = Tollgate::start(QUICK, &[]);
    let mut clients = crowd(&server, 6, "pay").await;
    assert!(clients.iter().all(|client| client.last.state() == Closed && !client.last.metrics_only));
    fail(&mut clients).await;
    let open = clients[0].last.clone();
    assert!(open.reason.contains("of 6 reporters see it"), "{}", open.reason);
    assert!(open.probe_in.is_some() && open.lease.unwrap().seconds == 10);

    let mut holders = 0;
    let mut permits = 0;
    for client in &mut clients {
        client.until_state(HalfOpen).await;
    }
    // the directive with permits may be a later one than that of the state
    for client in &mut clients {
        let held = client.probe();
        (holders, permits) = (holders + usize::from(held > 0), permits + held);
    }
    assert!(permits <= 4 && holders >= permits.div_ceil(2), "{permits} permits for {holders} clients");
    while permits < 3 {
        for client in &mut clients {
            client.report(0, 0);
            client.next().await;
            permits += client.probe();
        }
    }
    for client in &mut clients {
        client.until_state(Recovering).await;
        assert!(client.last.admit >= 0.5, "{}", client.last.admit);
    }
    clients[0].until("all calls pass", |directive| directive.admit == 1.0).await;
    for client in &mut clients {
        client.until_state(Closed).await;
        client.report(10, 0);
    }
    let changes = server.page("/metrics").await;
    for change in [
        "from=\"closed\",reason=\"",
        "from=\"open\",reason=\"wait_over\",to=\"half_open\"",
        "from=\"half_open\",reason=\"probes_passed\",to=\"recovering\"",
        "from=\"recovering\",reason=\"recovered\",to=\"closed\"",
    ] {
        assert!(changes.contains(change), "{change} is not in\n{changes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_only_tells_holds_nobody_back() {
    let quick = QUICK.iter().copied().filter(|(name, _)| *name != "MODE").collect::<Vec<_>>();
    let server = Tollgate::start(&quick, &[]);
    let mut clients = crowd(&server, 6, "pay").await;
    assert!(clients[0].last.metrics_only && clients[0].last.state() == Closed);
    for client in &mut clients {
        client.report(0, 10);
    }
    let told = clients[0].until_state(Open).await;
    assert!(told.metrics_only && told.admit == 1.0 && told.permits.is_empty(), "{told:?}");
    while clients[0].last.state() != Closed {
        // it is judged by what comes in
        clients[0].report(1, 0);
        clients[0].next().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_alone_opens_nothing_and_is_named() {
    let server = Tollgate::start(QUICK, &[]);
    let mut clients = crowd(&server, 6, "pay").await;
    for client in &mut clients[1..] {
        client.report(20, 0);
    }
    let mut api = Api::new(server.channel().await);
    // before the others have reported, the one is all that there is
    eventually(SOON, "the others are counted", || {
        let mut api = api.clone();
        async move {
            let seen = api.get_circuit(GetCircuitRequest { key: Some(key("pay")) }).await;
            seen.is_ok_and(|seen| seen.get_ref().calls == 100)
        }
    })
    .await;
    clients[0].report(0, 500);
    eventually(SOON, "the fault is found to be local", || {
        let mut api = api.clone();
        async move {
            let seen =
                api.get_circuit(GetCircuitRequest { key: Some(key("pay")) }).await.unwrap().into_inner();
            assert_eq!(seen.state(), Closed);
            seen.local_faults == [b"client 0".to_vec()]
        }
    })
    .await;
    let seen = api.get_circuit(GetCircuitRequest { key: Some(key("pay")) }).await.unwrap().into_inner();
    assert_eq!(seen.reporters, 6, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_that_comes_again_counts_once() {
    let server = Tollgate::start(QUICK, &[]);
    let mut client = Client::open(server.channel().await, "ann", "pay").await;
    let delta = client.delta(3, 0);
    for _ in 0..5 {
        client.say(SyncRequest { deltas: vec![delta.clone()], ..Default::default() });
        client.until("an answer", |directive| directive.acknowledged == 1).await;
    }
    eventually(SOON, "four were duplicates", || async {
        server.metric("tollgate_breaker_duplicates_total").await == 4.0
    })
    .await;
    let mut api = Api::new(server.channel().await);
    let seen = api.get_circuit(GetCircuitRequest { key: Some(key("pay")) }).await.unwrap().into_inner();
    assert_eq!(seen.calls, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_stream_asks_call_by_call() {
    let mut settings = QUICK.to_vec();
    settings.retain(|(name, _)| *name != "DEFAULTS__ADOPT_FOR");
    settings.push(("DEFAULTS__ADOPT_FOR", "0s"));
    let server = Tollgate::start(&settings, &[]);
    let mut api = Api::new(server.channel().await);
    let report = |sequence, epoch, failure| {
        let delta = OutcomeDelta { key: Some(key("pay")), sequence, epoch, failure, ..Default::default() };
        ReportOutcomesRequest { reporter: Some(reporter("ann")), deltas: vec![delta], claims: vec![] }
    };
    let first = api.report_outcomes(report(1, None, 0)).await.unwrap().into_inner().directives;
    assert_eq!((first.len(), first[0].state()), (1, Closed));
    let second = api.report_outcomes(report(2, first[0].epoch, 50)).await.unwrap().into_inner().directives;
    assert_eq!((second[0].state(), second[0].acknowledged), (Open, 2), "one of one reporter is enough");
    let ask = AcquireProbeRequest { reporter: Some(reporter("ann")), key: Some(key("pay")) };
    let refused = api.acquire_probe(ask.clone()).await.unwrap().into_inner().directive.unwrap();
    assert!(refused.state() == Open && refused.permits.is_empty());
    eventually(SOON, "a permit", || {
        let (mut api, ask) = (api.clone(), ask.clone());
        async move {
            let directive = api.acquire_probe(ask).await.unwrap().into_inner().directive.unwrap();
            directive.state() == HalfOpen && directive.permits.len() == 1
        }
    })
    .await;
}
