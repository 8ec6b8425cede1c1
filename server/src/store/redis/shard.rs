//! One Redis server of ours: who waits for it, and whether it is asked at all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use tollgate_core::time::Time;

use super::gate::Gate;
use crate::store::Fault;

/// Batches of one lane that are on their way at a time: enough to keep the server busy while the next one
/// gathers.
const MAX_FLUSHES: usize = 2;
/// Groups that travel together at most.
const MAX_BATCH: usize = 128;

/// The master of some slots (or the only server there is).
#[derive(Debug)]
pub(super) struct Shard {
    /// The first of its slots: by it a shard is known when its master changes.
    pub(super) first_slot: u16,
    /// One of its keys, to be looked at by probes.
    pub(super) probe: Vec<u8>,
    pub(super) gate: Gate,
    queues: Box<[Mutex<Queue>]>,
    waiting: AtomicU64,
    /// Its clock minus ours, in microseconds, as of the last answer.
    skew: AtomicI64,
    /// Answers so far that came in time for somebody.
    answers: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    groups: VecDeque<Waiting>,
    flushes: usize,
}

/// A group of hits that waits to be sent.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) slot: u16,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) arguments: Vec<u8>,
    /// The caller is gone after this.
    pub(super) until: Instant,
    /// Set when it leaves the queue.
    pub(super) sent: Arc<AtomicBool>,
    pub(super) reply: oneshot::Sender<Result<Told, Fault>>,
}

/// What Redis said to one group.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) bytes: Vec<u8>,
    /// As many replicas as wanted have the charge.
    pub(super) replicated: bool,
}

impl Shard {
    pub(super) fn new(first_slot: u16, probe: Vec<u8>, lanes: usize) -> Shard {
        Shard {
            first_slot,
            probe,
            gate: Gate::default(),
            queues: (0..lanes).map(|_| Mutex::default()).collect(),
            waiting: AtomicU64::new(0),
            skew: AtomicI64::new(0),
            answers: AtomicU64::new(0),
        }
    }

    /// Puts a group into the queue of a lane. True if the caller has to start a flush.
    pub(super) fn push(&self, lane: usize, group: Waiting) -> bool {
        let mut queue = self.queue(lane);
        queue.groups.push_back(group);
        let start = queue.flushes < MAX_FLUSHES;
        queue.flushes += usize::from(start);
        start
    }

    /// The next batch of a lane; an empty one ends the flush.
    pub(super) fn pull(&self, lane: usize) -> Vec<Waiting> {
        let mut queue = self.queue(lane);
        let count = queue.groups.len().min(MAX_BATCH);
        let batch = queue.groups.drain(..count).collect::<Vec<_>>();
        if batch.is_empty() {
            queue.flushes -= 1;
        }
        batch
    }

    /// A flush ended before its time (its runtime is shutting down): another one may take its place.
    pub(super) fn abandon(&self, lane: usize) {
        let mut queue = self.queue(lane);
        queue.flushes = queue.flushes.saturating_sub(1);
    }

    fn queue(&self, lane: usize) -> MutexGuard<'_, Queue> {
        self.queues[lane % self.queues.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more group that waits, unless `most` wait already.
    pub(super) fn enter(&self, most: u64) -> Option<Entered<'_>> {
        if self.waiting.fetch_add(1, Relaxed) >= most {
            self.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Entered(self))
    }

    /// Groups that wait, for a call or for its answer.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Notes an answer, what the server's clock said in it, and whether it came in time for anybody.
    pub(super) fn answered(&self, theirs: i64, ours: Time, in_time: bool) {
        self.answers.fetch_add(u64::from(in_time), Relaxed);
        self.skew.store(theirs.saturating_sub(ours.as_micros().cast_signed()), Relaxed);
        self.gate.succeeded();
    }

    /// Answers so far that came in time: that others are answered tells a slow answer from none.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// What the server's clock shows when ours shows `now`, as far as is known.
    pub(super) fn clock(&self, now: Time) -> Time {
        let theirs = now.as_micros().cast_signed().saturating_add(self.skew.load(Relaxed));
        Time::from_micros(theirs.max(0).cast_unsigned())
    }
}

/// A place among those who wait.
pub(super) struct Entered<'s>(&'s Shard);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
