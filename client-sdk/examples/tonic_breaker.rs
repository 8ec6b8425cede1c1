//! A tonic client with a circuit breaker, and a server in the same process that fails for a while.
//!
//! `cargo run -p tollgate-client --example tonic_breaker`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tollgate_client::breaker::Wait;
use tollgate_client::{
    CircuitBreaker, CircuitBreakerLayer, GrpcClassifier, State, is_circuit_open, retry_after,
};
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use tollgate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tower::ServiceBuilder;

/// A server that can be broken.
#[derive(Clone, Default)]
struct Fragile {
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl RateLimitService for Fragile {
    async fn should_rate_limit(
        &self,
        _: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Status::unavailable("broken"));
        }
        Ok(Response::new(RateLimitResponse::default()))
    }
}

/// The example; returns an error if anything is not as it is told.
pub(crate) async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let server = Fragile::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = RateLimitServiceServer::new(server.clone());
    let serving =
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));

    let breaker = CircuitBreaker::builder("inventory")
        .consecutive_failures(5)
        .wait_in_open(Wait::constant(Duration::from_millis(100)))
        .permitted_calls_in_half_open(1)
        .listener(|change: &tollgate_client::breaker::Transition| {
            println!("  {}: {} -> {} ({:?})", change.name, change.from, change.to, change.reason);
        })
        .build()?;
    let channel = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone(), GrpcClassifier::default()))
        .service(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());
    let mut client = RateLimitServiceClient::new(channel);

    client.should_rate_limit(RateLimitRequest::default()).await?;
    println!("the server is well");

    server.broken.store(true, Ordering::SeqCst);
    println!("the server breaks");
    let (mut failed, mut rejected) = (0, 0);
    for _ in 0..20 {
        match client.should_rate_limit(RateLimitRequest::default()).await {
            Err(status) if is_circuit_open(&status) => {
                rejected += 1;
                assert!(retry_after(&status).is_some(), "it says when to come again");
            }
            Err(_) => failed += 1,
            Ok(_) => return Err("a broken server answered".into()),
        }
    }
    println!("20 calls: {failed} failed at the server, {rejected} were rejected here");
    assert!(rejected > failed);
    assert_eq!(server.calls.load(Ordering::SeqCst), 1 + failed);

    server.broken.store(false, Ordering::SeqCst);
    println!("the server is mended");
    let recover = async {
        while client.should_rate_limit(RateLimitRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), recover).await?;
    assert_eq!(breaker.state(), State::Closed);
    println!("and the breaker has closed");
    serving.abort();
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run().await
}
