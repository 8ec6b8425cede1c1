//! That the harness of the Redis tests does what it says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod redis_world;

use std::future::pending;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{AsyncCommands as _, Client, RedisConnectionInfo, RedisResult};
use tokio::time::Instant;

use redis_world::{Certificates, Cluster, MASTER_NAME, NODES, Proxy, Sentinel, Server, eventually, within};

const SOON: Duration = Duration::from_secs(10);

async fn ping(client: RedisResult<Client>) -> RedisResult<String> {
    let mut connection = client?.get_multiplexed_async_connection().await?;
    connection.ping().await
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_what_it_kept() {
    let server =
        Server::builder().argument("appendonly", "yes").argument("appendfsync", "always").start().await;
    let (port, pid) = (server.port(), server.pid());
    server.command(&["SET", "k", "v"]).await;
    server.kill9();
    assert!(!server.is_running());
    assert!(server.try_command(&["PING"]).await.unwrap_err().is_connection_refusal());
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.get::<String>(&["GET", "k"]).await, "v");
    assert!(server.output().matches("Ready to accept connections").count() == 2, "{}", server.output());
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let server = Server::start().await;
    let mut connection = server.connection().await.unwrap();
    server.pause().await;
    assert!(!server.is_running());
    let answer = tokio::spawn(async move { connection.ping::<String>().await });
    let refused = tokio::time::timeout(Duration::from_millis(100), server.connection());
    assert!(refused.await.is_err(), "a paused server greeted");
    assert!(!answer.is_finished());
    server.resume();
    assert_eq!(within(SOON, answer).await.unwrap().unwrap(), "PONG");
    assert!(server.is_running());
}

#[tokio::test]
async fn no_process_outlives_its_handle() {
    let [running, paused] = [Server::start().await, Server::start().await];
    paused.pause().await;
    let pids = [running.pid(), paused.pid()];
    let there = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    assert!(pids.into_iter().all(there));
    drop((running, paused));
    assert!(!pids.into_iter().any(there));
}

#[tokio::test]
#[should_panic(expected = "no port in")]
async fn a_port_that_a_stranger_took_is_given_up() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    Server::builder().argument("port", &port.to_string()).start().await;
}

#[tokio::test]
#[should_panic(expected = "Bad directive")]
async fn a_server_that_cannot_start_shows_its_output() {
    Server::builder().argument("no-such-option", "1").start().await;
}

#[tokio::test]
async fn passwords_and_users_are_asked_for() {
    let rules = ["~rl:*", "+@all", "-@dangerous"];
    let server = Server::builder().password("secret").user("limiter", "other", &rules).start().await;
    let anonymous = format!("redis://{}", server.address());
    assert!(ping(Client::open(anonymous)).await.is_err());
    assert_eq!(ping(Client::open(server.url())).await.unwrap(), "PONG");
    let limiter = Client::open(server.url_as("limiter", "other")).unwrap();
    let mut limiter = limiter.get_multiplexed_async_connection().await.unwrap();
    let () = limiter.set("rl:k", 1).await.unwrap();
    assert_eq!(limiter.set::<_, _, ()>("k", 1).await.unwrap_err().code(), Some("NOPERM"));
    server.config_set("maxmemory", "3mb").await;
    assert_eq!(server.info("memory", "maxmemory").await, "3145728");
}

