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
async fn a_probe_is_asked_for_when_a_call_could_be_one() {
    let server = FleetServer::start(settings()).unwrap();
    let join = || FleetClient::on(server.channel()).transport(FleetTransport::Unary).connect_lazy().unwrap();
    let (busy, quiet) = (join(), join());
    let (failing, seen) = trusting(&busy);
    let (breaker, circuit) = trusting(&quiet);
    for turn in 0..150 {
        sleep(10 * MS).await;
        if let Ok(permit) = failing.try_acquire() {
            permit.failure();
        }
        // enough that the server knows it, too little to be given a permit without asking
        if turn == 0 {
            breaker.try_acquire().unwrap().success();
        }
    }
    until("it opens", 3 * SECOND, || state(&seen) == State::Open).await;
    let mut passed = 0;
    let start = Instant::now();
    while state(&circuit) != State::Recovering {
        assert!(start.elapsed() < 30 * SECOND, "{:?}", server.circuit("demo", "backend"));
        // until it hears of it, the circuit is closed for it
        let knows = state(&circuit) != State::Closed;
        if let Ok(permit) = breaker.try_acquire() {
            permit.success();
            passed += u32::from(knows);
        }
        sleep(50 * MS).await;
    }
    assert!((1..=10).contains(&passed), "{passed}");
    assert!(server.heard().asked >= 1, "{:?}", server.heard());
}
