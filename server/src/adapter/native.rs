//! The native API (`tollgate.v1`): checks, one by one or in a stream, and what operators do to keys.

mod admin;
mod decode;
mod encode;
mod error;
mod lease;
mod memo;
mod read;
mod server;
mod stream;
mod turn;
mod write;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http::Extensions;
use prost::Message as _;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::rate_limiter_server::RateLimiter;
use tonic::{Request, Response, Status, Streaming};

pub use self::admin::AdminService;
pub use self::error::{Code, NotDecided};
pub use self::lease::Leases;
use self::memo::Memory;
pub use self::server::{Leaving, NativeServer};
use self::stream::Answers;
use super::rls::deadline;
use crate::access::Scope;
use crate::engine::Engine;
use crate::overload::Gate;
use crate::telemetry::metrics::{Answered, Api, ErrorKind};

/// The service.
#[derive(Clone)]
pub struct NativeService {
    engine: Arc<Engine>,
    leases: Leases,
    gate: Gate,
    /// The domains of whoever has the stream that this serves; `None`: all, or each call says.
    scope: Option<Scope>,
}

impl NativeService {
    /// A service that asks `engine`, whose limits `leases` are on.
    #[must_use]
    pub fn new(engine: Arc<Engine>, leases: Leases) -> NativeService {
        NativeService { engine, leases, gate: Gate::default(), scope: None }
    }

    /// The same on a worker whose `gate` sheds checks.
    #[must_use]
    pub fn behind(self, gate: Gate) -> NativeService {
        NativeService { gate, ..self }
    }

    /// The same for the stream of a caller who may ask about the domains of `scope` alone.
    #[must_use]
    fn within(mut self, scope: Option<Scope>) -> NativeService {
        self.scope = scope;
        self
    }

    /// Refuses, and counts, a request about a `domain` that is not its sender's.
    pub(super) fn permit(&self, extensions: &Extensions, domain: &str, api: Api) -> Result<(), NotDecided> {
        let permitted = NotDecided::unless_permitted(extensions, domain);
        if permitted.is_err() {
            self.engine.metrics().request(api, Answered::Error(ErrorKind::Forbidden));
        }
        permitted
    }

    /// Answers one check whose caller waits at most `deadline`, and counts it.
    ///
    /// # Errors
    /// Checks that cannot be decided, see [`NotDecided`].
    pub async fn answer(
        &self,
        request: &wire::CheckRequest,
        deadline: Option<Duration>,
        api: Api,
    ) -> Result<wire::CheckResponse, NotDecided> {
        let answer = match &self.scope {
            Some(scope) if !scope.permits(&request.domain) => {
                Err(NotDecided::Forbidden { domain: request.domain.clone() })
            }
            // those of a stream have passed the gate already
            _ if api != Api::CheckStream && !self.gate.admits(decode::class(request.criticality)) => {
                Err(NotDecided::Shed)
            }
            _ => self.decide(request, deadline).await,
        };
        self.engine.metrics().request(api, answered(&answer));
        answer
    }

    /// Whether a check of a stream is shed; counts it then.
    fn sheds(&self, check: &[u8]) -> bool {
        let shed = self.gate.is_troubled() && !self.gate.admits(decode::class(read::criticality(check)));
        if shed {
            self.engine.metrics().request(Api::CheckStream, Answered::Error(kind(&NotDecided::Shed)));
        }
        shed
    }

    async fn decide(
        &self,
        request: &wire::CheckRequest,
        deadline: Option<Duration>,
    ) -> Result<wire::CheckResponse, NotDecided> {
        let check = decode::check(request, deadline)?;
        let rules = self.engine.rules();
        let rules = rules.as_deref().ok_or(NotDecided::NoRules)?;
        let decision = self.engine.decide_as(rules, &check.query, check.manner()).await?;
        Ok(encode::response(&decision, request.explain))
    }
}

#[tonic::async_trait]
impl RateLimiter for NativeService {
    type CheckStreamStream = Pin<Box<dyn Stream<Item = Result<wire::CheckStreamResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<wire::CheckRequest>,
    ) -> Result<Response<wire::CheckResponse>, Status> {
        let deadline = deadline(request.metadata());
        self.permit(request.extensions(), &request.get_ref().domain, Api::Check)?;
        let answer = self.answer(request.get_ref(), deadline, Api::Check).await;
        Ok(Response::new(answer?))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<wire::CheckStreamRequest>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        let leaving = request.extensions().get::<Leaving>().cloned().unwrap_or_default();
        let scope = Scope::of(request.extensions()).cloned();
        // for who serves the generated service; ours ([`NativeServer`]) never makes messages of the bytes
        let asked = request.into_inner().map_ok(|message| Bytes::from(message.encode_to_vec()));
        let answers =
            Answers::new(self.clone().within(scope), asked, (leaving.0, Memory::default())).map(|message| {
                let decoded = wire::CheckStreamResponse::decode(&message?[..]);
                decoded.map_err(|error| Status::internal(error.to_string()))
            });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease(
        &self,
        request: Request<wire::LeaseRequest>,
    ) -> Result<Response<wire::LeaseResponse>, Status> {
        self.permit(request.extensions(), &request.get_ref().domain, Api::Lease)?;
        let answer = self.leases.lease(request.get_ref(), deadline(request.metadata())).await;
        let result = match &answer {
            Ok(response) if response.granted > 0 => Answered::Ok,
            Ok(_) => Answered::OverLimit,
            Err(error) => Answered::Error(kind(error)),
        };
        self.engine.metrics().request(Api::Lease, result);
        Ok(Response::new(answer?))
    }

    async fn return_lease(
        &self,
        request: Request<wire::ReturnLeaseRequest>,
    ) -> Result<Response<wire::ReturnLeaseResponse>, Status> {
        self.permit(request.extensions(), &request.get_ref().domain, Api::Lease)?;
        let answer = self.leases.return_lease(request.get_ref(), deadline(request.metadata())).await;
        Ok(Response::new(answer?))
    }
}

/// How an answer is counted.
fn answered(answer: &Result<wire::CheckResponse, NotDecided>) -> Answered {
    match answer {
        Ok(response) if response.allowed => Answered::Ok,
        Ok(_) => Answered::OverLimit,
        Err(error) => Answered::Error(kind(error)),
    }
}

const fn kind(error: &NotDecided) -> ErrorKind {
    match error {
        NotDecided::Store(_) => ErrorKind::Store,
        NotDecided::NoRules | NotDecided::Shed => ErrorKind::Service,
        NotDecided::Field { .. } => ErrorKind::Malformed,
        NotDecided::Forbidden { .. } => ErrorKind::Forbidden,
    }
}

#[cfg(test)]
mod tests;
