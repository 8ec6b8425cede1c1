//! The program as a child, and a balancer in front of several of them.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel as channel_of_lines};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Channel, Endpoint};

/// How long anything may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// Whoever may force circuits.
pub const ADMIN: &str = "admin-token";

/// Thresholds with which a whole life of a circuit takes a second or two.
pub const QUICK: &[(&str, &str)] = &[
    ("MODE", "enforce"),
    ("DEFAULTS__WINDOW", "1s"),
    ("DEFAULTS__SHORT_WINDOW", "500ms"),
    ("DEFAULTS__MIN_VOLUME", "20"),
    ("DEFAULTS__PROBES", "4"),
    ("DEFAULTS__OPEN_WAIT", "300ms"),
    ("DEFAULTS__OPEN_CAP", "300ms"),
    ("DEFAULTS__RAMP_EVERY", "100ms"),
    ("DEFAULTS__RAMP_START", "0.5"),
    ("DEFAULTS__RAMP_STEP", "0.25"),
    ("DEFAULTS__REPORT_INTERVAL", "100ms"),
    ("DEFAULTS__ADOPT_FOR", "100ms"),
];

/// A server.
pub struct Tollgate {
    child: Child,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    lines: Lines,
}

impl Tollgate {
    /// Starts one with `settings` of the section `[breaker]` and `others` with their whole names.
    pub fn start(settings: &[(&str, &str)], others: &[(&str, &str)]) -> Tollgate {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for port in ["GRPC", "HTTP", "ADMIN"] {
            command.env(format!("TOLLGATE__{port}__PORT"), "0");
            command.env(format!("TOLLGATE__{port}__HOST"), "127.0.0.1");
        }
        command.env("TOLLGATE__RULES__DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/config/rules"));
        command.env("TOLLGATE__LOG__FORMAT", "json").env("TOLLGATE__ADMIN__TOKEN", ADMIN);
        for (name, value) in settings {
            command.env(format!("TOLLGATE__BREAKER__{name}"), value);
        }
        command.envs(others.iter().copied());
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (tell, told) = channel_of_lines();
        read(&lines, &tell, child.stdout.take().unwrap());
        read(&lines, &tell, child.stderr.take().unwrap());
        drop(tell);
        let [grpc, admin] = ports(&told, &lines);
        Tollgate { child, grpc, admin, lines }
    }

    /// A connection to its gRPC port.
    pub async fn channel(&self) -> Channel {
        channel(self.grpc).await
    }

    /// A page of its admin port.
    pub async fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// One figure of its metrics page; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.page("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Whether a line of its log has all of `words`.
    pub fn has_said(&self, words: &[&str]) -> bool {
        self.lines.lock().unwrap().iter().any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Asks it to leave, and waits until it has.
    pub fn terminate(&mut self) -> Duration {
        let began = tokio::time::Instant::now();
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
        began.elapsed()
    }

    /// Sends a signal by its short name.
    pub fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    /// CPU time it has used, and its own memory, without the program's file, in KiB.
    pub fn used(&self) -> (Duration, u64) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // utime and stime are fields 14 and 15; ticks are of 10 ms
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = read("status");
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        (Duration::from_millis(ticks * 10), memory.trim().trim_end_matches(" kB").parse().unwrap())
    }
}

impl Drop for Tollgate {
    fn drop(&mut self) {
        // both fail only if it has ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

/// Keeps what a child prints, and tells of each line as long as somebody listens.
fn read(lines: &Lines, tell: &Sender<String>, from: impl std::io::Read + Send + 'static) {
    let (lines, tell) = (lines.clone(), tell.clone());
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line.clone());
            // nobody listens once it has started
            let _ = tell.send(line);
        }
    });
}

/// The ports of gRPC and admin, as the log has them.
fn ports(told: &Receiver<String>, lines: &Lines) -> [SocketAddr; 2] {
    loop {
        let line = told.recv_timeout(SOON);
        let line =
            line.unwrap_or_else(|_| panic!("it does not start:\n{}", lines.lock().unwrap().join("\n")));
        if line.contains("\"listening\"") {
            let line: Value = serde_json::from_str(&line).unwrap();
            return ["grpc", "admin"].map(|name| line[name].as_str().unwrap().parse().unwrap());
        }
    }
}

/// A connection of its own.
pub async fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).unwrap().connect().await.unwrap()
}

/// Spreads connections over servers in turn; one that refuses is passed over.
pub struct Balancer {
    pub address: SocketAddr,
    taken: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    pub async fn start(servers: Vec<SocketAddr>) -> Balancer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(balance(listener, servers, taken.clone()));
        Balancer { address, taken }
    }

    /// A new connection, and the server that it leads to.
    pub async fn channel(&self) -> (Channel, SocketAddr) {
        let before = self.taken.lock().unwrap().len();
        let channel = channel(self.address).await;
        crate::redis_world::eventually(SOON, "the balancer has chosen", || async {
            self.taken.lock().unwrap().len() > before
        })
        .await;
        let to = self.taken.lock().unwrap()[before];
        (channel, to)
    }
}

async fn balance(listener: TcpListener, servers: Vec<SocketAddr>, record: Arc<Mutex<Vec<SocketAddr>>>) {
    let next = AtomicUsize::new(0);
    while let Ok((client, _)) = listener.accept().await {
        let Some((server, to)) = reach(&servers, &next).await else { continue };
        record.lock().unwrap().push(to);
        tokio::spawn(pass(client, server));
    }
}

/// Passes everything on until one side has closed.
async fn pass(mut client: TcpStream, mut server: TcpStream) {
    // that a side breaks off is what the test is about
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn reach(servers: &[SocketAddr], next: &AtomicUsize) -> Option<(TcpStream, SocketAddr)> {
    for _ in servers {
        let to = servers[next.fetch_add(1, Ordering::Relaxed) % servers.len()];
        if let Ok(server) = TcpStream::connect(to).await {
            return Some((server, to));
        }
    }
    None
}
