//! What is left when everything is dropped, and what there may be at most.

use super::*;

/// Tasks of this runtime.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_when_everything_is_dropped() {
    let server = FleetServer::start(settings()).unwrap();
    sleep(SECOND).await;
    let before = tasks();
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    until("the server speaks", SECOND, || led(&circuit)).await;
    assert!(tasks() > before && server.streams() == 1);
    drop(client);
    drop(circuit);
    sleep(3 * SECOND).await;
    assert_eq!(server.streams(), 1, "the breaker still needs the client");
    drop(breaker);
    until("the stream ends", SECOND, || server.streams() == 0).await;
    until("every task ends", SECOND, || tasks() == before).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_server_ends_too() {
    let server = FleetServer::start(settings()).unwrap();
    server.stop();
    let before = tasks();
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    sleep(20 * SECOND).await;
    assert!(tasks() > before && !client.stats().connected);
    drop((breaker, circuit, client));
    until("every task ends", SECOND, || tasks() == before).await;
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_nobody_uses_is_not_watched_any_more() {
    let server = FleetServer::start(settings()).unwrap();
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    until("the server speaks", SECOND, || led(&circuit)).await;
    sleep(3 * SECOND).await;
    drop(breaker);
    assert_eq!((client.circuits(), circuit.snapshot()), (0, None));
    until("the watch ends", SECOND, || server.heard().unwatched == 1).await;
    let (breaker, circuit) = trusting(&client);
    until("the server speaks again", SECOND, || led(&circuit)).await;
    breaker.try_acquire().unwrap().success();
    let counted = || server.circuit("demo", "backend").unwrap().totals.counts.success;
    until("its reports are not taken for old ones", 3 * SECOND, || counted() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn one_circuit_too_many_cannot_be_built() {
    let server = FleetServer::start(settings()).unwrap();
    let client = FleetClient::on(server.channel()).max_circuits(2).connect_lazy().unwrap();
    let build = |target: &str| {
        let circuit = FleetCircuit::of(&client).key("demo", target);
        CircuitBreaker::builder("x").fleet(circuit).build()
    };
    let first = build("1").unwrap();
    let _second = build("2").unwrap();
    let _same = build("2").unwrap();
    let why = build("3").unwrap_err().to_string();
    assert_eq!(why, "fleet client: circuits must be at most max_circuits, not 3");
    drop(first);
    build("3").unwrap();
    let why = build("").unwrap_err().to_string();
    assert_eq!(why, "fleet circuit: target must be 1 byte or more, not empty");
}
