//! A tonic server in this process that answers as it is told, and channels to it.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses what it needs of it, and may panic")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_stream::{Stream, StreamExt};
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use tollgate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tollgate_proto::tollgate::v1::rate_limiter_server::{RateLimiter, RateLimiterServer};
use tollgate_proto::tollgate::v1::{
    CheckRequest, CheckResponse, CheckStreamRequest, CheckStreamResponse, LeaseRequest, LeaseResponse,
    ReturnLeaseRequest, ReturnLeaseResponse,
};
use tonic::metadata::MetadataMap;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// What the server does with one call.
#[derive(Clone)]
pub(crate) enum Answer {
    Ok,
    Err(Status),
    /// Waits until [`Target::release`].
    Hold,
    /// Streams messages, then the status.
    Messages(u32, Option<Status>),
}

type Script = Box<dyn Fn(u32) -> Answer + Send + Sync>;

/// The server's service; clones share one state.
#[derive(Clone)]
pub(crate) struct Target(Arc<Inner>);

struct Inner {
    script: Script,
    calls: AtomicU32,
    held: AtomicU32,
    seen: Mutex<Vec<(MetadataMap, String)>>,
    released: Notify,
}

struct Holding<'i>(&'i AtomicU32);

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Target {
    /// Answers the n-th call (from 0) as `script` says.
    pub(crate) fn new(script: impl Fn(u32) -> Answer + Send + Sync + 'static) -> Target {
        Target(Arc::new(Inner {
            script: Box::new(script),
            calls: AtomicU32::new(0),
            held: AtomicU32::new(0),
            seen: Mutex::default(),
            released: Notify::new(),
        }))
    }

    /// Calls that arrived.
    pub(crate) fn calls(&self) -> u32 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Calls that are being held.
    pub(crate) fn held(&self) -> u32 {
        self.0.held.load(Ordering::SeqCst)
    }

    /// Lets every held call end.
    pub(crate) fn release(&self) {
        self.0.released.notify_waiters();
    }

    /// The metadata and the domain of each call.
    pub(crate) fn seen(&self) -> Vec<(MetadataMap, String)> {
        self.0.seen.lock().unwrap().clone()
    }

    async fn answer(&self, metadata: &MetadataMap, domain: &str) -> Answer {
        let inner = &*self.0;
        inner.seen.lock().unwrap().push((metadata.clone(), domain.to_owned()));
        let answer = (inner.script)(inner.calls.fetch_add(1, Ordering::SeqCst));
        if matches!(answer, Answer::Hold) {
            let released = inner.released.notified();
            inner.held.fetch_add(1, Ordering::SeqCst);
            let _holding = Holding(&inner.held);
            released.await;
        }
        answer
    }

    /// Serves on a free port.
    pub(crate) async fn serve(&self) -> SocketAddr {
        self.serve_in(Server::builder().add_service(RateLimitServiceServer::new(self.clone()))).await
    }

    /// Serves in `router` on a free port.
    pub(crate) async fn serve_in(&self, router: Router) -> SocketAddr {
        let (incoming, address) = listen().await;
        let router = router.add_service(RateLimiterServer::new(self.clone()));
        tokio::spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
        address
    }

    /// Serves, and connects.
    pub(crate) async fn channel(&self) -> Channel {
        endpoint(self.serve().await).connect().await.unwrap()
    }
}

/// A free port.
pub(crate) async fn listen() -> (TcpIncoming, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (TcpIncoming::from(listener), address)
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

/// Waits until `condition` holds, for ten seconds at most.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
}

#[tonic::async_trait]
impl RateLimitService for Target {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        match self.answer(request.metadata(), &request.get_ref().domain).await {
            Answer::Err(status) => Err(status),
            _ => Ok(Response::new(RateLimitResponse::default())),
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<CheckStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl RateLimiter for Target {
    type CheckStreamStream = Answers;

    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<CheckStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        match self.answer(request.metadata(), "").await {
            Answer::Err(status) => Err(status),
            Answer::Messages(count, end) => {
                let messages = (0..count).map(|_| Ok(CheckStreamResponse::default()));
                Ok(Response::new(Box::pin(tokio_stream::iter(messages.chain(end.map(Err))))))
            }
            Answer::Ok | Answer::Hold => {
                let first = tokio_stream::once(Ok(CheckStreamResponse::default()));
                Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
            }
        }
    }

    async fn lease(&self, _: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn return_lease(
        &self,
        _: Request<ReturnLeaseRequest>,
    ) -> Result<Response<ReturnLeaseResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}
