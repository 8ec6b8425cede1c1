//! The service of tonic, as generated but for the size of what a request may hold.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use tollgate_proto::envoy::service::ratelimit::v3 as wire;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService as _, RateLimitServiceServer,
};
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tower::Service;

use super::RlsService;
use crate::adapter::Invalid;
use crate::adapter::bounded::{Bounded, Crowd};

const CALL: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

type Serving = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The service.
#[derive(Clone)]
pub struct RlsServer {
    service: RlsService,
    /// Answers paths that do not exist.
    others: RateLimitServiceServer<RlsService>,
    max_message_bytes: usize,
}

impl RlsServer {
    /// Serves `service`, whose messages have at most `max_message_bytes`.
    #[must_use]
    pub fn new(service: RlsService, max_message_bytes: usize) -> RlsServer {
        RlsServer { others: RateLimitServiceServer::new(service.clone()), service, max_message_bytes }
    }
}

impl<B> Service<http::Request<B>> for RlsServer
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Serving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Serving {
        if request.uri().path() != CALL {
            return Box::pin(self.others.call(request));
        }
        let (service, max) = (self.service.clone(), self.max_message_bytes);
        Box::pin(async move {
            let mut gzip = EnabledCompressionEncodings::default();
            gzip.enable(CompressionEncoding::Gzip);
            let mut grpc = Grpc::new(Bounded::new(refuse))
                .apply_max_message_size_config(Some(max), None)
                .apply_compression_config(gzip, EnabledCompressionEncodings::default());
            Ok(grpc.unary(ShouldRateLimit(service), request).await)
        })
    }
}

/// As the service itself would.
fn refuse(Crowd { what, found, most }: Crowd) -> Status {
    Status::unknown(Invalid::TooMany { what, found, most }.to_string())
}

struct ShouldRateLimit(RlsService);

impl UnaryService<wire::RateLimitRequest> for ShouldRateLimit {
    type Response = wire::RateLimitResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<wire::RateLimitResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<wire::RateLimitRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.should_rate_limit(request).await })
    }
}
