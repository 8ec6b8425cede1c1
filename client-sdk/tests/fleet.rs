//! Fleet breakers against the circuits of the core behind real messages, mostly in paused time.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../examples/fleet.rs"]
#[allow(dead_code, reason = "its main and its output are not needed here")]
mod demo;

#[path = "fleet/drop.rs"]
mod dropped;
#[path = "fleet/many.rs"]
mod many;
#[path = "fleet/trouble.rs"]
mod trouble;
#[path = "fleet/unary.rs"]
mod unary;

use std::time::Duration;

use demo::server::FleetServer;
use demo::{Plan, settings};
use tokio::time::{Instant, sleep};
use tollgate_client::fleet::{FleetCircuit, FleetClient};
use tollgate_client::{CircuitBreaker, State};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Waits until `met`, at most for `bound`; how long it took.
async fn until(what: &str, bound: Duration, mut met: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        sleep(MS).await;
    }
    start.elapsed()
}

fn client(server: &FleetServer) -> FleetClient {
    FleetClient::on(server.channel()).connect_lazy().unwrap()
}

/// A breaker that never opens by its own evidence, and its circuit.
fn trusting(client: &FleetClient) -> (CircuitBreaker, FleetCircuit) {
    let circuit = FleetCircuit::of(client).key("demo", "backend");
    let builder = CircuitBreaker::builder("backend").consecutive_failures(None).minimum_calls(60_000);
    (builder.fleet(circuit.clone()).build().unwrap(), circuit)
}

fn state(circuit: &FleetCircuit) -> State {
    circuit.snapshot().unwrap().state
}

fn led(circuit: &FleetCircuit) -> bool {
    circuit.snapshot().is_some_and(|seen| seen.is_led())
}

#[tokio::test(start_paused = true)]
async fn a_fleet_opens_probes_ramps_and_closes() {
    let story = demo::run(Plan::DEMO, |_| {}).await.unwrap();
    assert!(story.admitted.is_sorted(), "the backend copes: {:?}", story.admitted);
    assert!(story.closed_after.unwrap() < 16 * SECOND, "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_told_within_fifty_milliseconds() {
    let server = FleetServer::start(settings()).unwrap();
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    until("the server speaks", SECOND, || led(&circuit)).await;
    sleep(5 * SECOND).await;
    breaker.try_acquire().unwrap().failure();
    let failures = || server.circuit("demo", "backend").unwrap().totals.counts.failure;
    let took = until("the failure arrives", SECOND, || failures() == 1).await;
    assert!(took <= 55 * MS, "{took:?}");
    breaker.try_acquire().unwrap().success();
    let successes = || server.circuit("demo", "backend").unwrap().totals.counts.success;
    let took = until("the success arrives", 2 * SECOND, || successes() == 1).await;
    assert!(took >= 100 * MS, "a success is in no hurry: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_for_a_server() {
    let server = FleetServer::start(settings()).unwrap();
    server.stop();
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    let start = Instant::now();
    for _ in 0..1_000 {
        breaker.call(async { Ok::<_, std::io::Error>(()) }).await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(!led(&circuit) && state(&circuit) == State::Closed);
    server.restart();
    until("the server speaks", 10 * SECOND, || led(&circuit)).await;
    let wanted = || {
        let totals = server.circuit("demo", "backend").unwrap().totals;
        totals.counts.success + totals.late.success
    };
    until("what was counted meanwhile arrives", 5 * SECOND, || wanted() == 1_000).await;
}

#[tokio::test(start_paused = true)]
async fn one_reporter_that_fails_alone_does_not_trip_the_fleet() {
    let server = FleetServer::start(settings()).unwrap();
    let clients: Vec<FleetClient> = (0..10).map(|_| client(&server)).collect();
    let joined: Vec<_> = clients.iter().map(trusting).collect();
    let own = CircuitBreaker::builder("own").consecutive_failures(5);
    let suspect = client(&server);
    let circuit = FleetCircuit::of(&suspect).key("demo", "backend");
    let own = own.fleet(circuit.clone()).build().unwrap();
    let (hostile, _) = trusting(&suspect);
    for _ in 0..400 {
        sleep(10 * MS).await;
        joined.iter().for_each(|(breaker, _)| breaker.try_acquire().unwrap().success());
        // ten times as many calls as anybody else, and all fail
        (0..10).for_each(|_| hostile.try_acquire().unwrap().failure());
        if let Ok(permit) = own.try_acquire() {
            permit.failure();
        }
    }
    let seen = server.circuit("demo", "backend").unwrap();
    assert!(seen.totals.counts.failure > seen.totals.counts.success / 2, "{:?}", seen.totals);
    assert!(joined.iter().all(|(_, circuit)| state(circuit) == State::Closed && led(circuit)));
    let blamed = circuit.ask_owner().await.unwrap();
    assert!(blamed.blames_us && blamed.local_faults == [suspect.reporter()], "{blamed:?}");
    assert!(!joined[0].1.ask_owner().await.unwrap().blames_us);
    assert!(circuit.snapshot().unwrap().local_fault, "its own breaker is open, the fleet's is not");
    assert!(!joined[0].1.snapshot().unwrap().local_fault);
}

#[tokio::test(start_paused = true)]
async fn breakers_with_one_key_share_a_circuit() {
    let server = FleetServer::start(settings()).unwrap();
    let client = client(&server);
    let ((one, circuit), (other, _)) = (trusting(&client), trusting(&client));
    assert_eq!(client.circuits(), 1);
    until("the server speaks", SECOND, || led(&circuit)).await;
    one.try_acquire().unwrap().success();
    other.try_acquire().unwrap().success();
    assert_eq!(circuit.snapshot().unwrap().counts.success, 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_told_of_each_state() {
    let server = FleetServer::start(settings()).unwrap();
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    let mut watch = circuit.subscribe().unwrap();
    until("the server speaks", SECOND, || led(&circuit)).await;
    for _ in 0..150 {
        sleep(10 * MS).await;
        if let Ok(permit) = breaker.try_acquire() {
            permit.failure();
        }
    }
    tokio::time::timeout(5 * SECOND, watch.wait_for(|state| *state == State::Open)).await.unwrap().unwrap();
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(refused.state, State::Open);
    assert!(refused.retry_after.unwrap() > Duration::ZERO);
    tokio::time::timeout(9 * SECOND, watch.wait_for(|state| *state == State::HalfOpen))
        .await
        .unwrap()
        .unwrap();
    drop((breaker, circuit));
    assert!(watch.wait_for(|state| *state == State::ForcedOpen).await.is_err(), "it ends with the breaker");
}
