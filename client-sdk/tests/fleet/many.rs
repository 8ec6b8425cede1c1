//! Ten thousand circuits in one client.

use super::*;

fn breakers(client: &FleetClient, circuits: usize) -> Vec<CircuitBreaker> {
    let build = |number: usize| {
        let circuit = FleetCircuit::of(client).key("demo", format!("target-{number}"));
        CircuitBreaker::builder("many").fleet(circuit).build().unwrap()
    };
    (0..circuits).map(build).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_circuits_greet_and_then_rest() {
    let server = FleetServer::start(settings()).unwrap();
    let client = client(&server);
    let all = breakers(&client, 10_000);
    until("all are led", 20 * SECOND, || client.stats().directives >= 10_000).await;
    sleep(3 * SECOND).await;
    let before = client.stats();
    sleep(30 * SECOND).await;
    let after = client.stats();
    assert_eq!(after.deltas - before.deltas, 0, "an idle circuit says nothing");
    assert_eq!(after.connections, 1);
    assert_eq!(client.circuits(), all.len());
}
