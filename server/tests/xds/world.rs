//! A whole server in this process, and what asks it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code};
use tollgate_server::app::{App, Listeners, run};
use tollgate_server::config::settings::{Environment, Flags, load};
use tollgate_server::telemetry::log;
use tollgate_server::transport::Bound;
use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Waits for what has to come, for a time that is long for any machine.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.unwrap()
}

/// A server that serves until it is dropped.
pub struct Server {
    grpc: Channel,
    http: String,
    admin: String,
    pub reload: mpsc::Sender<()>,
    _leave: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Server {
    /// A server with these variables in its environment.
    pub async fn start(server: &str, variables: &[(&str, &str)]) -> Server {
        let own = [
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_URL", server),
            ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "10ms"),
            ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "100ms"),
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
        let (leave, left) = oneshot::channel::<()>();
        let (ask, reload) = mpsc::channel(1);
        let app = App::new(effective, listeners, log, reload);
        let running = tokio::spawn(run(app, async move { drop(left.await) }));
        let grpc = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
        Server { grpc, http, admin, reload: ask, _leave: leave, running }
    }

    /// What a request with one entry gets.
    pub async fn asks(&self, domain: &str, key: &str, value: &str) -> Result<Code, Status> {
        asks(&self.grpc, domain, &[(key, value)]).await
    }

    /// The state that the gRPC health service tells.
    pub async fn health(&self) -> ServingStatus {
        health(&self.grpc).await
    }

    pub async fn metrics(&self) -> String {
        http(&self.admin, "/metrics").await
    }

    pub async fn http(&self, path: &str) -> String {
        http(&self.http, path).await
    }
}

pub async fn asks(to: &Channel, domain: &str, entries: &[(&str, &str)]) -> Result<Code, Status> {
    let entries = entries.iter().map(|(key, value)| Entry { key: (*key).into(), value: (*value).into() });
    let descriptor = RateLimitDescriptor { entries: entries.collect(), ..Default::default() };
    let request = RateLimitRequest { domain: domain.into(), descriptors: vec![descriptor], hits_addend: 0 };
    let answer = soon(RateLimitServiceClient::new(to.clone()).should_rate_limit(request)).await?;
    Ok(answer.into_inner().overall_code())
}

pub async fn health(of: &Channel) -> ServingStatus {
    let request = HealthCheckRequest { service: "ratelimit".into() };
    soon(HealthClient::new(of.clone()).check(request)).await.unwrap().into_inner().status()
}

/// The answer to a GET, head and body.
pub async fn http(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}
