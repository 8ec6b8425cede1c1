//! Orders from outside: people, hints, the fleet.

use std::sync::atomic::Ordering;

use super::turn::Move;
use super::{Breaker, Manual, ManualError, Mode, NEVER, Reason};
use crate::time::{Span, Time};

impl Breaker {
    /// Refuses all calls. The same order again renews the TTL and is no transition.
    pub fn force_open(&self, now: Time, manual: Manual) {
        self.set(Mode::ForcedOpen, now, manual);
    }

    /// Lets all calls pass and records nothing.
    pub fn disable(&self, now: Time, manual: Manual) {
        self.set(Mode::Disabled, now, manual);
    }

    /// Lets all calls pass, and tells by a transition what would have opened the breaker.
    pub fn metrics_only(&self, now: Time, manual: Manual) {
        self.set(Mode::MetricsOnly, now, manual);
    }

    /// Closes the breaker, whatever it is now. It may open again at once.
    ///
    /// # Errors
    /// [`ManualError::Ttl`] if a TTL is given.
    pub fn force_closed(&self, now: Time, manual: Manual) -> Result<(), ManualError> {
        if manual.ttl.is_some() {
            return Err(ManualError::Ttl);
        }
        let mut cold = self.lock();
        self.settle_locked(&mut cold, now);
        cold.attempts = 0;
        if self.word().mode() != Mode::Closed {
            let reason = Reason::Manual(manual);
            self.switch(&mut cold, Move { to: Mode::Closed, at: now, until: None, reason });
        }
        Ok(())
    }

    /// Asks for probes at once.
    ///
    /// # Errors
    /// [`ManualError::HalfOpen`] unless the breaker is OPEN or FORCED_OPEN; [`ManualError::Ttl`] if a TTL is
    /// given: `half_open.max_wait` bounds this mode.
    pub fn force_half_open(&self, now: Time, manual: Manual) -> Result<(), ManualError> {
        if manual.ttl.is_some() {
            return Err(ManualError::Ttl);
        }
        let mut cold = self.lock();
        self.settle_locked(&mut cold, now);
        match self.word().mode() {
            Mode::Open | Mode::ForcedOpen => self.half_open(&mut cold, now, Reason::Manual(manual)),
            Mode::HalfOpen => {}
            mode => return Err(ManualError::HalfOpen(mode)),
        }
        Ok(())
    }

    /// Back to CLOSED with an empty window and all counters at zero, as if new.
    ///
    /// # Errors
    /// [`ManualError::Ttl`] if a TTL is given.
    pub fn reset(&self, now: Time, manual: Manual) -> Result<(), ManualError> {
        if manual.ttl.is_some() {
            return Err(ManualError::Ttl);
        }
        let mut cold = self.lock();
        let reason = Reason::Manual(manual);
        self.switch(&mut cold, Move { to: Mode::Closed, at: now, until: None, reason });
        cold.attempts = 0;
        self.refused.clear();
        self.late.0.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Opens until `until`, for any reason; a probe is admitted from then on. A breaker that is OPEN already
    /// keeps the later of both ends, and that is no transition. `false` if nothing was done, because a
    /// person has set the mode.
    pub fn open_until(&self, now: Time, until: Time, reason: Reason) -> bool {
        let mut cold = self.lock();
        self.settle_locked(&mut cold, now);
        match self.word().mode() {
            mode if mode.is_manual() => return false,
            Mode::Open => {
                let later = self.head.0.until.fetch_max(until.as_micros(), Ordering::AcqRel);
                if later < until.as_micros() {
                    cold.reason = reason;
                }
            }
            _ => {
                self.forget(&mut cold, now);
                self.switch(&mut cold, Move { to: Mode::Open, at: now, until: Some(until), reason });
            }
        }
        true
    }

    /// Opens for `span`. See [`Breaker::open_until`].
    pub fn open_for(&self, now: Time, span: Span, reason: Reason) -> bool {
        self.open_until(now, now + span, reason)
    }

    /// Opens for `span`, as the last of at least `openings` openings in a row, so that the next wait is the
    /// one that follows so many. See [`Breaker::open_until`].
    pub fn open_again(&self, now: Time, span: Span, openings: u32, reason: Reason) -> bool {
        let opened = self.open_for(now, span, reason);
        if opened {
            let mut cold = self.lock();
            cold.attempts = cold.attempts.max(openings);
        }
        opened
    }

    fn set(&self, to: Mode, now: Time, manual: Manual) {
        let mut cold = self.lock();
        self.settle_locked(&mut cold, now);
        let until = manual.ttl.map(|ttl| now + ttl);
        let reason = Reason::Manual(manual);
        if self.word().mode() == to {
            self.head.0.until.store(until.map_or(NEVER, Time::as_micros), Ordering::Release);
            cold.reason = reason;
        } else {
            self.forget(&mut cold, now);
            self.switch(&mut cold, Move { to, at: now, until, reason });
        }
    }
}
