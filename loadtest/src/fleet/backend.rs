//! The backend: one queue, first come first served, with a capacity that changes with time.

use std::collections::VecDeque;

use tollgate_core::time::{Span, Time};

use super::scenario::{Failure, Scenario};
use crate::chance::seconds;

/// Names one attempt.
pub type Attempt = u64;

/// What becomes of an attempt at the door.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// It will be served in its turn.
    Queued,
    /// Nobody will ever answer.
    Swallowed,
    /// It fails after this.
    Fails(Span),
}

/// The backend.
#[derive(Debug)]
pub struct Backend {
    scenario: Scenario,
    queue: VecDeque<Attempt>,
    serving: bool,
}

impl Backend {
    /// An idle backend.
    #[must_use]
    pub const fn new(scenario: Scenario) -> Backend {
        Backend { scenario, queue: VecDeque::new(), serving: false }
    }

    /// Whether it is out.
    #[must_use]
    pub fn is_out(&self, now: Time) -> bool {
        (self.scenario.outage_from()..self.scenario.outage_until()).contains(&now)
    }

    fn is_dead(&self, now: Time) -> bool {
        self.scenario.failure == Failure::Total && self.is_out(now)
    }

    /// Calls per second that it can serve.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a few minutes in microseconds are exact")]
    pub fn capacity(scenario: &Scenario, now: Time) -> f64 {
        let full = scenario.capacity;
        if now < scenario.outage_from() || scenario.failure != Failure::Total {
            return full;
        }
        if now < scenario.outage_until() {
            return 0.0;
        }
        let warm = Span::from_secs(scenario.warmup.secs).as_micros() as f64;
        let since = (now - scenario.outage_until()).as_micros() as f64;
        let part = if warm > 0.0 { (since / warm).min(1.0) } else { 1.0 };
        full * (scenario.warmup.cold + (1.0 - scenario.warmup.cold) * part)
    }

    /// An attempt arrives; `roll` is uniform over `0.0..1.0`.
    pub fn arrive(&mut self, now: Time, attempt: Attempt, roll: f64) -> Arrival {
        if self.is_dead(now) {
            return Arrival::Swallowed;
        }
        if let Failure::Partial(share) = self.scenario.failure
            && self.is_out(now)
            && roll < share
        {
            return Arrival::Fails(Span::from_millis(5));
        }
        if self.queue.len() >= self.scenario.queue {
            return Arrival::Fails(Span::from_millis(2));
        }
        self.queue.push_back(attempt);
        Arrival::Queued
    }

    /// Begins with the next attempt, if it is idle; returns when that is served.
    pub fn begin(&mut self, now: Time) -> Option<Time> {
        let capacity = Backend::capacity(&self.scenario, now);
        if self.serving || self.queue.is_empty() || capacity <= 0.0 {
            return None;
        }
        self.serving = true;
        Some(now + seconds(1.0 / capacity))
    }

    /// What was served now, and after which time more it is answered.
    pub fn served(&mut self, now: Time) -> Option<(Attempt, Span)> {
        self.serving = false;
        if self.is_dead(now) {
            self.queue.clear();
            return None;
        }
        let slow = self.scenario.failure == Failure::Slow && self.is_out(now);
        let more = if slow { Span::from_millis(600) } else { Span::ZERO };
        self.queue.pop_front().map(|attempt| (attempt, more))
    }
}
