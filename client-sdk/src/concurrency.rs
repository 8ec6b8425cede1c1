//! Limits on calls in flight, fixed or found by watching latency.
//!
//! The answer to a slow target. A slot is held while the call is in flight; what waits for a slot waits in a
//! bounded queue that sheds what nobody waits for any more.

mod builder;

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tollgate_core::load::concurrency as core;
use tollgate_core::load::criticality::Criticality;
use tollgate_core::load::deadline::Deadline as CoreDeadline;
use tollgate_core::load::queue::{Popped, ShedQueue};
use tollgate_core::time::Time;

pub use builder::ConcurrencyBuilder;

use crate::classify::{Outcome, Verdict};
use crate::clock::{Clock, span};
use crate::error::Error;

/// A limit on calls in flight. Clones share one limit.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    core: core::Limiter,
    clock: Arc<dyn Clock>,
    queue: Mutex<ShedQueue<oneshot::Sender<Slot>>>,
    /// How many are in the queue, so that calls that nobody waits for need no lock.
    waiting: AtomicUsize,
}

/// As many calls as the limit are in flight, and no place became free in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("more than {limit} calls in flight")]
#[non_exhaustive]
pub struct LimitExceeded {
    /// Calls that may be in flight.
    pub limit: u32,
}

impl LimitExceeded {
    pub(crate) fn of(limiter: &ConcurrencyLimiter) -> LimitExceeded {
        LimitExceeded { limit: limiter.limit() }
    }
}

impl<E> From<LimitExceeded> for Error<E> {
    fn from(full: LimitExceeded) -> Error<E> {
        Error::limit_exceeded(full.limit)
    }
}

/// The place of one call in flight. Tell it how the call ended; dropped, it gives the place back and the
/// call's latency counts for nothing.
#[derive(Debug)]
#[must_use = "a slot that is dropped at once limits nothing"]
pub struct Slot {
    limiter: ConcurrencyLimiter,
    place: Option<core::Slot>,
    head: Option<Time>,
}

impl ConcurrencyLimiter {
    /// Always `limit` calls.
    pub fn fixed(limit: u32) -> ConcurrencyBuilder {
        ConcurrencyBuilder::fixed(limit)
    }

    /// One more while calls end well, a tenth less when they time out (Netflix concurrency-limits).
    pub fn aimd() -> ConcurrencyBuilder {
        ConcurrencyBuilder::aimd()
    }

    /// Compares latency with the least that was ever seen, as TCP Vegas does.
    pub fn vegas() -> ConcurrencyBuilder {
        ConcurrencyBuilder::vegas()
    }

    /// Compares recent latency with its long average; the default choice.
    pub fn gradient2() -> ConcurrencyBuilder {
        ConcurrencyBuilder::gradient2()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Calls that may be in flight at this moment.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.0.core.limit()
    }

