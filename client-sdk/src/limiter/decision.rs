//! What came of a question.

use std::sync::Arc;
use std::time::Duration;

use tollgate_proto::tollgate::v1::{Accuracy, CheckResponse, DecidedBy, LimitStatus, limit_status::Outcome};

use super::wire;

/// Where a decision came from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum DecisionSource {
    /// The limiter was asked.
    Service,
    /// Tokens that were bought in advance.
    Lease,
    /// An earlier refusal that still holds.
    CachedDenial,
    /// The limiter could not answer; the bucket in this process did.
    LocalFallback,
    /// The limiter could not answer; whoever asks goes on.
    FailOpen,
    /// The limiter could not answer; nobody goes on.
    FailClosed,
}

impl DecisionSource {
    /// Every source, in the order of [`DecisionSource::index`].
    pub const ALL: [DecisionSource; 6] = [
        DecisionSource::Service,
        DecisionSource::Lease,
        DecisionSource::CachedDenial,
        DecisionSource::LocalFallback,
        DecisionSource::FailOpen,
        DecisionSource::FailClosed,
    ];

    /// Place in [`DecisionSource::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DecisionSource::Service => "service",
            DecisionSource::Lease => "lease",
            DecisionSource::CachedDenial => "cached_denial",
            DecisionSource::LocalFallback => "local_fallback",
            DecisionSource::FailOpen => "fail_open",
            DecisionSource::FailClosed => "fail_closed",
        }
    }

    /// Whether the limiter could not answer.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, DecisionSource::LocalFallback | DecisionSource::FailOpen | DecisionSource::FailClosed)
    }
}

/// The answer to a [`Request`](super::Request). A refusal is an answer, not an error.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Capacity of the fullest limit, units; 0 if no limit was asked.
    pub limit: u64,
    /// How many further requests of cost 1 the fullest limit would admit; 0 if no limit was asked.
    pub remaining: u64,
    /// If refused: refused at every instant before this has passed, admitted exactly then if nobody else comes.
    /// Exact, without jitter. `None` if admitted, and if [`Decision::never`].
    pub retry_after: Option<Duration>,
    /// If refused: come again after this. It is `retry_after` and a random part of the jitter that the limiter
    /// advised, so that not all who were refused come at once.
    pub retry_advice: Option<Duration>,
    /// If refused: this cost can never be admitted.
    pub never: bool,
    /// Until the window ends (fixed window) or nothing is in use (the others).
    pub reset_after: Duration,
    /// If admitted: wait this long before going on (leaky bucket); the place in the queue is taken.
    pub wait: Duration,
    /// How full the fullest limit is, 0 to 1.
    pub pressure: f32,
    /// Which counter answered for the fullest limit.
    pub by: DecidedBy,
    /// How exact the answer is.
    pub accuracy: Accuracy,
    /// Where the decision came from.
    pub source: DecisionSource,
    /// What each limit said, one for each descriptor; empty unless the service answered.
    pub limits: Arc<[LimitStatus]>,
}

impl Decision {
    /// A decision without a limit behind it.
    pub(super) fn bare(allowed: bool, source: DecisionSource) -> Decision {
        Decision {
            allowed,
            limit: 0,
            remaining: 0,
            retry_after: None,
            retry_advice: None,
            never: false,
            reset_after: Duration::ZERO,
            wait: Duration::ZERO,
            pressure: 0.0,
            by: DecidedBy::Unspecified,
            accuracy: Accuracy::Approximate,
            source,
            limits: Arc::default(),
        }
    }

    /// What the service said. `jitter` picks a part of what it advised.
    pub(super) fn from_service(
        response: CheckResponse,
        jitter: impl FnOnce(Duration) -> Duration,
    ) -> Decision {
        let retry_after = wire::optional(response.retry_after.as_ref()).filter(|_| !response.allowed);
        let advised = wire::optional(response.retry_jitter.as_ref()).unwrap_or_default();
        let mut decision = Decision {
            retry_after,
            retry_advice: retry_after.map(|after| after.saturating_add(jitter(advised))),
            never: !response.allowed && response.never,
            wait: wire::optional(response.wait.as_ref()).unwrap_or_default(),
            pressure: response.pressure.clamp(0.0, 1.0),
            ..Decision::bare(response.allowed, DecisionSource::Service)
        };
        if let Some(tightest) = tightest(&response.limits) {
            decision.describe(tightest);
        }
        decision.limits = response.limits.into();
        decision
    }

    /// Takes over what the fullest limit said of itself.
    pub(super) fn describe(&mut self, limit: &LimitStatus) {
        self.limit = limit.limit;
        self.remaining = if limit.allowed { limit.remaining } else { 0 };
        self.reset_after = wire::optional(limit.reset_after.as_ref()).unwrap_or_default();
        self.by = limit.by();
        self.accuracy = limit.accuracy();
    }

    /// Which descriptor the decision describes, in the order of the request; `None` unless the service answered.
    pub(crate) fn tightest_place(&self) -> Option<usize> {
        let tightest = tightest(&self.limits)?;
        self.limits.iter().position(|limit| std::ptr::eq(limit, tightest))
    }

    /// Whether it is a refusal for want of a decision.
    pub(crate) fn is_closed(&self) -> bool {
        !self.allowed && self.source == DecisionSource::FailClosed
    }

    /// Whether the limiter could not answer and the failure mode did.
    #[must_use]
    pub const fn is_fallback(&self) -> bool {
        self.source.is_failure()
    }

    /// The name of the rule that the decision describes; only if the request asked for it by
    /// [`Request::explain`](super::Request::explain).
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        tightest(&self.limits).map(|limit| &*limit.rule).filter(|rule| !rule.is_empty())
    }
}

/// The limit that refused, else the one with the least left.
pub(super) fn tightest(limits: &[LimitStatus]) -> Option<&LimitStatus> {
    let decided = limits.iter().filter(|limit| limit.outcome() == Outcome::Decided);
    decided.min_by_key(|limit| (limit.allowed, limit.remaining))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(allowed: bool, remaining: u64) -> LimitStatus {
        LimitStatus {
            outcome: Outcome::Decided.into(),
            allowed,
            limit: 10,
            remaining,
            by: DecidedBy::Memory.into(),
            ..LimitStatus::default()
        }
    }

    fn response(allowed: bool) -> CheckResponse {
        let second = prost_types::Duration { seconds: 1, nanos: 0 };
        CheckResponse {
            allowed,
            limits: vec![status(true, 3), status(allowed, 5)],
            retry_after: (!allowed).then_some(second),
            retry_jitter: (!allowed).then_some(second),
            pressure: 1.5,
            ..CheckResponse::default()
        }
    }

    #[test]
    fn the_exact_figure_is_kept_and_the_advice_is_later() {
        let decision = Decision::from_service(response(false), |jitter| jitter / 4);
        assert_eq!(decision.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(decision.retry_advice, Some(Duration::from_millis(1_250)));
        assert!((decision.pressure - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn the_limit_that_refused_is_described_before_the_fullest() {
        assert_eq!(Decision::from_service(response(true), |_| Duration::ZERO).remaining, 3);
        assert_eq!(Decision::from_service(response(false), |_| Duration::ZERO).remaining, 0);
    }

    #[test]
    fn sources_know_their_place() {
        for (place, source) in DecisionSource::ALL.into_iter().enumerate() {
            assert_eq!(source.index(), place);
        }
    }
}
