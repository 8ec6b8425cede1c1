//! The native API (`tollgate.v1`): checks, one by one or in a stream, and what operators do to keys.

mod admin;
mod decode;
mod encode;
mod error;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::rate_limiter_server::RateLimiter;
use tonic::{Request, Response, Status, Streaming};

pub use self::admin::AdminService;
pub use self::error::{Code, NotDecided};
use self::stream::Answers;
use super::rls::deadline;
use crate::engine::Engine;
use crate::telemetry::metrics::{Answered, Api, ErrorKind};

/// The service.
#[derive(Clone)]
pub struct NativeService {
    engine: Arc<Engine>,
}

impl NativeService {
    /// A service that asks `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> NativeService {
        NativeService { engine }
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
        let answer = self.decide(request, deadline).await;
        self.engine.metrics().request(api, answered(&answer));
        answer
    }

    /// The same, if nothing has to be waited for.
    fn answer_now(
        &self,
        request: &wire::CheckRequest,
        api: Api,
    ) -> Option<Result<wire::CheckResponse, NotDecided>> {
        let answer = self.decide_now(request).transpose()?;
        self.engine.metrics().request(api, answered(&answer));
        Some(answer)
    }

    fn decide_now(&self, request: &wire::CheckRequest) -> Result<Option<wire::CheckResponse>, NotDecided> {
        let check = decode::check(request, None)?;
        let rules = self.engine.rules();
        let rules = rules.as_deref().ok_or(NotDecided::NoRules)?;
        let decision = self.engine.decide_now(rules, &check.query, check.manner()).transpose()?;
        Ok(decision.map(|decision| encode::response(&decision, request.explain)))
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
    type CheckStreamStream = Answers;

    async fn check(
        &self,
        request: Request<wire::CheckRequest>,
    ) -> Result<Response<wire::CheckResponse>, Status> {
        let deadline = deadline(request.metadata());
        let answer = self.answer(request.get_ref(), deadline, Api::Check).await;
        Ok(Response::new(answer?))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<wire::CheckStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Ok(Response::new(Answers::new(self.clone(), request.into_inner())))
    }

    async fn lease(&self, _: Request<wire::LeaseRequest>) -> Result<Response<wire::LeaseResponse>, Status> {
        Err(Status::unimplemented("LEASE-PLACEHOLDER"))
    }

    async fn return_lease(
        &self,
        _: Request<wire::ReturnLeaseRequest>,
    ) -> Result<Response<wire::ReturnLeaseResponse>, Status> {
        Err(Status::unimplemented("LEASE-PLACEHOLDER"))
    }
}

/// How an answer is counted.
fn answered(answer: &Result<wire::CheckResponse, NotDecided>) -> Answered {
    match answer {
        Ok(response) if response.allowed => Answered::Ok,
        Ok(_) => Answered::OverLimit,
        Err(NotDecided::Store(_)) => Answered::Error(ErrorKind::Store),
        Err(NotDecided::NoRules) => Answered::Error(ErrorKind::Service),
        Err(NotDecided::Field { .. }) => Answered::Error(ErrorKind::Malformed),
    }
}
