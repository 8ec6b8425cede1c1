//! Leave for one call.

use tollgate_core::breaker as core;
use tollgate_core::time::Time;

use super::{CircuitBreaker, FleetTicket};
use crate::classify::{Outcome, Verdict};

/// Leave for one call. Tell it how the call ended; dropped, it gives its place back and says nothing about
/// the target.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once lets no call be judged"]
pub struct Permit {
    breaker: CircuitBreaker,
    admitted: Admitted,
}

/// A call that was admitted and has not ended.
#[derive(Debug)]
pub(super) struct Admitted {
    started: Time,
    /// `None` if the fleet sends this call as a probe while the local breaker refuses.
    local: Option<core::Permit>,
    /// With whether it is a probe of the fleet.
    fleet: Option<(FleetTicket, bool)>,
    head: Option<Time>,
    open: bool,
}

impl Admitted {
    pub(super) const fn new(
        started: Time,
        local: Option<core::Permit>,
        fleet: Option<(FleetTicket, bool)>,
    ) -> Admitted {
        Admitted { started, local, fleet, head: None, open: true }
    }

    fn finish(&mut self, breaker: &CircuitBreaker, verdict: &Verdict) {
        if std::mem::take(&mut self.open) {
            let now = breaker.now();
            let took = self.head.unwrap_or(now) - self.started;
            breaker.finish(self.local.take(), self.fleet.take(), (now, took), verdict);
        }
    }
}

impl Permit {
    pub(super) const fn new(breaker: CircuitBreaker, admitted: Admitted) -> Permit {
        Permit { breaker, admitted }
    }

    /// The target answered in time, or slowly: that is measured.
    pub fn success(self) {
        self.record(Outcome::Success);
    }

    /// The target failed.
    pub fn failure(self) {
        self.record(Outcome::Failure);
    }

    /// The call says nothing about the target.
    pub fn ignore(self) {
        self.record(Outcome::Ignored);
    }

    /// The call has ended.
    pub fn record(self, outcome: Outcome) {
        self.settle(&Verdict::from(outcome));
    }

    /// The breaker that gave it.
    #[must_use]
    pub const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// The response head is there: whether the call is slow is judged by the time until now.
    pub fn head(&mut self) {
        if self.admitted.head.is_none() {
            self.admitted.head = Some(self.breaker.now());
        }
    }

    pub(crate) fn settle(mut self, verdict: &Verdict) {
        self.admitted.finish(&self.breaker, verdict);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admitted.finish(&self.breaker, &Verdict::IGNORED);
    }
}

/// The same for a call that the breaker itself awaits: spares threads the breaker's reference count.
pub(super) struct Borrowed<'b> {
    breaker: &'b CircuitBreaker,
    admitted: Admitted,
}

impl<'b> Borrowed<'b> {
    pub(super) const fn new(breaker: &'b CircuitBreaker, admitted: Admitted) -> Borrowed<'b> {
        Borrowed { breaker, admitted }
    }

    pub(super) fn settle(mut self, verdict: &Verdict) {
        self.admitted.finish(self.breaker, verdict);
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.admitted.finish(self.breaker, &Verdict::IGNORED);
    }
}
