//! What many streams and many circuits cost, and that nothing stays behind.

use std::time::Duration;

use tokio::time::Instant;
use tollgate_proto::tollgate::v1::{ListCircuitsRequest, SyncRequest};

use crate::client::{Api, Client, key};
use crate::redis_world::eventually;
use crate::world::{QUICK, SOON, Tollgate};

const STREAMS: usize = 1_000;
const CIRCUITS: usize = 10_000;
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_that_end_leave_nothing() {
    let server = Tollgate::start(QUICK, &[]);
    let channel = server.channel().await;
    let open = async || {
        let mut clients = Vec::new();
        for number in 0..STREAMS {
            clients.push(Client::connect(channel.clone(), &format!("client {number}"), "pay").await);
        }
        for client in &mut clients {
            client.say(SyncRequest { watch: vec![key("pay")], ..Default::default() });
            client.until("a directive", |directive| directive.epoch.is_some()).await;
        }
        clients
    };
    let mut after = vec![server.used().1];
    for _ in 0..3 {
        let clients = open().await;
        assert_eq!(server.metric("tollgate_breaker_streams").await, STREAMS as f64);
        assert_eq!(server.metric("tollgate_breaker_listening").await, STREAMS as f64);
        drop(clients);
        eventually(SOON, "all streams have ended", || async {
            let left = server.metric("tollgate_breaker_streams").await;
            left + server.metric("tollgate_breaker_listening").await == 0.0
        })
        .await;
        after.push(server.used().1);
    }
    println!("memory at the start and after each thousand streams: {after:?} KiB");
    assert!(after[3] < after[1] + 8_192, "it grows: {after:?} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_circuits_cost_little() {
    // the defaults: a lease is told again every five seconds
    let settings = [
        ("MODE", "enforce"),
        ("MAX_KEYS_PER_CLIENT", "100000"),
        ("MAX_CIRCUITS", "100000"),
        ("DEFAULTS__ADOPT_FOR", "0s"),
    ];
    let server = Tollgate::start(&settings, &[]);
    let mut client = Client::connect(server.channel().await, "ann", "t0").await;
    let mut watch = async |round: usize| {
        for part in 0..10 {
            let name = |number| key(&format!("t{round}-{part}-{number}"));
            let watch = (0..CIRCUITS / 10).map(name).collect();
            client.say(SyncRequest { watch, ..Default::default() });
        }
        let mut told = 0;
        while told < CIRCUITS {
            told += client.messages().await;
        }
        eventually(SOON, "all circuits are there", || async {
            server.metric("tollgate_breaker_circuits{state=\"closed\"}").await == (CIRCUITS * round) as f64
        })
        .await;
        server.used()
    };
    // what the start took and gave back is in use again after the first rounds
    let mut memory = Vec::new();
    let mut cpu = Duration::ZERO;
    for round in 1..=ROUNDS {
        let used = watch(round).await;
        cpu = used.0;
        memory.push(used.1);
    }
    let (began, measured) = (Instant::now(), Duration::from_secs(10));
    let mut directives = 0;
    while began.elapsed() < measured {
        let left = measured.saturating_sub(began.elapsed());
        if let Ok(message) = tokio::time::timeout(left, client.messages()).await {
            directives += message;
        }
    }
    let share = (server.used().0 - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    // over two rounds: the allocator gives back in steps of its own
    let each = memory[ROUNDS - 1].saturating_sub(memory[ROUNDS - 3]) * 1_024 / (2 * CIRCUITS as u64);
    println!("memory after each ten thousand: {memory:?} KiB");
    println!(
        "{} watched circuits: {each} bytes each, {:.1} % of a core at rest, {directives} directives in 10 s",
        ROUNDS * CIRCUITS,
        share * 100.0
    );
    assert!(each < 16_384, "{each} bytes for each circuit");
    assert!(share < 0.8, "{share} of a core");
    assert!(directives >= ROUNDS * CIRCUITS, "leases are told again: {directives}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_circuit_more_than_the_bound_is_not_kept_and_counted() {
    let settings = [("MAX_CIRCUITS", "10"), ("DEFAULTS__ADOPT_FOR", "0s"), ("MODE", "enforce")];
    let server = Tollgate::start(&settings, &[]);
    let mut client = Client::connect(server.channel().await, "ann", "t0").await;
    let watch = (0..12).map(|number| key(&format!("t{number}"))).collect();
    client.say(SyncRequest { watch, ..Default::default() });
    client.until("a directive", |directive| directive.epoch.is_some()).await;
    eventually(SOON, "two found no room", || async {
        server.metric("tollgate_breaker_full_total").await == 2.0
    })
    .await;
    let mut api = Api::new(server.channel().await);
    let all = api.list_circuits(ListCircuitsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.circuits.len(), 10);
}