#[tokio::test]
async fn tls_refuses_whom_it_should() {
    let certificates = Certificates::new();
    let server = Server::builder().tls(&certificates).start().await;
    let with = |server: &Server, trust| Client::build_with_tls(server.url(), trust);
    assert_eq!(ping(with(&server, certificates.trusted())).await.unwrap(), "PONG");
    assert_eq!(ping(with(&server, certificates.without_client())).await.unwrap(), "PONG");
    let unknown = ping(with(&server, certificates.untrusting())).await.unwrap_err().to_string();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    let plain = format!("redis://{}", server.address());
    assert!(ping(Client::open(plain)).await.is_err());

    let mutual = Server::builder().mutual_tls(&certificates).start().await;
    assert_eq!(ping(with(&mutual, certificates.trusted())).await.unwrap(), "PONG");
    assert!(ping(with(&mutual, certificates.without_client())).await.is_err());
    let by_name = mutual.url().replace("127.0.0.1", "localhost");
    assert_eq!(ping(Client::build_with_tls(by_name, certificates.trusted())).await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_wrong_clock_rules_time_and_expiry() {
    let right = Server::start().await;
    let ahead = Server::builder().clock_offset(3_600).start().await;
    let behind = Server::builder().clock_offset(-3_600).start().await;
    let (now, later) = (right.time().await.as_secs_f64(), ahead.time().await.as_secs_f64());
    assert!((later - now - 3_600.0).abs() < 2.0, "{now} {later}");
    let earlier = behind.time().await.as_secs_f64();
    assert!((earlier - now + 3_600.0).abs() < 2.0, "{now} {earlier}");

    behind.command(&["SET", "k", "v", "EX", "60"]).await;
    behind.set_clock_offset(-3_600_000_000 + 30_000_000);
    let left: i64 = behind.get(&["PTTL", "k"]).await;
    assert!((20_000..=30_000).contains(&left), "{left}");
    behind.set_clock_offset(0);
    assert_eq!(behind.get::<Option<String>>(&["GET", "k"]).await, None);
    let within_script: (i64, i64) = ahead.get(&["EVAL", "return redis.call('TIME')", "0"]).await;
    assert!(within_script.0 > right.get::<(i64, i64)>(&["TIME"]).await.0 + 3_000);
}

#[tokio::test]
async fn keys_that_stay_for_ever_are_found() {
    let server = Server::start().await;
    for index in 0..1_200 {
        server.command(&["SET", &format!("a*{{{index}}}"), "v", "EX", "60"]).await;
    }
    server.command(&["MSET", "a*lasting", "v", "ab", "v", "b", "v"]).await;
    assert_eq!(server.keys("a*").await.len(), 1_201);
    assert_eq!(server.keys_without_ttl("a*").await, ["a*lasting"]);
    server.assert_all_have_ttl("a*{").await;
    let claim = tokio::spawn(async move { server.assert_all_have_ttl("a").await });
    assert!(claim.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn commands_are_counted_by_name() {
    let server = Server::start().await;
    let sha: String = server.get(&["SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])"]).await;
    let (before, all_before) = (server.command_counts().await, server.commands_processed().await);
    for _ in 0..3 {
        server.command(&["EVALSHA", &sha, "1", "k"]).await;
    }
    server.command(&["PING"]).await;
    let new = server.command_counts().await.since(&before);
    assert_eq!((new.of("evalsha"), new.of("get"), new.of("ping"), new.of("set")), (3, 3, 1, 0), "{new:?}");
    assert_eq!(new.total(), 7, "{new:?}");
    assert!(server.commands_processed().await >= all_before + 7);
}

#[tokio::test]
async fn a_proxy_delays_swallows_and_refuses() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let client = Client::open(proxy.url_instead_of(&server.url())).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    assert_eq!(connection.incr::<_, _, u64>("k", 1).await.unwrap(), 1);
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    assert!(proxy.bytes_to_server() > 20 && proxy.bytes_to_client() > 3);

    proxy.delay(Duration::from_millis(60));
    let start = Instant::now();
    assert_eq!(connection.incr::<_, _, u64>("k", 1).await.unwrap(), 2);
    assert!(start.elapsed() >= Duration::from_millis(120));

    proxy.swallow();
    let back = proxy.bytes_to_client();
    let lost = tokio::spawn({
        let mut connection = connection.clone();
        async move { connection.incr::<_, _, u64>("k", 1).await }
    });
    let arrived = || async { server.get::<u64>(&["GET", "k"]).await == 3 };
    eventually(SOON, "the request arrives", arrived).await;
    assert!(!lost.is_finished());
    assert_eq!(proxy.bytes_to_client(), back);
    proxy.close_all().await;
    assert!(within(SOON, lost).await.unwrap().is_err());
    assert_eq!(proxy.open(), 0);

    proxy.pass();
    proxy.refuse().await;
    assert!(ping(Ok(client.clone())).await.unwrap_err().is_connection_refusal());
    proxy.accept().await;
    assert_eq!(ping(Ok(client)).await.unwrap(), "PONG");
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_proxy_delivers_late_what_it_withheld() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let client = Client::open(proxy.url_instead_of(&server.url())).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    proxy.swallow();
    let late = tokio::spawn(async move { connection.incr::<_, _, u64>("k", 1).await });
    let arrived = || async { server.get::<Option<u64>>(&["GET", "k"]).await == Some(1) };
    eventually(SOON, "the request arrives", arrived).await;
    proxy.pass();
    assert_eq!(within(SOON, late).await.unwrap().unwrap(), 1);
}

#[tokio::test]
#[should_panic(expected = "not within 20ms: the moon")]
async fn what_never_comes_is_named() {
    eventually(Duration::from_millis(20), "the moon", pending).await;
}

#[tokio::test]
#[should_panic(expected = "no end within 20ms")]
async fn what_never_ends_is_given_up() {
    within(Duration::from_millis(20), pending::<()>()).await;
}

#[tokio::test]
async fn a_killed_and_a_paused_master_are_replaced() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.masters().await, [0, 1, 2]);
    assert_eq!(cluster.seeds().len(), NODES);
    let killed = cluster.owner_of("k").await;
    let paused = (killed + 1) % 3;
    assert_eq!(cluster.replica_of(killed).await, killed + 3);
    let start = Instant::now();
    cluster.node(killed).kill9();
    let promotion = cluster.wait_promoted(killed).await;
    assert_eq!(promotion.master, killed + 3);
    assert!(promotion.at - start > Duration::from_millis(500), "{:?}", promotion.at - start);
    cluster.wait_ok().await;
    assert_eq!(cluster.owner_of("k").await, killed + 3);
    cluster.node(killed).restart().await;
    cluster.wait_whole().await;
    assert_eq!(cluster.replica_of(killed + 3).await, killed);

    cluster.node(paused).pause().await;
    assert_eq!(cluster.wait_promoted(paused).await.master, paused + 3);
    cluster.node(paused).resume();
    // at first it still believes that the slots are its own
    assert!(!cluster.masters().await.contains(&paused));
    cluster.wait_whole().await;
    assert!(!cluster.masters().await.contains(&paused));
}

#[tokio::test]
async fn a_replica_takes_over_and_nothing_is_lost() {
    let cluster = Cluster::start().await;
    let owner = cluster.owner_of("k").await;
    cluster.node(owner).command(&["SET", "k", "v", "EX", "100"]).await;
    let promotion = cluster.failover(cluster.replica_of(owner).await).await;
    assert_eq!(cluster.node(promotion.master).get::<String>(&["GET", "k"]).await, "v");
    cluster.wait_whole().await;
    assert_eq!(cluster.owner_of("k").await, promotion.master);
    let moved = cluster.node(owner).try_command(&["GET", "k"]).await.unwrap_err();
    assert_eq!(moved.code(), Some("MOVED"));
    cluster.assert_all_have_ttl("").await;
}

const TAGGED: u64 = 200;

/// Increments all keys round after round until `done`, and gives the number of full rounds.
async fn increment(mut connection: redis::cluster_async::ClusterConnection, done: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !done.load(Ordering::SeqCst) {
        for index in 0..TAGGED {
            let count: u64 = connection.incr(format!("{{t}}{index}"), 1).await.unwrap();
            assert_eq!(count, rounds + 1);
        }
        rounds += 1;
    }
    rounds
}

#[tokio::test]
async fn a_slot_moves_under_load_in_a_cluster_with_password_and_tls() {
    let certificates = Certificates::new();
    let cluster = Cluster::start_with(Server::builder().password("secret").mutual_tls(&certificates)).await;
    let client = redis::cluster::ClusterClientBuilder::new(cluster.seeds()).certs(certificates.trusted());
    let connection = client.build().unwrap().get_async_connection().await.unwrap();
    let (slot, from) = (cluster.slot_of("{t}").await, cluster.owner_of("{t}").await);
    let to = (from + 1) % 3;
    let (done, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    let moves = async {
        let has_all = || async { cluster.keys("{t}").await.len() as u64 == TAGGED };
        eventually(SOON, "all keys are there", has_all).await;
        let migration = cluster.begin_migration(slot, to).await;
        assert_eq!((migration.from, migration.to, migration.slot), (from, to, slot));
        for _ in 0..TAGGED / 2 {
            moved.fetch_add(u64::from(migration.move_next().await.is_some()), Ordering::SeqCst);
        }
        assert_eq!(cluster.node(to).keys("{t}").await.len() as u64, TAGGED / 2);
        assert_eq!(cluster.keys_without_ttl("{t}").await.len() as u64, TAGGED);
        migration.finish().await;
        done.store(true, Ordering::SeqCst);
    };
    let (rounds, ()) = within(SOON * 3, async { tokio::join!(increment(connection, &done), moves) }).await;
    assert_eq!(moved.load(Ordering::SeqCst), TAGGED / 2);
    assert_eq!(cluster.owner_of("{t}").await, to);
    assert_eq!(cluster.node(to).keys("{t}").await.len() as u64, TAGGED);
    assert!(cluster.node(from).keys("{t}").await.is_empty());
    let incremented = cluster.command_counts().await.of("incrby");
    assert!(incremented >= rounds * TAGGED, "{incremented} in {rounds} rounds");
    cluster.wait_ok().await;
    cluster.migrate_slot(slot, from).await;
    assert_eq!(cluster.owner_of("{t}").await, from);
}

/// What a client that asks the sentinels for the master is told.
async fn through_sentinels(world: &Sentinel) -> RedisResult<String> {
    let login = RedisConnectionInfo::default().set_password("data");
    let node = SentinelNodeConnectionInfo::default().set_redis_connection_info(login);
    let name = MASTER_NAME.to_string();
    let mut client = SentinelClient::build(world.urls(), name, Some(node), SentinelServerType::Master)?;
    client.get_async_connection().await?.get("k").await
}

#[tokio::test]
async fn sentinels_replace_a_killed_and_a_paused_master() {
    let (data, sentinels) = (Server::builder().password("data"), Server::builder().password("watch"));
    let world = Sentinel::start_with(data, sentinels).await;
    assert_eq!(world.master().await, Some(0));
    world.data(0).command(&["SET", "k", "v"]).await;
    assert_eq!(world.data(0).get::<u64>(&["WAIT", "1", "5000"]).await, 1);
    assert_eq!(through_sentinels(&world).await.unwrap(), "v");
    let start = Instant::now();
    world.data(0).kill9();
    let promoted = world.wait_promoted(0).await;
    assert!(promoted - start > Duration::from_millis(500), "{:?}", promoted - start);
    assert_eq!(world.master().await, Some(1));
    assert_eq!(through_sentinels(&world).await.unwrap(), "v");

    world.data(0).restart().await;
    world.wait_whole().await;
    world.data(1).pause().await;
    world.wait_promoted(1).await;
    assert_eq!(world.master().await, Some(0));
    let bare = Client::open(format!("redis://{}", world.sentinel(0).address()));
    assert!(ping(bare).await.is_err());
}
