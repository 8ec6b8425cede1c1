//! Streams that break, servers that go.

use tollgate_client::Outcome;
use tollgate_core::breaker::fleet::FleetState;

use super::demo::server::Lost;
use super::*;

/// Calls of one client, all counted by the server at the end whatever happens to the stream.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_loses_nothing_and_doubles_nothing() {
    let server = FleetServer::start(settings()).unwrap();
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    until("the server speaks", SECOND, || led(&circuit)).await;
    let mut outcomes = [Outcome::Success; 10];
    outcomes[9] = Outcome::Failure;
    let mut calls = 0_u64;
    for round in 0..40_usize {
        // what is said meanwhile is lost, or its answer is
        server.lose([Lost::Nothing, Lost::Reports, Lost::Answers][round % 3]);
        for call in 0..60_usize {
            let permit = breaker.try_acquire().unwrap();
            permit.record(outcomes[call % 10]);
            calls += 1;
            sleep(7 * MS).await;
        }
        server.reset_streams();
        server.lose(Lost::Nothing);
    }
    let counted = || {
        let totals = server.circuit("demo", "backend").unwrap().totals;
        (totals.counts.judged() + totals.late.judged(), totals.counts.failures() + totals.late.failures())
    };
    until("all is told", 10 * SECOND, || circuit.snapshot().unwrap().unacknowledged == 0).await;
    until("all is counted", 5 * SECOND, || counted().0 >= calls).await;
    sleep(10 * SECOND).await;
    assert_eq!(counted(), (calls, calls / 10));
    let totals = server.circuit("demo", "backend").unwrap().totals;
    assert!(totals.duplicates >= 10, "whatever was not acknowledged came again: {}", totals.duplicates);
    assert!(client.stats().connections >= 4, "{:?}", client.stats());
}

/// Twenty clients whose fleet circuit is open.
async fn open_fleet(server: &FleetServer) -> Vec<(FleetClient, CircuitBreaker, FleetCircuit)> {
    let clients = (0..20).map(|_| client(server));
    let joined: Vec<_> = clients
        .map(|client| {
            let (breaker, circuit) = trusting(&client);
            (client, breaker, circuit)
        })
        .collect();
    until("the server speaks", SECOND, || joined.iter().all(|(_, _, circuit)| led(circuit))).await;
    for _ in 0..20 {
        sleep(10 * MS).await;
        for (_, breaker, _) in &joined {
            if let Ok(permit) = breaker.try_acquire() {
                permit.failure();
            }
        }
    }
    until("all are told", SECOND, || joined.iter().all(|(_, _, circuit)| state(circuit) == State::Open))
        .await;
    joined
}

#[tokio::test(start_paused = true)]
async fn without_a_server_leases_end_and_local_breakers_rule_each_in_its_time() {
    let server = FleetServer::start(settings()).unwrap();
    let joined = open_fleet(&server).await;
    server.stop();
    sleep(5 * SECOND).await;
    assert!(joined.iter().all(|(_, _, circuit)| state(circuit) == State::Open), "the lease lives");
    assert!(joined.iter().all(|(_, breaker, _)| breaker.state() == State::Closed));
    let ended = || joined.iter().all(|(_, _, circuit)| !led(circuit) && state(circuit) == State::Closed);
    until("all leases end, without a call", 8 * SECOND, ended).await;
    let waits: Vec<Duration> = joined
        .iter()
        .filter_map(|(_, breaker, _)| breaker.try_acquire().err().and_then(|open| open.retry_after))
        .collect();
    assert!(waits.len() >= 15, "most local breakers are still open: {}", waits.len());
    let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
    assert!(distinct.len() + 2 >= waits.len(), "they do not march in step: {waits:?}");
    let spread = *waits.iter().max().unwrap() - *waits.iter().min().unwrap();
    assert!(spread > 2 * SECOND, "{spread:?} of the base wait of 5 s");
    let longest = *waits.iter().max().unwrap();
    assert!(longest < 20 * SECOND, "not much longer than the second wait of a local breaker: {longest:?}");
    sleep(longest + SECOND).await;
    let probes = joined.iter().filter(|(_, breaker, _)| breaker.try_acquire().is_ok()).count();
    assert_eq!(probes, 20, "each probes by itself now");
}

#[tokio::test(start_paused = true)]
async fn a_new_server_adopts_what_its_clients_believe() {
    let server = FleetServer::start(settings()).unwrap();
    let joined = open_fleet(&server).await;
    let before = joined[0].2.snapshot().unwrap().epoch;
    server.stop();
    until("they notice", SECOND, || joined.iter().all(|(client, ..)| !client.stats().connected)).await;
    server.restart();
    let follows = |circuit: &FleetCircuit| {
        let seen = circuit.snapshot().unwrap();
        seen.epoch.incarnation > before.incarnation
    };
    let mut reached = 0;
    let start = Instant::now();
    while !joined.iter().all(|(_, _, circuit)| follows(circuit)) {
        assert!(start.elapsed() < 9 * SECOND, "the new owner speaks");
        reached += joined.iter().filter(|(_, breaker, _)| breaker.try_acquire().is_ok()).count();
        sleep(10 * MS).await;
    }
    assert!(reached <= 10, "no herd while nobody rules, but {reached}");
    assert!(server.heard().claims >= 20, "{:?}", server.heard());
    let adopted = server.circuit("demo", "backend").unwrap();
    assert!(matches!(adopted.state, FleetState::Open | FleetState::HalfOpen), "{adopted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_leads_again() {
    let server = FleetServer::start(settings()).unwrap();
    let joined = open_fleet(&server).await;
    server.stop();
    sleep(30 * SECOND).await;
    assert!(joined.iter().all(|(_, _, circuit)| !led(circuit)));
    server.restart();
    let back = until("all are led", 12 * SECOND, || joined.iter().all(|(_, _, circuit)| led(circuit))).await;
    assert!(back > 100 * MS, "not all at once: {back:?}");
    assert!(joined.iter().all(|(_, _, circuit)| state(circuit) == State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_the_server_does_not_keep_is_reported_on_seldom() {
    let server = FleetServer::start(settings()).unwrap();
    server.lose(Lost::Reports);
    let client = client(&server);
    let (breaker, circuit) = trusting(&client);
    for _ in 0..600 {
        sleep(SECOND).await;
        breaker.try_acquire().unwrap().failure();
    }
    // at most eight wait for an acknowledgement, and all of these are sent again each time
    assert!(client.stats().messages <= 40, "{:?}", client.stats());
    assert!(!led(&circuit));
    server.lose(Lost::Nothing);
    until("the server answers", 31 * SECOND, || led(&circuit)).await;
    let counted = || server.circuit("demo", "backend").unwrap().totals.late.failure;
    sleep(10 * SECOND).await;
    assert_eq!(counted(), 600, "{:?} {:?}", circuit.snapshot(), server.circuit("demo", "backend"));
}
