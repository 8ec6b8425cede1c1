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
    /// A call is being made: if it is given up, the time that it took still counts.
    calling: bool,
    /// It was a probe, which has passed already.
    passed: bool,
    open: bool,
}

impl Admitted {
    pub(super) const fn new(
        started: Time,
        local: Option<core::Permit>,
        fleet: Option<(FleetTicket, bool)>,
    ) -> Admitted {
        Admitted { started, local, fleet, head: None, calling: false, passed: false, open: true }
    }

    fn finish(&mut self, breaker: &CircuitBreaker, verdict: &Verdict) {
        if std::mem::take(&mut self.open) {
            let now = breaker.now();
            let took = self.head.unwrap_or(now) - self.started;
            if self.passed && matches!(verdict.outcome, Outcome::Success | Outcome::Ignored) {
                // the fleet knows it already
                self.fleet = None;
            }
            breaker.finish(self.local.take(), self.fleet.take(), (now, took), verdict);
        }
    }

    /// The caller gave up. That says nothing, unless it has waited for longer than a call may take.
    fn give_up(&mut self, breaker: &CircuitBreaker) {
        if !self.open {
            return;
        }
        if self.calling && self.head.is_none() {
            self.count_wait(breaker);
        }
        self.finish(breaker, &Verdict::IGNORED);
    }

    #[cold]
    fn count_wait(&mut self, breaker: &CircuitBreaker) {
        let now = breaker.now();
        let took = now - self.started;
        if breaker.is_slow(took)
            && let Some(permit) = self.local.take()
        {
            breaker.finish(Some(permit), None, (now, took), &Verdict::SUCCESS);
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

    /// The response head is there: whether the call is slow, or hangs, is judged by the time until now.
    pub fn head(&mut self) {
        if self.admitted.head.is_none() {
            self.admitted.head = Some(self.breaker.now());
            self.breaker.answered(self.admitted.local.as_mut());
        }
    }

    /// The answer has begun well and goes on, as a stream does: if the call is a probe, it has passed. What
    /// goes wrong later is recorded as ever, and counts once more; a good end does not.
    pub fn pass_probe(&mut self) {
        self.head();
        let Admitted { started, local, fleet, head, passed, .. } = &mut self.admitted;
        if !*passed && let Some(head) = *head {
            *passed = self.breaker.pass_probe(local.as_mut(), fleet.as_mut(), head - *started);
        }
    }

    /// The call begins: it is judged by its time even if its caller gives up.
    pub(crate) const fn calling(mut self) -> Permit {
        self.admitted.calling = true;
        self
    }

    /// The same, only now: the time since the permit was given is none of the call's latency.
    pub(crate) fn calling_now(mut self) -> Permit {
        self.admitted.started = self.breaker.now();
        self.calling()
    }

    pub(crate) fn settle(mut self, verdict: &Verdict) {
        self.admitted.finish(&self.breaker, verdict);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admitted.give_up(&self.breaker);
    }
}

/// The same for a call that the breaker itself awaits: spares threads the breaker's reference count.
pub(super) struct Borrowed<'b> {
    breaker: &'b CircuitBreaker,
    admitted: Admitted,
}

impl<'b> Borrowed<'b> {
    pub(super) const fn new(breaker: &'b CircuitBreaker, admitted: Admitted) -> Borrowed<'b> {
        Borrowed { breaker, admitted: Admitted { calling: true, ..admitted } }
    }

    pub(super) fn settle(mut self, verdict: &Verdict) {
        self.admitted.finish(self.breaker, verdict);
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.admitted.give_up(self.breaker);
    }
}
