//! What a decision costs: the server's processor time per check, unary and over the stream, and the time of
//! decisions from memory.
//!
//! `cargo bench -p tollgate-client --bench limiter --features testing` measures an in-process limiter on a thread
//! of its own; with `TOLLGATE_TARGET=static:127.0.0.1:8081` and `TOLLGATE_PID=…` a server, whose rules should not
//! refuse `tenant=…` in the domain `shop`. Processor times are read from Linux' `/proc`.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tollgate_client::limiter::{DecisionSource, LeaseMode, RateLimiterClient, Request, Transport};
use tollgate_client::testing::InProcessLimiter;
use tollgate_core::limit::{FixedWindow, Limit, Rate, Refused, TokenBucket, Window};
use tollgate_core::time::Span;

const CALLERS: usize = 64;
const CHECKS: usize = 2_000;

/// A limiter, and how to learn its processor time.
enum Server {
    /// On a thread of its own.
    Thread { target: String, ask: mpsc::UnboundedSender<oneshot::Sender<Duration>> },
    /// A process.
    Process { target: String, pid: String },
}

impl Server {
    fn start(limiter: InProcessLimiter) -> Server {
        let (ready, told) = std::sync::mpsc::channel();
        let (ask, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<Duration>>();
        let serve = async move {
            let served = limiter.serve().await.unwrap();
            ready.send(served.target()).unwrap();
            while let Some(answer) = asked.recv().await {
                answer.send(processor_time()).unwrap();
            }
        };
        std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
        });
        Server::Thread { target: told.recv().unwrap(), ask }
    }

    fn of_environment() -> Option<Server> {
        let target = std::env::var("TOLLGATE_TARGET").ok()?;
        Some(Server::Process { target, pid: std::env::var("TOLLGATE_PID").ok()? })
    }

    fn target(&self) -> &str {
        let (Server::Thread { target, .. } | Server::Process { target, .. }) = self;
        target
    }

    /// How often it has written; unknown of a thread.
    fn writes(&self) -> Option<u64> {
        match self {
            Server::Thread { .. } => None,
            Server::Process { pid, .. } => Some(writes(pid)),
        }
    }

    async fn processor_time(&self) -> Duration {
        match self {
            Server::Thread { ask, .. } => {
                let (answer, told) = oneshot::channel();
                ask.send(answer).unwrap();
                told.await.unwrap()
            }
            Server::Process { pid, .. } => {
                let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
                threads.map(|thread| schedstat(&thread.unwrap().path())).sum()
            }
        }
    }
}

/// Of this thread.
fn processor_time() -> Duration {
    schedstat(Path::new("/proc/thread-self"))
}

fn schedstat(task: &Path) -> Duration {
    let stat = fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

fn client(target: &str, transport: Transport, lease: LeaseMode) -> RateLimiterClient {
    RateLimiterClient::builder(target)
        .domain("shop")
        .deadline(Duration::from_secs(5))
        .transport(transport)
        .lease(lease)
        .connect_lazy()
        .unwrap()
}

fn question(caller: usize) -> Request {
    Request::of([("tenant", format!("tenant-{caller}"))])
}

/// Checks of one caller: how long each took.
async fn caller(client: RateLimiterClient, number: usize, pause: Duration) -> Vec<Duration> {
    let mut took = Vec::with_capacity(CHECKS);
    for _ in 0..CHECKS {
        let began = Instant::now();
        let decision = client.check(question(number)).await;
        took.push(began.elapsed());
        assert_eq!(decision.source, DecisionSource::Service);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    took
}

/// What a process has written to sockets and files: how often.
fn writes(pid: &str) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let count = io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap();
    count.parse().unwrap()
}

async fn transport(server: &Server, name: &str, transport: Transport, pause: Duration) {
    let client = client(server.target(), transport, LeaseMode::Off);
    client.try_check(question(0)).await.unwrap();
    let (before, written, began) = (server.processor_time().await, server.writes(), Instant::now());
    let tasks = (0..CALLERS).map(|number| tokio::spawn(caller(client.clone(), number, pause)));
    let mut took: Vec<Duration> = Vec::new();
    for one in join_all(tasks).await {
        took.extend(one.unwrap());
    }
    let (elapsed, spent) = (began.elapsed(), server.processor_time().await - before);
    let written = server.writes().zip(written).map(|(after, before)| after - before);
    took.sort_unstable();
    let count = took.len();
    println!(
        "{name:28} {:>9.0} decisions/s {:>10.0} decisions per processor second of the server   p50 {:?} p99 {:?}",
        count as f64 / elapsed.as_secs_f64(),
        count as f64 / spent.as_secs_f64(),
        took[count / 2],
        took[count * 99 / 100],
    );
    if let Some(written) = written {
        println!("  {:.1} decisions per write of the server", count as f64 / written.max(1) as f64);
    }
}

async fn from_memory(name: &str, count: u32, decide: impl AsyncFn()) {
    for _ in 0..1_000 {
        decide().await;
    }
    let before = processor_time();
    for _ in 0..count {
        decide().await;
    }
    println!("{name:28} {:?} of processor time each", (processor_time() - before) / count);
}

async fn memory() {
    let hour = Window::Epoch(Span::from_secs(3_600));
    let large = Limit::FixedWindow(FixedWindow::new(u64::from(u32::MAX), hour, Refused::Free).unwrap());
    let small =
        Limit::TokenBucket(TokenBucket::new(Rate::new(1, Span::from_secs(3_600)).unwrap(), 1).unwrap());
    let limiter = InProcessLimiter::builder()
        .limit("shop", &["tenant"], large)
        .limit("shop", &["small"], small)
        .build()
        .unwrap();
    let server = Server::start(limiter);
    let client = Arc::new(client(server.target(), Transport::Stream, LeaseMode::Always));
    while client.check(question(0)).await.source != DecisionSource::Lease {}
    from_memory("spent from a lease", 1_000_000, async || {
        client.check(question(0)).await;
    })
    .await;
    let metrics = client.metrics();
    println!(
        "  of which {} from leases, {} asked",
        metrics.from_source(DecisionSource::Lease),
        metrics.from_source(DecisionSource::Service)
    );
    let refused = || Request::of([("small", "x")]);
    client.check(refused()).await;
    from_memory("refused from memory", 300_000, async || {
        assert!(!client.check(refused()).await.allowed);
    })
    .await;
    let nowhere = self::client("static:127.0.0.1:1", Transport::Stream, LeaseMode::Off);
    while !matches!(
        nowhere.try_check(question(0)).await,
        Err(tollgate_client::limiter::LimiterError::Suspended { .. })
    ) {}
    from_memory("limiter away, gate shut", 100_000, async || {
        assert!(nowhere.check(question(0)).await.is_fallback());
    })
    .await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rate = Rate::new(10_000_000, Span::SECOND).unwrap();
    let generous = Limit::TokenBucket(TokenBucket::new(rate, 10_000_000).unwrap());
    let limiter = InProcessLimiter::builder().limit("shop", &["tenant"], generous).build().unwrap();
    let server = Server::of_environment().unwrap_or_else(|| Server::start(limiter));
    transport(&server, "unary, no pause", Transport::Unary, Duration::ZERO).await;
    transport(&server, "stream, no pause", Transport::Stream, Duration::ZERO).await;
    transport(&server, "unary, 10 ms apart", Transport::Unary, Duration::from_millis(10)).await;
    transport(&server, "stream, 10 ms apart", Transport::Stream, Duration::from_millis(10)).await;
    memory().await;
}
