//! From a request to a question.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::load::deadline::parse_timeout;

use super::key::{KeySource, RequestView};
use crate::clock::duration;
use crate::limiter::{Decision, LimiterConfigError, RateLimiterClient, Request};

/// At most this part of a request's own deadline is spent on its decision.
const SHARE: u32 = 10;

type Cost = dyn Fn(RequestView<'_>) -> u64 + Send + Sync;

/// What is asked about each request.
#[derive(Clone)]
pub(super) struct Questions {
    limiter: RateLimiterClient,
    descriptors: Vec<Vec<(String, KeySource)>>,
    cost: Option<Arc<Cost>>,
    max_hold: Option<Duration>,
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |entries: &Vec<(String, KeySource)>| policy(entries);
        f.debug_struct("Questions")
            .field("descriptors", &self.descriptors.iter().map(names).collect::<Vec<_>>())
            .field("max_hold", &self.max_hold)
            .finish_non_exhaustive()
    }
}

/// A question, and which descriptors it has.
pub(super) struct Question {
    request: Request,
    /// Names of the descriptors that the request has values for.
    asked: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) decision: Decision,
    /// Name of the limit that the decision describes.
    pub(super) policy: String,
}

impl Questions {
    pub(super) fn new(limiter: RateLimiterClient) -> Questions {
        Questions { limiter, descriptors: Vec::new(), cost: None, max_hold: None }
    }

    pub(super) fn add(&mut self, entries: Vec<(String, KeySource)>) {
        self.descriptors.push(entries);
    }

    pub(super) fn cost(&mut self, cost: impl Fn(RequestView<'_>) -> u64 + Send + Sync + 'static) {
        self.cost = Some(Arc::new(cost));
    }

    pub(super) fn max_hold(&mut self, hold: Duration) {
        self.max_hold = Some(hold);
    }

    pub(super) fn checked(self) -> Result<Questions, LimiterConfigError> {
        let problem = |problem: &str| Err(LimiterConfigError::new("descriptor", problem));
        if self.descriptors.is_empty() {
            return problem("at least one is needed");
        }
        let nameless = |entries: &Vec<(String, KeySource)>| {
            entries.is_empty() || entries.iter().any(|(name, _)| name.is_empty())
        };
        if self.descriptors.iter().any(nameless) {
            return problem("each needs an entry, and each entry a name");
        }
        Ok(self)
    }

    /// What to ask about `request`; nothing if it has none of the values.
    pub(super) fn about(&self, request: RequestView<'_>) -> Option<Question> {
        let mut asked = Vec::with_capacity(self.descriptors.len());
        let mut question = Request::default();
        for entries in &self.descriptors {
            let values: Option<Vec<(String, String)>> =
                entries.iter().map(|(name, source)| Some((name.clone(), source.find(request)?))).collect();
            if let Some(values) = values {
                question = question.descriptor(values);
                asked.push(policy(entries));
            }
        }
        if asked.is_empty() {
            return None;
        }
        if let Some(cost) = &self.cost {
            question = question.cost(cost(request));
        }
        Some(Question { request: self.timed(question, request), asked })
    }

    /// Fits the question into the request's own deadline.
    fn timed(&self, mut question: Request, request: RequestView<'_>) -> Request {
        let timeout = request.headers().get("grpc-timeout").and_then(|timeout| timeout.to_str().ok());
        let timeout = timeout.and_then(parse_timeout).map(duration);
        let deadline = self.limiter.deadline();
        if let Some(timeout) = timeout {
            question = question.deadline(deadline.min((timeout / SHARE).max(Duration::from_millis(1))));
        }
        match [self.max_hold, timeout].into_iter().flatten().min() {
            Some(hold) => question.max_wait(hold),
            None => question,
        }
    }

    /// Asks, and waits for the turn.
    pub(super) async fn ask(&self, question: Question) -> Answered {
        let Question { request, asked } = question;
        let decision = self.limiter.acquire(request).await;
        // a decision that does not come from the service does not say whose it is
        let policy = decision.tightest_place().and_then(|place| asked.get(place).cloned());
        let policy = policy.unwrap_or_else(|| asked.join(","));
        Answered { decision, policy }
    }
}

fn policy(entries: &[(String, KeySource)]) -> String {
    entries.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(".")
}
