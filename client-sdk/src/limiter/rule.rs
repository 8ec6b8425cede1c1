//! One question as a part of a pipeline.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Decision, LimiterError, RateLimiterClient, Request};
use crate::deadline::Deadline;
use crate::pipeline::{RateGate, RateRefusal};

/// At most this part of a call's deadline is spent on its decision.
const SHARE: u32 = 10;

/// The same question before every call: see [`RateLimiterClient::rule`].
#[derive(Clone, Debug)]
pub struct RateRule {
    limiter: RateLimiterClient,
    request: Request,
}

impl RateLimiterClient {
    /// Asks `request` before every call of a [`Pipeline`](crate::Pipeline).
    #[must_use]
    pub fn rule(&self, request: Request) -> RateRule {
        RateRule { limiter: self.clone(), request }
    }
}

impl RateGate for RateRule {
    fn admit(&self, deadline: Option<Deadline>) -> BoxFuture<'_, Result<(), RateRefusal>> {
        Box::pin(async move {
            let request = self.timed(deadline);
            verdict(&self.limiter.acquire(request).await)
        })
    }
}

impl RateRule {
    /// The question, fitted into the call's deadline.
    fn timed(&self, deadline: Option<Deadline>) -> Request {
        let (request, usual) = (self.request.clone(), self.limiter.deadline());
        let Some(deadline) = deadline else { return request };
        let left = deadline.remaining();
        request.deadline(usual.min((left / SHARE).max(Duration::from_millis(1)))).max_wait(usual.min(left))
    }
}

fn verdict(decision: &Decision) -> Result<(), RateRefusal> {
    if decision.allowed {
        return Ok(());
    }
    if decision.is_closed() {
        let unavailable = LimiterError::Unavailable {
            message: "no decision, and the failure mode is closed".into(),
            retry_after: decision.retry_advice,
        };
        return Err(RateRefusal::Unavailable(Box::new(unavailable)));
    }
    let rule = decision.rule().unwrap_or("rate limit").into();
    Err(RateRefusal::Limited { rule, retry_after: decision.retry_advice })
}
