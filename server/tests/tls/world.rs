//! The program as a child, and what talks to it.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A server.
pub struct Tollgate {
    child: Child,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Tollgate {
    /// Starts one with `settings`, which are variables with their whole names.
    pub fn start(settings: &[(String, String)]) -> Tollgate {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for port in ["GRPC", "HTTP", "ADMIN"] {
            command.env(format!("TOLLGATE__{port}__PORT"), "0");
            command.env(format!("TOLLGATE__{port}__HOST"), "127.0.0.1");
        }
        command.env("TOLLGATE__RULES__DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/config/rules"));
        command.env("TOLLGATE__LOG__FORMAT", "json").env("TOLLGATE__GRPC__WORKERS", "2");
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (tell, told) = channel();
        read(&lines, &tell, child.stdout.take().unwrap());
        read(&lines, &tell, child.stderr.take().unwrap());
        drop(tell);
        let [grpc, http, admin] = ports(&told, &lines);
        Tollgate { child, grpc, http, admin, lines }
    }

    /// One figure of its metrics page, which has to be in clear text; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> u64 {
        let stream = TcpStream::connect(self.admin).await.unwrap();
        let (status, page) = http(stream, "GET /metrics", "", "").await;
        assert_eq!(status, 200);
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Whether a line of its log has all of `words`.
    pub fn has_said(&self, words: &[&str]) -> bool {
        self.lines.lock().unwrap().iter().any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Asks it to leave.
    pub fn terminate(&self) {
        let line = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Its own memory, without the program's file, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        memory.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Tollgate {
    fn drop(&mut self) {
        // both fail only if it has ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(lines: &Arc<Mutex<Vec<String>>>, tell: &Sender<String>, from: impl io::Read + Send + 'static) {
    let (lines, tell) = (lines.clone(), tell.clone());
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line.clone());
            // nobody listens once it has started
            let _ = tell.send(line);
        }
    });
}

fn ports(told: &Receiver<String>, lines: &Arc<Mutex<Vec<String>>>) -> [SocketAddr; 3] {
    loop {
        let line = told.recv_timeout(SOON);
        let line =
            line.unwrap_or_else(|_| panic!("it does not start:\n{}", lines.lock().unwrap().join("\n")));
        if line.contains("\"listening\"") {
            let line: Value = serde_json::from_str(&line).unwrap();
            return ["grpc", "http", "admin"].map(|name| line[name].as_str().unwrap().parse().unwrap());
        }
    }
}

/// A setting by its variable.
pub fn set(name: &str, value: &str) -> (String, String) {
    (format!("TOLLGATE__{name}"), value.to_owned())
}

/// Waits until something is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A TLS connection; its handshake may still be refused by the server, which TLS 1.3 tells only later.
pub async fn dial(to: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// A gRPC connection over TLS.
pub async fn secure(to: SocketAddr, config: &Arc<ClientConfig>) -> Result<Channel, tonic::transport::Error> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let connector = tower::service_fn(move |_: http::Uri| {
        let config = config.clone();
        async move { dial(to, config).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

/// A gRPC connection in clear text.
pub async fn clear(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).unwrap().connect().await.unwrap()
}

pub fn question(domain: &str) -> RateLimitRequest {
    let entry = Entry { key: "nothing limits this".into(), value: "x".into() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    RateLimitRequest { domain: domain.into(), descriptors: vec![descriptor], hits_addend: 0 }
}

/// Asks Envoy's service about a domain.
pub async fn asks(channel: &Channel, domain: &str) -> Result<RateLimitResponse, Status> {
    let mut client = RateLimitServiceClient::new(channel.clone());
    timeout(SOON, client.should_rate_limit(question(domain))).await.unwrap().map(tonic::Response::into_inner)
}

/// Connects and asks once.
pub async fn connects_and_asks(to: SocketAddr, config: &Arc<ClientConfig>) -> Result<(), String> {
    let channel = secure(to, config).await.map_err(|error| format!("{error:?}"))?;
    asks(&channel, "example").await.map(drop).map_err(|status| format!("{status:?}"))
}

/// One HTTP/1.1 request; the answer's status and body.
pub async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    line: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    try_http(stream, line, headers, body).await.unwrap()
}

/// The same where it may fail.
pub async fn try_http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    line: &str,
    headers: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await??;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no answer: {answer:?}")))?;
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}
