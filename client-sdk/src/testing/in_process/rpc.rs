//! The limiter as the generated service.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tollgate_proto::tollgate::v1::rate_limiter_server::RateLimiter;
use tollgate_proto::tollgate::v1::{
    CheckAnswer, CheckItem, CheckRequest, CheckResponse, CheckStreamRequest, CheckStreamResponse, ItemError,
    LeaseRequest, LeaseResponse, ReturnLeaseRequest, ReturnLeaseResponse, check_answer,
};
use tonic::{Request, Response, Status, Streaming};

use super::InProcessLimiter;

/// Messages of one stream that are answered at the same time, if answers take time.
const AT_ONCE: usize = 1_024;

/// A limiter that is served until it is told to stop.
#[derive(Debug)]
pub(super) struct Rpc {
    pub(super) limiter: InProcessLimiter,
    pub(super) stop: CancellationToken,
}

impl InProcessLimiter {
    async fn late(&self) {
        self.0.messages.fetch_add(1, Relaxed);
        if !self.0.latency.is_zero() {
            tokio::time::sleep(self.0.latency).await;
        }
    }

    async fn answer_all(
        self,
        asked: Result<CheckStreamRequest, Status>,
    ) -> Result<CheckStreamResponse, Status> {
        let items = asked?.items;
        self.late().await;
        let answers = items.iter().map(|item| self.answer(item)).collect();
        Ok(CheckStreamResponse { answers })
    }

    fn answer(&self, item: &CheckItem) -> CheckAnswer {
        let check = item.check.as_ref().ok_or_else(|| Status::invalid_argument("check is needed"));
        let answer = match check.and_then(|check| self.decide(check)) {
            Ok(decision) => check_answer::Answer::Decision(decision),
            Err(status) => {
                let (code, message) = (status.code().into(), status.message().into());
                check_answer::Answer::Error(ItemError { code, message, retry_after: None })
            }
        };
        CheckAnswer { id: item.id, answer: Some(answer) }
    }
}

#[tonic::async_trait]
impl RateLimiter for Rpc {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        self.limiter.late().await;
        self.limiter.decide(request.get_ref()).map(Response::new)
    }

    type CheckStreamStream = Pin<Box<dyn Stream<Item = Result<CheckStreamResponse, Status>> + Send>>;

    async fn check_stream(
        &self,
        request: Request<Streaming<CheckStreamRequest>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        let limiter = self.limiter.clone();
        let answers = request.into_inner().map(move |asked| limiter.clone().answer_all(asked));
        let stop = self.stop.clone().cancelled_owned().boxed();
        // ends after the answer that is under way, so that no question that was read goes without one
        let answers: Self::CheckStreamStream = if self.limiter.0.latency.is_zero() {
            answers.buffered(1).take_until(stop).boxed()
        } else {
            answers.buffer_unordered(AT_ONCE).take_until(stop).boxed()
        };
        Ok(Response::new(answers))
    }

    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        self.limiter.late().await;
        self.limiter.lease(request.get_ref()).map(Response::new)
    }

    async fn return_lease(
        &self,
        request: Request<ReturnLeaseRequest>,
    ) -> Result<Response<ReturnLeaseResponse>, Status> {
        self.limiter.return_lease(request.get_ref()).map(Response::new)
    }
}
