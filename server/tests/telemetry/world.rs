//! A whole server in this process, and a client.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_server::app::{App, Listeners, run};
use tollgate_server::config::settings::{Environment, Flags, load};
use tollgate_server::telemetry::log;
use tollgate_server::transport::Bound;
use tonic::Request;
use tonic::transport::Channel;

const RULES: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: route
    rate_limit: { unit: day, requests_per_unit: 1000 }
";

/// A server that serves until it is dropped or asked to leave.
pub(crate) struct Server {
    client: RateLimitServiceClient<Channel>,
    http: String,
    admin: String,
    leave: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<()>>,
    _rules: TempDir,
    _reload: mpsc::Sender<()>,
}

impl Server {
    /// A server with these variables in its environment.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Server {
        let rules = tempfile::tempdir().unwrap();
        std::fs::write(rules.path().join("shop.yaml"), RULES).unwrap();
        let folder = rules.path().display().to_string();
        let own = [
            ("TOLLGATE__RULES__DIR", &*folder),
            ("TOLLGATE__GRPC__HOST", "127.0.0.1"),
            ("TOLLGATE__GRPC__PORT", "0"),
            ("TOLLGATE__GRPC__WORKERS", "1"),
            ("TOLLGATE__HTTP__HOST", "127.0.0.1"),
            ("TOLLGATE__HTTP__PORT", "0"),
            ("TOLLGATE__ADMIN__PORT", "0"),
        ];
        let environment: Environment = own.iter().chain(variables).copied().collect();
        let effective = load(&environment, &Flags::new()).unwrap();
        let listeners = Listeners::bind(&effective.settings).await.unwrap();
        let [grpc, http, admin] = [&listeners.grpc, &listeners.http, &listeners.admin].map(|listener| {
            match listener.bound().unwrap() {
                Bound::Tcp(address) => address.to_string(),
                Bound::Unix(_) => unreachable!("all listen on TCP"),
            }
        });
        let log = log::init(&effective.settings.log);
        let (leave, left) = oneshot::channel();
        let (_reload, reload) = mpsc::channel(1);
        let app = App::new(effective, listeners, log, reload);
        let running = tokio::spawn(run(app, async move { drop(left.await) }));
        let channel = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
        let client = RateLimitServiceClient::new(channel);
        let server = Server { client, http, admin, leave, running, _rules: rules, _reload };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&self) {
        eventually(async || self.web(&self.http, "GET /readyz", &[]).await.contains("200 OK").then_some(()))
            .await;
    }

    /// Asks once; whether it may go on.
    pub(crate) async fn asks(&self, key: &str, headers: &[(&'static str, &str)]) -> bool {
        let entry = Entry { key: key.into(), value: "ann".into() };
        let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
        let mut request = Request::new(RateLimitRequest {
            domain: "shop".into(),
            descriptors: vec![descriptor],
            ..Default::default()
        });
        for (name, value) in headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let answer = self.client.clone().should_rate_limit(request).await.unwrap().into_inner();
        answer.overall_code == 1
    }

    /// An HTTP request to the public port.
    pub(crate) async fn http(&self, line: &str, headers: &[&str]) -> String {
        self.web(&self.http, line, headers).await
    }

    /// The metrics page.
    pub(crate) async fn page(&self) -> String {
        self.web(&self.admin, "GET /metrics", &[]).await
    }

    async fn web(&self, address: &str, line: &str, headers: &[&str]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        headers.iter().for_each(|header| request += &format!("{header}\r\n"));
        request += "\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Leaves as on SIGTERM; waits until it has.
    pub(crate) async fn leave(self) {
        drop(self.client);
        self.leave.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.running).await.unwrap().unwrap().unwrap();
    }
}

/// Waits for something, for a time that is long for any machine.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it has not come to pass within 30 s");
}

/// The value of a line of the metrics page.
pub(crate) fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}
