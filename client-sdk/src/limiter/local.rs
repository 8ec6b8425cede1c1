//! A limit in this process, for the time in which the limiter cannot be asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tollgate_core::limit::{Ask as CoreAsk, Limit, Rate, Retry, State, TokenBucket};
use tollgate_core::time::{Span, Time};

use super::decision::{Decision, DecisionSource};
use super::error::ConfigError;
use super::key::Key;
use super::memory::{Remembered, remembered};
use crate::clock::{duration, span};

/// What each key may do while the limiter cannot be asked: a token bucket that is this client's share of the
/// whole limit.
///
/// A key's bucket begins with one token, not with a full burst: the switch to it gives nobody a burst for free.
/// (Tokens of a lease are spent before it is asked.)
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalLimit {
    count: u64,
    per: Duration,
    burst: Option<u64>,
    clients: u64,
}

impl LocalLimit {
    /// `count` requests of cost 1 in each second for the whole fleet of clients.
    #[must_use]
    pub const fn per_second(count: u64) -> LocalLimit {
        LocalLimit::new(count, Duration::from_secs(1))
    }

    /// `count` requests of cost 1 in each `per` for the whole fleet of clients.
    #[must_use]
    pub const fn new(count: u64, per: Duration) -> LocalLimit {
        LocalLimit { count, per, burst: None, clients: 1 }
    }

    /// The largest burst of the whole fleet, `1..=10_000_000`; without it `count`.
    #[must_use]
    pub const fn burst(mut self, burst: u64) -> LocalLimit {
        self.burst = Some(burst);
        self
    }

    /// How many clients share the limit, 1 or more; without it 1.
    #[must_use]
    pub const fn expected_clients(mut self, clients: u64) -> LocalLimit {
        self.clients = clients;
        self
    }

    /// This client's share as a bucket; at least one token of burst.
    fn bucket(&self) -> Result<TokenBucket, ConfigError> {
        let problem =
            |error: &dyn std::fmt::Display| ConfigError::new("failure_mode.local", error.to_string());
        if self.clients == 0 {
            return Err(problem(&"expected_clients: 1 or more"));
        }
        let per = Span::from_wide(u128::from(span(self.per).as_micros()) * u128::from(self.clients));
        let rate = Rate::new(self.count, per).map_err(|error| problem(&error))?;
        let whole = self.burst.unwrap_or(self.count);
        let burst = if whole == 0 { 0 } else { (whole / self.clients).max(1) };
        TokenBucket::new(rate, burst).map_err(|error| problem(&error))
    }
}

type Bucket = Arc<Mutex<Option<State>>>;

/// The buckets of a bounded number of keys.
#[derive(Debug)]
pub(super) struct LocalBuckets {
    limit: Limit,
    keys: Remembered<Bucket>,
}

impl LocalBuckets {
    pub(super) fn new(config: &LocalLimit, capacity: u64) -> Result<LocalBuckets, ConfigError> {
        let limit = Limit::TokenBucket(config.bucket()?);
        Ok(LocalBuckets { limit, keys: remembered(capacity) })
    }

    /// Decides one question that costs `cost`.
    pub(super) fn decide(&self, key: &Key, now: Time, cost: u64) -> Decision {
        let bucket = self.keys.get_with_by_ref(key, || Arc::new(Mutex::new(self.one_token(now))));
        let mut state = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let step = self.limit.step(state.as_ref(), now, CoreAsk::take(cost));
        if step.state.is_some() {
            *state = step.state;
        }
        let verdict = step.verdict;
        let retry_after = match verdict.retry_after {
            Retry::After(after) if !verdict.allowed => Some(duration(after)),
            _ => None,
        };
        Decision {
            limit: verdict.limit,
            remaining: if verdict.allowed { verdict.remaining } else { 0 },
            retry_after,
            retry_advice: retry_after,
            never: !verdict.allowed && verdict.retry_after == Retry::Never,
            reset_after: duration(verdict.reset_after),
            ..Decision::bare(verdict.allowed, DecisionSource::LocalFallback)
        }
    }

    /// A bucket with one token left.
    fn one_token(&self, now: Time) -> Option<State> {
        let taken = self.limit.capacity().saturating_sub(1);
        self.limit.step(None, now, CoreAsk::take(taken)).state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::EPOCH + Span::from_secs(1_000) + Span::from_millis(millis)
    }

    fn key() -> Key {
        Key::of("shop", &[])
    }

    #[test]
    fn the_share_is_the_limit_divided_by_the_clients() {
        let config = LocalLimit::per_second(20).burst(40).expected_clients(4);
        let buckets = LocalBuckets::new(&config, 10).unwrap();
        let admitted = (0..10_000).filter(|&millis| buckets.decide(&key(), at(millis), 1).allowed).count();
        assert_eq!(admitted, 1 + 49, "one token at once and five a second for 9.999 s");
    }

    #[test]
    fn the_switch_gives_no_free_burst_and_the_burst_comes_in_time() {
        let buckets = LocalBuckets::new(&LocalLimit::per_second(10).burst(5), 10).unwrap();
        let burst = |millis| (0..20).filter(|_| buckets.decide(&key(), at(millis), 1).allowed).count();
        assert_eq!(burst(0), 1);
        assert_eq!(burst(1_000), 5);
    }

    #[test]
    fn a_refusal_says_exactly_when_to_come_again() {
        let buckets = LocalBuckets::new(&LocalLimit::per_second(10).burst(5), 10).unwrap();
        assert!(buckets.decide(&key(), at(0), 1).allowed);
        let refused = buckets.decide(&key(), at(0), 2);
        assert_eq!((refused.allowed, refused.retry_after), (false, Some(Duration::from_millis(200))));
        assert!(buckets.decide(&key(), at(0), 6).never);
        assert!(buckets.decide(&key(), at(0), 0).allowed, "a look");
    }

    #[test]
    fn a_limit_out_of_range_is_named() {
        let error = |config: LocalLimit| LocalBuckets::new(&config, 1).unwrap_err().to_string();
        assert!(error(LocalLimit::per_second(0)).contains("out of range"));
        assert!(error(LocalLimit::per_second(1).burst(0)).contains("burst 0"));
        assert!(error(LocalLimit::per_second(1).expected_clients(0)).contains("expected_clients"));
    }
}
