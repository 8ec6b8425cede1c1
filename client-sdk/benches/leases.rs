//! What leases save: three servers on one Redis, three clients, 5 000 calls a second on one key, until the limit
//! is reached and beyond. Counts what was admitted against the limit, and what the servers were asked.
//!
//! `TOLLGATE_BIN=target/release/tollgate cargo bench -p tollgate-client --bench leases --features testing`
//! (needs `redis-server`)
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tollgate_client::limiter::{LeaseMode, RateLimiterClient, Request};

const SERVERS: usize = 3;
const CALLS_A_SECOND: u64 = 5_000;
const LIMIT: u64 = 50_000;
const RUN: Duration = Duration::from_secs(14);
const RULES: &str = "
domain: shop
descriptors:
  - key: hot
    rate_limit: { unit: day, requests_per_unit: 50000 }
  - key: strict
    rate_limit: { unit: day, requests_per_unit: 50000, accuracy: strict }
";

/// A process that ends with its holder.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[String]) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    Process(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Server {
    _process: Process,
    grpc: u16,
    admin: u16,
}

impl Server {
    fn start(program: &str, rules: &Path, redis: u16) -> Server {
        let (grpc, http, admin) = (free_port(), free_port(), free_port());
        let arguments = [
            format!("--config={}", rules.display()),
            "--host=127.0.0.1".into(),
            format!("--grpc-port={grpc}"),
            format!("--http-port={http}"),
            format!("--admin-port={admin}"),
            "--set=store.kind=redis".into(),
            format!("--set=store.redis.url=127.0.0.1:{redis}"),
            "--set=peers.token=bench".into(),
        ];
        Server { _process: start(program, &arguments), grpc, admin }
    }

    /// The sum of the series that begin with `name`.
    fn metric(&self, name: &str) -> u64 {
        let mut page = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut page).unwrap();
        let values = page.lines().filter(|line| line.starts_with(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Questions, one by one: what travelled together counts apart.
    fn questions(&self) -> u64 {
        ["check", "check_stream", "lease"]
            .iter()
            .map(|api| self.metric(&format!("tollgate_requests_total{{api=\"{api}\"")))
            .sum::<u64>()
            + self.metric("tollgate_lease_returns_total")
    }

    async fn listens(&self) {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.admin)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "the server does not start");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn client(servers: &[Server], lease: LeaseMode) -> RateLimiterClient {
    let target: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.grpc)).collect();
    RateLimiterClient::builder(format!("static:{}", target.join(",")))
        .domain("shop")
        .deadline(Duration::from_secs(2))
        .lease(lease)
        .connect_lazy()
        .unwrap()
}

/// Calls of one client at its share of the rate; how many were admitted.
async fn calls(client: RateLimiterClient, key: &'static str) -> (u64, u64) {
    let tick = Duration::from_millis(5);
    let each = CALLS_A_SECOND / SERVERS as u64 * 5 / 1_000;
    let (mut made, mut admitted) = (0, 0);
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    while began.elapsed() < RUN {
        ticks.tick().await;
        let asked = (0..each).map(|_| client.try_check(Request::of([(key, "one")])));
        for decision in join_all(asked).await {
            made += 1;
            admitted += u64::from(decision.is_ok_and(|decision| decision.allowed));
        }
    }
    client.close().await;
    (made, admitted)
}

async fn run(name: &str, key: &'static str, servers: &[Server], lease: LeaseMode) {
    let before: u64 = servers.iter().map(Server::questions).sum();
    let clients = (0..SERVERS).map(|_| client(servers, lease));
    let tasks: Vec<_> = clients.map(|client| tokio::spawn(calls(client, key))).collect();
    let (mut made, mut admitted) = (0, 0);
    for task in tasks {
        let (more_made, more_admitted) = task.await.unwrap();
        (made, admitted) = (made + more_made, admitted + more_admitted);
    }
    let asked = servers.iter().map(Server::questions).sum::<u64>() - before;
    println!(
        "{name:14} {made:>7} calls  {admitted:>6} of {LIMIT} admitted  {:>2} over  {asked:>6} questions to servers  {:>6.1} calls a question",
        admitted.saturating_sub(LIMIT),
        made as f64 / asked as f64,
    );
}

#[tokio::main]
async fn main() {
    let Ok(program) = std::env::var("TOLLGATE_BIN") else {
        println!("leases: set TOLLGATE_BIN to a release build of the server");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), RULES).unwrap();
    let port = free_port();
    let redis = ["--port".to_owned(), port.to_string(), "--save".into(), String::new()];
    let _redis = start("redis-server", &redis);
    let servers: Vec<Server> = (0..SERVERS).map(|_| Server::start(&program, folder.path(), port)).collect();
    join_all(servers.iter().map(Server::listens)).await;
    run("with leases", "hot", &servers, LeaseMode::Auto).await;
    run("without", "strict", &servers, LeaseMode::Off).await;
}