    /// Calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.core.in_flight()
    }

    /// Calls that wait for a place; some may have given up without being noticed yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// A place for a call. Never waits.
    ///
    /// # Errors
    /// [`LimitExceeded`] if all are taken.
    pub fn try_acquire(&self) -> Result<Slot, LimitExceeded> {
        match self.0.core.acquire(self.now()) {
            Ok(place) => Ok(self.slot(place)),
            Err(full) => Err(LimitExceeded { limit: full.limit }),
        }
    }

    /// A place for a call, for which it waits up to `wait` behind those that came before.
    ///
    /// # Errors
    /// [`LimitExceeded`] if none became free, or the queue is full or overloaded.
    pub async fn acquire_within(&self, wait: Duration) -> Result<Slot, LimitExceeded> {
        self.acquire_as(Criticality::default(), wait, wait).await
    }

    /// The same for a call of `class` that is of no use to its caller after `deadline`.
    pub(crate) async fn acquire_as(
        &self,
        class: Criticality,
        wait: Duration,
        deadline: Duration,
    ) -> Result<Slot, LimitExceeded> {
        if wait.is_zero() {
            return self.try_acquire();
        }
        // who has given up must not keep a place in the queue
        let place = match self.enqueue(class, wait.min(deadline)) {
            Ok(slot) => return Ok(slot),
            Err(place) => place,
        };
        match tokio::time::timeout(wait, place).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(LimitExceeded::of(self)),
        }
    }

    /// A place if one is free and nobody waits, else a turn in the queue.
    fn enqueue(&self, class: Criticality, deadline: Duration) -> Result<Slot, oneshot::Receiver<Slot>> {
        let mut queue = self.queue();
        let now = self.now();
        if queue.is_empty()
            && let Ok(place) = self.0.core.acquire(now)
        {
            return Ok(self.slot(place));
        }
        let (turn, place) = oneshot::channel();
        // whoever has to go learns it by the end of its channel
        drop(queue.push(now, turn, class, CoreDeadline::after(now, span(deadline))));
        self.0.waiting.store(queue.len(), Ordering::Relaxed);
        // see `release`: either that one sees the entry, or this one its place
        fence(Ordering::SeqCst);
        self.serve(queue);
        Err(place)
    }

    /// Gives free places to those that wait.
    fn serve(&self, mut queue: MutexGuard<'_, ShedQueue<oneshot::Sender<Slot>>>) {
        while !queue.is_empty() {
            let now = self.now();
            let Ok(place) = self.0.core.acquire(now) else { break };
            if let Some(unused) = self.hand_over(&mut queue, now, place) {
                self.0.core.release(unused, now, core::Outcome::Ignored);
                break;
            }
        }
        self.0.waiting.store(queue.len(), Ordering::Relaxed);
    }

    /// Gives `place` to the next that still waits; returns it if nobody does.
    fn hand_over(
        &self,
        queue: &mut ShedQueue<oneshot::Sender<Slot>>,
        now: Time,
        mut place: core::Slot,
    ) -> Option<core::Slot> {
        while let Some(next) = queue.pop(now) {
            let Popped::Serve { item: turn, .. } = next else { continue };
            match turn.send(self.slot(place)) {
                Ok(()) => return None,
                // given up: a slot dropped here would come back for the lock that we hold
                Err(mut slot) => place = slot.place.take()?,
            }
        }
        Some(place)
    }

    fn slot(&self, place: core::Slot) -> Slot {
        Slot { limiter: self.clone(), place: Some(place), head: None }
    }

    fn now(&self) -> Time {
        self.0.clock.now()
    }

    fn queue(&self) -> MutexGuard<'_, ShedQueue<oneshot::Sender<Slot>>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, place: core::Slot, head: Option<Time>, outcome: core::Outcome) {
        self.0.core.release(place, head.unwrap_or_else(|| self.now()), outcome);
        // after the place is free; see `enqueue`
        fence(Ordering::SeqCst);
        if self.0.waiting.load(Ordering::Relaxed) > 0 {
            self.serve(self.queue());
        }
    }
}

impl Slot {
    /// The call has ended. A success feeds its latency to the limit; a time-out or a refusal for load shrinks
    /// it; a quick failure says nothing about latency.
    pub fn record(self, outcome: Outcome) {
        self.settle(&Verdict::from(outcome));
    }

    /// The response head is there: what follows is no latency.
    pub(crate) fn head(&mut self) {
        self.head.get_or_insert_with(|| self.limiter.now());
    }

    pub(crate) fn settle(mut self, verdict: &Verdict) {
        let load = match verdict.outcome {
            Outcome::Success => core::Outcome::Done,
            Outcome::Throttled { .. } => core::Outcome::Dropped,
            Outcome::Failure if verdict.timed_out || verdict.rejected => core::Outcome::Dropped,
            Outcome::Failure | Outcome::Ignored => core::Outcome::Ignored,
        };
        self.finish(load);
    }

    fn finish(&mut self, outcome: core::Outcome) {
        if let Some(place) = self.place.take() {
            self.limiter.release(place, self.head, outcome);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.finish(core::Outcome::Ignored);
    }
}

#[cfg(test)]
mod tests;
