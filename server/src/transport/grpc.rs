//! Which gRPC service a call is for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::service::Service;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;

use super::connection::{Body as Incoming, Never};
use super::watch;
use crate::access::Introduction;
use crate::adapter::native::{Leaving, NativeServer, NativeService};
use crate::adapter::rls::{RlsServer, RlsService};
use crate::telemetry::calls::Calls;
use crate::telemetry::metrics::Method;

const RLS: &str = "/envoy.service.ratelimit.v3.RateLimitService/";
const NATIVE: &str = "/tollgate.v1.RateLimiter/";
const CIRCUITS: &str = "/tollgate.v1.CircuitBreakers/";
const GRPC_STATUS: &str = "grpc-status";

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Never>> + Send>>;

/// Every gRPC service of this server, told apart by the path.
#[derive(Clone)]
pub struct GrpcService {
    rls: RlsServer,
    native: NativeServer,
    others: Routes,
    leaving: Leaving,
    introduction: Option<Introduction>,
    calls: Option<Arc<Calls>>,
}

impl GrpcService {
    /// The same for one connection, whose calls are told by `leaving` that it is about to be closed, and carry
    /// what is known of its peer.
    #[must_use]
    pub(super) fn on(
        mut self,
        leaving: CancellationToken,
        introduction: Option<Introduction>,
    ) -> GrpcService {
        self.leaving = Leaving(leaving);
        self.introduction = introduction;
        self
    }

    /// Serves `rls` and `native`, whose messages have at most `max_message_bytes`, and for every other path
    /// `others`.
    #[must_use]
    pub fn new(
        rls: RlsService,
        native: NativeService,
        max_message_bytes: usize,
        others: Routes,
    ) -> GrpcService {
        let rls = RlsServer::new(rls, max_message_bytes);
        let native = NativeServer::new(native, max_message_bytes);
        GrpcService {
            rls,
            native,
            others: others.prepare(),
            leaving: Leaving::default(),
            introduction: None,
            calls: None,
        }
    }
}

impl GrpcService {
    /// The same, with every call watched by `calls`.
    #[must_use]
    pub fn watched_by(mut self, calls: Arc<Calls>) -> GrpcService {
        self.calls = Some(calls);
        self
    }
}

impl Service<Request<Incoming>> for GrpcService {
    type Response = Response<Body>;
    type Error = Never;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Answer {
        let method = Method::of(request.uri().path());
        let call = self.calls.as_ref().map(|calls| calls.rpc(method, request.headers()));
        if let Some(introduction) = &self.introduction
            && !introduction.mark(&mut request)
            && request.uri().path().starts_with(CIRCUITS)
        {
            // circuits have no domain; they are for whoever has one
            let refused = Status::permission_denied("this caller has no identity that the settings name");
            return Box::pin(std::future::ready(Ok(watch::unary(call, refused.into_http()))));
        }
        if request.uri().path().starts_with(RLS) {
            let answer = self.rls.clone().call(request);
            return Box::pin(async move {
                let mut response = watch::within(call.as_ref(), answer).await?;
                name_too_large(response.headers_mut());
                Ok(watch::unary(call, response))
            });
        }
        request.extensions_mut().insert(self.leaving.clone());
        let end = if method.streams() { watch::stream } else { watch::unary };
        if request.uri().path().starts_with(NATIVE) {
            let answer = self.native.clone().call(request);
            return Box::pin(async move {
                let response = watch::within(call.as_ref(), answer).await?;
                Ok(end(call, response))
            });
        }
        let answer = self.others.clone().call(request);
        Box::pin(async move {
            let response = watch::within(call.as_ref(), answer).await?;
            Ok(end(call, response))
        })
    }
}

/// tonic answers a message above the limit with OUT_OF_RANGE (11); grpc-go, and so the reference, with
/// RESOURCE_EXHAUSTED (8). RLS itself never answers 11. Only a failed call has its status in the headers.
fn name_too_large(headers: &mut HeaderMap) {
    if let Some(status) = headers.get_mut(GRPC_STATUS)
        && status == "11"
    {
        *status = HeaderValue::from_static("8");
    }
}
