//! Tokens bought in advance and spent here: a decision without a question.
//!
//! Why a lease never exceeds the limit, in any interleaving: all that is granted has been charged already, a
//! token is taken by one atomic step that cannot go below zero, and after it has been taken the clock is read;
//! if the lease's time is over, the token is void. The time counts from the moment at which the request was
//! sent, so the service's own time for it ends later. A process that was paused finds its leases over.

mod demand;
mod key;
mod refill;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_core::time::Time;

use super::decision::Decision;
use super::error::ConfigError;
use super::memory::{Remembered, remembered};
use super::request::Ask;
use crate::clock::Clock;
pub(super) use key::LeasedKey;
pub(super) use refill::{give_all_back, refill};

/// Checks per second from which on a key is leased.
const HOT: u32 = 200;

/// Whether tokens are bought in advance.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum LeaseMode {
    /// For keys of 200 checks per second and more.
    #[default]
    Auto,
    /// For keys of so many checks per second and more, 1 to 4294967295.
    Above(u32),
    /// Never.
    Off,
    /// For every key, from its first check on.
    Always,
}

impl LeaseMode {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        match self {
            LeaseMode::Above(0) => Err(ConfigError::new("lease.above", "out of range: 1 to 4294967295")),
            _ => Ok(()),
        }
    }

    /// Checks per second from which on a key is leased; `None` is never.
    const fn threshold(self) -> Option<u32> {
        match self {
            LeaseMode::Auto => Some(HOT),
            LeaseMode::Above(checks) => Some(checks),
            LeaseMode::Off => None,
            LeaseMode::Always => Some(0),
        }
    }
}

/// The leases of a client.
#[derive(Debug)]
pub(super) struct Leases {
    threshold: Option<u32>,
    max_lease: u64,
    keys: Remembered<Arc<LeasedKey>>,
    /// Keys that hold tokens, or did a moment ago.
    holders: Mutex<Vec<Arc<LeasedKey>>>,
    /// A task gives back what is not used.
    sweeping: AtomicBool,
}

/// What memory says to a question.
#[derive(Debug)]
pub(super) enum Spent {
    /// Go on, or not.
    Decided(Decision),
    /// Ask the service: the key's owner if it is leased.
    Ask {
        /// The key is leased.
        leased: bool,
    },
}

/// What a question leads to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) spent: Spent,
    /// Buy more tokens for this key; nobody else does.
    pub(super) refill: Option<Arc<LeasedKey>>,
}

impl Leases {
    pub(super) fn new(mode: LeaseMode, max_lease: u64, keys: u64) -> Leases {
        Leases {
            threshold: mode.threshold(),
            max_lease,
            keys: remembered(keys),
            holders: Mutex::default(),
            sweeping: AtomicBool::new(false),
        }
    }

    /// Spends `cost` tokens, if the question's key has them.
    pub(super) fn spend(&self, ask: &Ask, clock: &dyn Clock) -> Outcome {
        let (Some(threshold), Some(cost)) = (self.threshold, ask.plain_cost()) else {
            return Outcome { spent: Spent::Ask { leased: false }, refill: None };
        };
        let key = self.keys.get_with_by_ref(&ask.key, || Arc::new(LeasedKey::new(ask)));
        let hot = key.note(clock.now(), cost, threshold);
        let spent = key.spend(cost, clock);
        let buys = hot && key.wants_more(clock.now()) && key.begin_refill();
        let refill = buys.then(|| key.clone());
        let spent = match spent {
            Some(decision) => Spent::Decided(decision),
            None => Spent::Ask { leased: hot },
        };
        Outcome { spent, refill }
    }

    /// Remembers that `key` holds tokens. Whether a task has to be started that gives back what is not used.
    fn hold(&self, key: &Arc<LeasedKey>) -> bool {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if key.list(true) {
            holders.push(key.clone());
        }
        !self.sweeping.swap(true, Relaxed)
    }

    /// Who has not been used since `before`, and so should give back what it has. Ends the task's life (`None`)
    /// if nobody holds anything.
    fn idle(&self, now: Time, before: Time) -> Option<Vec<Arc<LeasedKey>>> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|key| key.holds(now) || !key.list(false));
        if holders.is_empty() {
            self.sweeping.store(false, Relaxed);
            return None;
        }
        Some(holders.iter().filter(|key| key.last_used() < before).cloned().collect())
    }

    fn all(&self) -> Vec<Arc<LeasedKey>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Outcome {
    /// The service has to be asked, and nothing is to be bought.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.refill.is_none() && matches!(self.spent, Spent::Ask { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::request::Request;
    use std::time::Duration;
    use tollgate_core::time::Span;

    #[derive(Debug, Default)]
    struct Stopped(std::sync::atomic::AtomicU64);

    impl Clock for Stopped {
        fn now(&self) -> Time {
            Time::EPOCH + Span::from_secs(1_000) + Span::from_micros(self.0.load(Relaxed))
        }
    }

    fn ask() -> Ask {
        Request::of([("tenant", "acme")]).prepare("shop", Duration::from_millis(50)).unwrap()
    }

    #[test]
    fn a_key_is_leased_when_it_is_hot_and_by_one_task() {
        let (leases, clock) = (Leases::new(LeaseMode::Above(10), 100, 10), Stopped::default());
        assert!((0..9).all(|_| leases.spend(&ask(), &clock).is_idle()));
        assert!(leases.spend(&ask(), &clock).refill.is_some());
        assert!((0..9).all(|_| leases.spend(&ask(), &clock).is_idle()), "one refill at a time");
    }

    #[test]
    fn a_key_that_cools_down_is_leased_no_more() {
        let (leases, clock) = (Leases::new(LeaseMode::Above(10), 100, 10), Stopped::default());
        for _ in 0..10 {
            leases.spend(&ask(), &clock);
        }
        clock.0.store(2_500_000, Relaxed);
        let outcome = leases.spend(&ask(), &clock);
        assert!(matches!(outcome.spent, Spent::Ask { leased: false }), "{outcome:?}");
    }

    #[test]
    fn leases_can_be_off() {
        let (leases, clock) = (Leases::new(LeaseMode::Off, 100, 10), Stopped::default());
        assert!((0..1_000).all(|_| leases.spend(&ask(), &clock).is_idle()));
    }
}
