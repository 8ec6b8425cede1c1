//! What to answer when the limiter cannot.

use std::time::Duration;

use tollgate_core::time::Time;

use super::decision::{Decision, DecisionSource};
use super::error::{ConfigError, LimiterError};
use super::local::{LocalBuckets, LocalLimit};
use super::memory::{Remembered, remembered};
use super::request::Ask;
use crate::clock::{duration, span};

/// Longest time for which a refusal may be told again.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What a question is answered that the limiter gave no decision for. Counted by source, and visible in
/// [`Decision::source`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum FailureMode {
    /// Whoever asks goes on: for limits that protect. [`DecisionSource::FailOpen`].
    #[default]
    Open,
    /// Nobody goes on: for quotas and bills. [`DecisionSource::FailClosed`].
    Closed,
    /// A bucket in this process decides. [`DecisionSource::LocalFallback`].
    Local(LocalLimit),
    /// A key that the limiter has refused within `ttl` is refused, every other one goes on.
    LastDecision {
        /// How long a refusal is told again, 1 ms to 1 h.
        ttl: Duration,
    },
}

/// A failure mode, ready.
#[derive(Debug)]
pub(super) enum Fallback {
    Open,
    Closed,
    Local(LocalBuckets),
    Last { ttl: Duration, refused: Remembered<Time> },
}

impl Fallback {
    pub(super) fn new(mode: &FailureMode, keys: u64) -> Result<Fallback, ConfigError> {
        Ok(match mode {
            FailureMode::Open => Fallback::Open,
            FailureMode::Closed => Fallback::Closed,
            FailureMode::Local(limit) => Fallback::Local(LocalBuckets::new(limit, keys)?),
            FailureMode::LastDecision { ttl } if (Duration::from_millis(1)..=LONGEST).contains(ttl) => {
                Fallback::Last { ttl: *ttl, refused: remembered(keys) }
            }
            FailureMode::LastDecision { ttl } => {
                return Err(ConfigError::new(
                    "failure_mode.ttl",
                    format!("{ttl:?} is not within 1 ms to 1 h"),
                ));
            }
        })
    }

    /// Keeps what the limiter decided, if this mode needs it.
    pub(super) fn remember(&self, ask: &Ask, now: Time, decision: &Decision) {
        let Fallback::Last { refused, .. } = self else { return };
        if ask.plain_cost().is_none() {
            return;
        }
        if !decision.allowed {
            refused.insert(ask.key.clone(), now);
        } else if refused.contains_key(&ask.key) {
            refused.invalidate(&ask.key);
        }
    }

    /// The answer in place of the limiter's.
    pub(super) fn answer(&self, ask: &Ask, now: Time, error: &LimiterError) -> Decision {
        let open = || Decision::bare(true, DecisionSource::FailOpen);
        match self {
            // whatever is given back or looked at is no reason to keep anybody
            _ if ask.wire.refund => open(),
            Fallback::Open => open(),
            Fallback::Closed => refused(error.retry_after()),
            // descriptors with costs of their own share one bucket here, and the largest is charged
            Fallback::Local(buckets) => buckets.decide(&ask.key, now, ask.largest_cost()),
            Fallback::Last { ttl, refused: at } => {
                let until = at.get(&ask.key).map(|at| at + span(*ttl)).filter(|&until| now < until);
                until.map_or_else(open, |until| refused(Some(duration(until - now))))
            }
        }
    }
}

impl Fallback {
    /// The answer to what cannot be asked at all: nothing is known of its key.
    pub(super) fn unasked(&self) -> Decision {
        match self {
            Fallback::Closed | Fallback::Local(_) => refused(None),
            Fallback::Open | Fallback::Last { .. } => Decision::bare(true, DecisionSource::FailOpen),
        }
    }
}

fn refused(retry_after: Option<Duration>) -> Decision {
    Decision { retry_after, retry_advice: retry_after, ..Decision::bare(false, DecisionSource::FailClosed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::request::Request;
    use tollgate_core::time::Span;

    fn at(millis: u64) -> Time {
        Time::EPOCH + Span::from_secs(1_000) + Span::from_millis(millis)
    }

    fn ask() -> Ask {
        Request::of([("tenant", "acme")]).prepare("shop", Duration::from_millis(50)).unwrap()
    }

    fn answer(mode: &FailureMode) -> Decision {
        let error = LimiterError::Suspended { retry_after: Some(Duration::from_secs(1)) };
        Fallback::new(mode, 10).unwrap().answer(&ask(), at(0), &error)
    }

    #[test]
    fn open_lets_pass_and_closed_says_when_to_come_again() {
        assert!(answer(&FailureMode::Open).allowed);
        let closed = answer(&FailureMode::Closed);
        assert_eq!((closed.allowed, closed.retry_after), (false, Some(Duration::from_secs(1))));
        let local = answer(&FailureMode::Local(LocalLimit::per_second(1)));
        assert_eq!(local.source, DecisionSource::LocalFallback);
    }

    #[test]
    fn the_last_decision_keeps_refusals_for_their_time() {
        let mode = FailureMode::LastDecision { ttl: Duration::from_secs(1) };
        let (fallback, error) = (Fallback::new(&mode, 10).unwrap(), LimiterError::DeadlineExceeded);
        assert!(fallback.answer(&ask(), at(0), &error).allowed);
        fallback.remember(&ask(), at(0), &Decision::bare(false, DecisionSource::Service));
        let kept = fallback.answer(&ask(), at(400), &error);
        assert_eq!((kept.allowed, kept.retry_after), (false, Some(Duration::from_millis(600))));
        assert!(fallback.answer(&ask(), at(1_000), &error).allowed);
        fallback.remember(&ask(), at(1_000), &Decision::bare(false, DecisionSource::Service));
        fallback.remember(&ask(), at(1_001), &Decision::bare(true, DecisionSource::Service));
        assert!(fallback.answer(&ask(), at(1_002), &error).allowed);
    }

    #[test]
    fn a_time_out_of_range_is_named() {
        let mode = FailureMode::LastDecision { ttl: Duration::ZERO };
        assert_eq!(Fallback::new(&mode, 1).unwrap_err().field, "failure_mode.ttl");
    }
}
