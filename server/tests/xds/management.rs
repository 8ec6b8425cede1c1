//! A management server whose every word the test says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use prost::Message as _;
use prost_types::Any;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tollgate_proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tollgate_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tollgate_proto::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy,
};
use tollgate_server::xds::TYPE_URL;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::world::soon;

type Said = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

/// The server; it ends when it is dropped.
pub struct Management {
    pub address: SocketAddr,
    calls: Receiver<Call>,
    serving: Vec<JoinHandle<()>>,
}

/// Binds `address`, which an earlier listener may be about to leave.
pub async fn bind(address: &str) -> TcpListener {
    soon(async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

impl Drop for Management {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// One stream of a client; it ends when it is dropped.
pub struct Call {
    pub headers: MetadataMap,
    requests: Streaming<DiscoveryRequest>,
    pub say: Sender<Result<DiscoveryResponse, Status>>,
}

pub struct Service(Sender<Call>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Said;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Said>, Status> {
        let (say, said) = channel(8);
        let headers = request.metadata().clone();
        self.0.send(Call { headers, requests: request.into_inner(), say }).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

/// The service, and where its calls come out.
pub fn service() -> (AggregatedDiscoveryServiceServer<Service>, Receiver<Call>) {
    let (tell, calls) = channel(8);
    (AggregatedDiscoveryServiceServer::new(Service(tell)), calls)
}

impl Management {
    pub async fn start() -> Management {
        Management::at("127.0.0.1:0").await
    }

    pub async fn at(address: &str) -> Management {
        let listener = bind(address).await;
        let address = listener.local_addr().unwrap();
        Management::over(address, TcpListenerStream::new(listener))
    }

    /// A server of the connections of `incoming`.
    pub fn over<S>(
        address: SocketAddr,
        incoming: impl Stream<Item = std::io::Result<S>> + Send + 'static,
    ) -> Management
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + tonic::transport::server::Connected,
        S: Send + Unpin + 'static,
    {
        let (service, calls) = service();
        let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Management { address, calls, serving: vec![serving] }
    }

    /// The same, with a task that ends with it.
    pub fn with(mut self, task: JoinHandle<()>) -> Management {
        self.serving.push(task);
        self
    }

    /// The next stream of a client, and its first request.
    pub async fn call(&mut self) -> (Call, DiscoveryRequest) {
        let mut call = soon(self.calls.recv()).await.unwrap();
        let first = call.hears().await;
        (call, first)
    }
}

impl Call {
    /// The next request.
    pub async fn hears(&mut self) -> DiscoveryRequest {
        soon(self.requests.message()).await.unwrap().unwrap()
    }

    /// Sends a version with the nonce `n-version`, and returns what is answered.
    pub async fn sends(&mut self, version: &str, configs: &[RateLimitConfig]) -> DiscoveryRequest {
        self.sends_raw(response(version, configs)).await
    }

    pub async fn sends_raw(&mut self, response: DiscoveryResponse) -> DiscoveryRequest {
        self.say.send(Ok(response)).await.unwrap();
        self.hears().await
    }
}

pub fn response(version: &str, configs: &[RateLimitConfig]) -> DiscoveryResponse {
    let any = |config: &RateLimitConfig| Any { type_url: TYPE_URL.into(), value: config.encode_to_vec() };
    DiscoveryResponse {
        version_info: version.into(),
        resources: configs.iter().map(any).collect(),
        type_url: TYPE_URL.into(),
        nonce: format!("n-{version}"),
        ..DiscoveryResponse::default()
    }
}

/// A domain with one limit of `requests` in `unit`, for each value of `user`.
pub fn config(domain: &str, unit: i32, requests: u32) -> RateLimitConfig {
    let limit = RateLimitPolicy { unit, requests_per_unit: requests, ..RateLimitPolicy::default() };
    let descriptor = descriptor("user", "", Some(limit), Vec::new());
    RateLimitConfig { name: format!("of-{domain}"), domain: domain.into(), descriptors: vec![descriptor] }
}

pub fn descriptor(
    key: &str,
    value: &str,
    rate_limit: Option<RateLimitPolicy>,
    descriptors: Vec<RateLimitDescriptor>,
) -> RateLimitDescriptor {
    RateLimitDescriptor {
        key: key.into(),
        value: value.into(),
        rate_limit,
        descriptors,
        ..RateLimitDescriptor::default()
    }
}
