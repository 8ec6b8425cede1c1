//! Three servers on one Redis, with streams that land anywhere.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_proto::tollgate::v1::CircuitState::{Closed, ForcedOpen, Open};
use tollgate_proto::tollgate::v1::r#override::Mode;
use tollgate_proto::tollgate::v1::{ListCircuitsRequest, OutcomeDelta, ReportOutcomesRequest, SyncRequest};

use crate::client::{Api, Client, fail, key, reporter};
use crate::people::{force, get};
use crate::redis_world::{Server, eventually};
use crate::world::{Balancer, QUICK, SOON, Tollgate};

/// Opens for long, so that a new owner has something to take over.
fn slow_to_probe() -> Vec<(&'static str, &'static str)> {
    let mut settings = QUICK.to_vec();
    settings.retain(|(name, _)| !name.contains("OPEN_"));
    settings.extend([("DEFAULTS__OPEN_WAIT", "25s"), ("DEFAULTS__OPEN_CAP", "25s")]);
    settings
}

fn start(redis: &Server, settings: &[(&str, &str)], token: &str) -> Tollgate {
    let shared = [("TOLLGATE__STORE__REDIS__URL", redis.url()), ("TOLLGATE__PEERS__TOKEN", token.to_owned())];
    let shared: Vec<(&str, &str)> = shared.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Tollgate::start(settings, &shared)
}

async fn peers(server: &Tollgate) -> (f64, f64) {
    (server.metric("tollgate_breaker_peers").await, server.metric("tollgate_breaker_peers_lost").await)
}

/// Servers that know each other.
async fn fleet(redis: &Server, count: usize, settings: &[(&str, &str)]) -> Vec<Tollgate> {
    let servers: Vec<Tollgate> = (0..count).map(|_| start(redis, settings, "fleet")).collect();
    for server in &servers {
        let others = (count - 1) as f64;
        eventually(SOON, "they know each other", || async { peers(server).await == (others, 0.0) }).await;
    }
    servers
}

/// Clients in turn on every server, each with the server it landed on.
async fn clients(balancer: &Balancer, count: usize, target: &str) -> Vec<(Client, SocketAddr)> {
    let mut all = Vec::new();
    for number in 0..count {
        let (channel, to) = balancer.channel().await;
        all.push((Client::open(channel, &format!("client {number}"), target).await, to));
    }
    all
}

