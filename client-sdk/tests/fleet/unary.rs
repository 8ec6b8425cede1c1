//! The same without a stream.

use tollgate_client::fleet::FleetTransport;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_same_holds_without_streams() {
    let server = FleetServer::start(settings()).unwrap();
    let clients = (0..20).map(|_| {
        let client = FleetClient::on(server.channel()).transport(FleetTransport::Unary);
        client.connect_lazy().unwrap()
    });
    let story = demo::outage(Plan::DEMO, clients.collect(), |_| {}).await.unwrap();
    assert!(story.opened_after.unwrap() <= 3 * SECOND, "{story:?}");
    let rounds = story.sent_while(State::HalfOpen);
    assert!(!rounds.is_empty() && rounds.iter().all(|sent| *sent <= 10), "{rounds:?}");
    assert_eq!(server.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn probes_reach_a_client_without_a_stream_and_close_the_circuit() {
    let server = FleetServer::start(settings()).unwrap();
    let client = FleetClient::on(server.channel()).transport(FleetTransport::Unary).connect_lazy().unwrap();
    let (breaker, circuit) = trusting(&client);
    for _ in 0..150 {
        sleep(10 * MS).await;
        if let Ok(permit) = breaker.try_acquire() {
            permit.failure();
        }
    }
    until("it opens", 3 * SECOND, || state(&circuit) == State::Open).await;
    let mut passed = 0;
    let start = Instant::now();
    while state(&circuit) != State::Recovering {
        assert!(start.elapsed() < 30 * SECOND, "{:?}", server.circuit("demo", "backend"));
        if let Ok(permit) = breaker.try_acquire() {
            permit.success();
            passed += 1;
        }
        sleep(50 * MS).await;
    }
    assert!((1..=10).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_asks_for_a_probe() {
    let server = FleetServer::start(settings()).unwrap();
    let unary = || FleetClient::on(server.channel()).transport(FleetTransport::Unary);
    let (first, second) = (unary().connect_lazy().unwrap(), unary().connect_lazy().unwrap());
    let ((failing, circuit), (late, seen)) = (trusting(&first), trusting(&second));
    for _ in 0..150 {
        sleep(10 * MS).await;
        if let Ok(permit) = failing.try_acquire() {
            permit.failure();
        }
    }
    until("it opens", 3 * SECOND, || state(&circuit) == State::Open).await;
    // the permits go to the one with traffic, who has no calls for them
    until("it probes", 30 * SECOND, || state(&circuit) == State::HalfOpen).await;
    let mut passed = 0;
    let start = Instant::now();
    while state(&seen) != State::Recovering {
        assert!(start.elapsed() < 60 * SECOND, "{:?}", server.circuit("demo", "backend"));
        if let Ok(permit) = late.try_acquire() {
            permit.success();
            passed += 1;
        }
        sleep(50 * MS).await;
    }
    assert!(passed > 0 && server.heard().asked > 0, "{passed} {:?}", server.heard());
}
