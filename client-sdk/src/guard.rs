//! What a call holds while it is in flight, and gives back however it ends.

use std::time::Duration;

use crate::breaker::Permit;
use crate::classify::Verdict;
use crate::concurrency::Slot;
use crate::deadline::Deadline;
use crate::throttle::Sent;

/// Until when a call counts as in flight.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Until {
    /// Until the response head is there.
    Head,
    /// Until the response body has ended, or is dropped.
    #[default]
    Body,
}

/// When a call's time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) deadline: Deadline,
    /// Of the whole call, not only of one attempt.
    pub(crate) total: bool,
}

/// What one attempt holds. Dropped without [`settle`](Self::settle), it gives everything back and says
/// nothing about the target.
#[derive(Debug, Default)]
pub(crate) struct CallGuard {
    pub(crate) permit: Option<Permit>,
    pub(crate) slot: Option<Slot>,
    pub(crate) sent: Option<Sent>,
    /// Holds the slot until then.
    pub(crate) until: Until,
    /// What the caller left of its time when the call started.
    pub(crate) budget: Option<Duration>,
    /// When the body has to have ended.
    pub(crate) ends: Option<Ends>,
    /// What the call as a whole holds, with all its attempts.
    pub(crate) around: Option<Box<CallGuard>>,
}

impl CallGuard {
    pub(crate) fn is_empty(&self) -> bool {
        self.permit.is_none() && self.slot.is_none() && self.sent.is_none() && self.around.is_none()
    }

    /// The response head is there: what follows is no latency.
    pub(crate) fn head(&mut self, verdict: Option<&Verdict>) {
        if let Some(permit) = &mut self.permit {
            permit.head();
        }
        if let Some(slot) = &mut self.slot {
            slot.head();
        }
        if self.until == Until::Head
            && let Some(slot) = self.slot.take()
        {
            slot.settle(verdict.unwrap_or(&Verdict::SUCCESS));
        }
        if let Some(around) = &mut self.around {
            around.until = self.until;
            around.head(verdict);
        }
    }

    /// The head was good, and its reader has to wait for what follows: nobody knows how long that takes, so
    /// that a probe passes now.
    pub(crate) fn flows(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.pass_probe();
        }
        if let Some(around) = &mut self.around {
            around.flows();
        }
    }

    /// The call has ended; `least` is the shortest deadline whose expiry counts.
    pub(crate) fn settle(&mut self, verdict: Verdict, least: Duration) {
        let judged = verdict.within(self.budget, least);
        if let Some(permit) = self.permit.take() {
            permit.settle(&judged);
        }
        if let Some(slot) = self.slot.take() {
            slot.settle(&judged);
        }
        if let Some(sent) = self.sent.take() {
            sent.settle(&judged);
        }
        if let Some(mut around) = self.around.take() {
            around.settle(verdict, least);
        }
    }
}