fn addresses(servers: &[Tollgate]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.grpc).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_owner_is_killed_another_goes_on_and_no_other_stream_notices() {
    let redis = Server::start().await;
    let mut servers = fleet(&redis, 3, &slow_to_probe()).await;
    let balancer = Balancer::start(addresses(&servers)).await;
    let placed = clients(&balancer, 9, "pay").await;
    let landed: BTreeSet<SocketAddr> = placed.iter().map(|(_, to)| *to).collect();
    assert_eq!(landed.len(), 3, "streams land everywhere");
    let (mut all, places): (Vec<Client>, Vec<SocketAddr>) = placed.into_iter().unzip();
    fail(&mut all).await;

    let mut api = Api::new(servers[0].channel().await);
    let before = get(&mut api, "pay").await.unwrap();
    assert_eq!(before.state(), Open);
    let owner: SocketAddr = before.owner.parse().unwrap();
    servers.retain(|server| server.grpc != owner);
    let killed = Instant::now();

    let mut kept = Vec::new();
    for (client, place) in all.into_iter().zip(places) {
        // who was connected to it has to connect anew, as after any loss, and says what it believes
        kept.push(if place == owner { client.reconnect(balancer.channel().await.0).await } else { client });
    }
    for client in &mut kept {
        let told = client
            .until("the new owner speaks", |told| {
                told.epoch.unwrap().incarnation > before.epoch.unwrap().incarnation && told.state() == Open
            })
            .await;
        let left = told.probe_in.unwrap().seconds;
        // drawn from 25 s and a fifth more or less
        assert!((1..=30).contains(&left), "{left} s");
    }
    println!("all clients obey the new owner {:?} after the old one was killed", killed.elapsed());
    let mut api = Api::new(servers[0].channel().await);
    let after = get(&mut api, "pay").await.unwrap();
    assert_ne!(after.owner, before.owner);
    assert_eq!((after.state(), after.reason.as_str()), (Open, "taken over from another server"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_circuit_stays_so_whoever_owns_it_and_after_all_have_gone() {
    let redis = Server::start().await;
    let mut servers = fleet(&redis, 3, QUICK).await;
    let mut api = Api::new(servers[0].channel().await);
    force(&mut api, "pay", Mode::ForcedOpen, Some(600)).await.unwrap();
    let mut client = Client::open(servers[1].channel().await, "ann", "pay").await;
    client.until_state(ForcedOpen).await;
    for server in &servers {
        let seen = get(&mut Api::new(server.channel().await), "pay").await.unwrap();
        assert_eq!((seen.state(), seen.r#override.unwrap().actor.as_str()), (ForcedOpen, "ann"));
    }
    let owner = get(&mut api, "pay").await.unwrap().owner;
    servers.retain(|server| server.grpc.to_string() != owner);
    let mut api = Api::new(servers[0].channel().await);
    still_forced(&mut api).await;
    drop(servers);
    let fresh = start(&redis, QUICK, "fleet");
    let mut api = Api::new(fresh.channel().await);
    still_forced(&mut api).await;
    let seen = get(&mut api, "pay").await.unwrap().r#override.unwrap();
    assert!((500..600).contains(&seen.ttl.unwrap().seconds), "{seen:?}");
    redis.assert_all_have_ttl("").await;
    force(&mut api, "pay", Mode::None, None).await.unwrap();
    assert!(get(&mut api, "pay").await.unwrap().r#override.is_none());
}

async fn still_forced(api: &mut Api) {
    eventually(SOON, "it is still forced", || {
        let mut api = api.clone();
        async move { get(&mut api, "pay").await.is_ok_and(|seen| seen.state() == ForcedOpen) }
    })
    .await;
}

/// The targets of all circuits as they are listed, page by page, and their owners.
async fn targets(api: &Api, page_size: u32) -> (Vec<String>, BTreeSet<String>) {
    let (mut api, mut page_token) = (api.clone(), String::new());
    let (mut seen, mut owners) = (Vec::new(), BTreeSet::new());
    loop {
        let request = ListCircuitsRequest { page_size, page_token, ..Default::default() };
        let page = api.list_circuits(request).await.unwrap().into_inner();
        owners.extend(page.circuits.iter().map(|circuit| circuit.owner.clone()));
        seen.extend(page.circuits.into_iter().map(|circuit| circuit.key.unwrap().target));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (seen, owners);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_server_answers_for_all() {
    let redis = Server::start().await;
    let servers = fleet(&redis, 3, QUICK).await;
    let names: Vec<String> = (0..30).map(|number| format!("t{number:02}")).collect();
    let mut client = Client::connect(servers[0].channel().await, "ann", "t00").await;
    client.say(SyncRequest { watch: names.iter().map(|name| key(name)).collect(), ..Default::default() });
    let mut told = 0;
    while told < names.len() {
        told += client.messages().await;
    }
    for server in &servers {
        let api = Api::new(server.channel().await);
        eventually(SOON, "all circuits are there", || async { targets(&api, 1_000).await.0.len() == 30 })
            .await;
        let (seen, owners) = targets(&api, 7).await;
        assert_eq!((seen, owners.len()), (names.clone(), 3));
    }
    // the twin of the stream, too
    let mut api = Api::new(servers[2].channel().await);
    let delta =
        |name: &String| OutcomeDelta { key: Some(key(name)), sequence: 1, success: 1, ..Default::default() };
    let deltas = names.iter().map(delta).collect();
    let request = ReportOutcomesRequest { reporter: Some(reporter("bob")), deltas, claims: Vec::new() };
    let told = api.report_outcomes(request).await.unwrap().into_inner().directives;
    assert!(told.len() == 30 && told.iter().all(|directive| directive.acknowledged == 1), "{}", told.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_token_is_none_of_the_fleet() {
    let redis = Server::start().await;
    let servers = fleet(&redis, 2, QUICK).await;
    let stranger = start(&redis, QUICK, "guess");
    for server in servers.iter().chain([&stranger]) {
        let lost = if server.grpc == stranger.grpc { (2.0, 2.0) } else { (2.0, 1.0) };
        eventually(SOON, "it is lost", || async { peers(server).await == lost }).await;
        eventually(SOON, "it says why", || async { server.has_said(&["another peers.token"]) }).await;
    }
    for server in servers.iter().chain([&stranger]) {
        let client = Client::open(server.channel().await, "ann", "pay").await;
        assert_eq!(client.last.state(), Closed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_leaves_ends_its_streams_without_an_error_and_at_once() {
    let redis = Server::start().await;
    let mut servers = fleet(&redis, 2, &slow_to_probe()).await;
    let mut all = Vec::new();
    for number in 0..6 {
        let channel = servers[number % 2].channel().await;
        all.push(Client::open(channel, &format!("client {number}"), "pay").await);
    }
    fail(&mut all).await;
    let incarnation = all[0].last.epoch.unwrap().incarnation;
    let mut leaving = servers.remove(0);
    let took = tokio::task::spawn_blocking(move || leaving.terminate()).await.unwrap();
    assert!(took < Duration::from_secs(10), "open streams keep it for {took:?}");
    for (number, client) in all.into_iter().enumerate() {
        let mut client = client;
        if number % 2 == 0 {
            client.until_its_end().await;
            client = client.reconnect(servers[0].channel().await).await;
        }
        let told = client.until("it is open at whoever stays", |told| told.state() == Open).await;
        assert!(told.epoch.unwrap().incarnation >= incarnation);
        client.until("an owner that is there", |told| told.lease.is_some()).await;
    }
    let mut api = Api::new(servers[0].channel().await);
    eventually(SOON, "it is open at whoever stays", || {
        let mut api = api.clone();
        async move { get(&mut api, "pay").await.is_ok_and(|seen| seen.state() == Open) }
    })
    .await;
    assert_eq!(get(&mut api, "pay").await.unwrap().owner, servers[0].grpc.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_anew_learns_from_its_clients() {
    let server = Tollgate::start(&slow_to_probe(), &[]);
    let mut clients = crate::client::crowd(&server, 6, "pay").await;
    fail(&mut clients).await;
    let incarnation = clients[0].last.epoch.unwrap().incarnation;
    drop(server);
    let server = Tollgate::start(&slow_to_probe(), &[]);
    for client in clients {
        let mut client = client.reconnect(server.channel().await).await;
        let told =
            client.until("the new one speaks", |told| told.epoch.unwrap().incarnation > incarnation).await;
        assert_eq!((told.state(), told.reason.as_str()), (Open, "taken over from another server"));
    }
}

/// The index of the server that owns `target`.
async fn owner_of(servers: &[Tollgate], target: &str) -> usize {
    let owner = get(&mut Api::new(servers[0].channel().await), target).await.unwrap().owner;
    servers.iter().position(|server| server.grpc.to_string() == owner).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_hangs_is_succeeded_before_any_lease_is_over() {
    let redis = Server::start().await;
    let servers = fleet(&redis, 3, &slow_to_probe()).await;
    let probe = Client::open(servers[0].channel().await, "probe", "pay").await;
    let owner = owner_of(&servers, "pay").await;
    drop(probe);
    let mut all = Vec::new();
    for (index, server) in servers.iter().enumerate().filter(|(index, _)| *index != owner) {
        for number in 0..3 {
            let name = format!("client {index}-{number}");
            all.push(Client::open(server.channel().await, &name, "pay").await);
        }
    }
    fail(&mut all).await;
    let before = all[0].last.epoch.unwrap().incarnation;
    servers[owner].signal("STOP");
    let stopped = Instant::now();
    for client in &mut all {
        let told =
            client.until("another owner speaks", |told| told.epoch.unwrap().incarnation > before).await;
        assert_eq!(told.state(), Open);
    }
    println!("all clients obey the new owner {:?} after the old one hung", stopped.elapsed());
    assert!(stopped.elapsed() < Duration::from_secs(10), "a lease is over: {:?}", stopped.elapsed());
    // when it is back it is one of the fleet again, and clients still have one owner that they obey
    servers[owner].signal("CONT");
    for server in &servers {
        eventually(SOON, "all are there", || async { peers(server).await == (2.0, 0.0) }).await;
    }
    for client in &mut all {
        client.report(0, 0);
        client.next().await;
        assert_eq!(client.last.state(), Open);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_goes_or_forgets_parts_no_fleet_and_frees_no_circuit() {
    let redis = Server::start().await;
    let servers = fleet(&redis, 3, QUICK).await;
    let mut api = Api::new(servers[0].channel().await);
    force(&mut api, "pay", Mode::ForcedOpen, Some(600)).await.unwrap();
    let mut client = Client::open(servers[1].channel().await, "ann", "pay").await;
    client.until_state(ForcedOpen).await;
    redis.kill9();
    // no override without the place where all of them are kept
    let refused = force(&mut api, "other", Mode::ForcedOpen, Some(600)).await.unwrap_err();
    assert!(refused.message().starts_with("nothing has changed"), "{refused:?}");
    assert_eq!(get(&mut api, "pay").await.unwrap().state(), ForcedOpen);
    for server in &servers {
        assert_eq!(peers(server).await, (2.0, 0.0));
    }
    // it has kept nothing
    redis.restart().await;
    eventually(SOON, "what it has lost is put back", || async {
        redis.get::<bool>(&["HEXISTS", "tg:{fleet}:overrides", "[\"shop\",\"pay\",\"\",\"\"]"]).await
    })
    .await;
    for server in &servers {
        let seen = get(&mut Api::new(server.channel().await), "pay").await.unwrap();
        assert_eq!((seen.state(), peers(server).await), (ForcedOpen, (2.0, 0.0)));
    }
    client.report(0, 0);
    client.next().await;
    assert_eq!(client.last.state(), ForcedOpen);
}
