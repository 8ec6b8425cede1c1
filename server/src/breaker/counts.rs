//! What metrics tell of circuits. Labels come from closed lists.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tollgate_core::breaker::fleet::Totals;

use super::history::History;

/// From which state, to which, why.
type Change = (&'static str, &'static str, &'static str);

/// Counters of the part that judges.
#[derive(Debug, Default)]
pub(super) struct Counts {
    changes: Mutex<BTreeMap<Change, u64>>,
    /// Of circuits that are gone.
    retired: Mutex<Retired>,
    reports: AtomicU64,
    deltas: AtomicU64,
    local_faults: AtomicU64,
    full: AtomicU64,
    relayed: AtomicU64,
    undelivered: AtomicU64,
    streams: AtomicU64,
    pub(super) history: History,
}

/// What of a circuit outlives it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Retired {
    pub(super) duplicates: u64,
    pub(super) late: u64,
    pub(super) permits: u64,
    pub(super) permits_expired: u64,
}

impl Retired {
    pub(super) fn add(&mut self, totals: &Totals) {
        self.duplicates += totals.duplicates;
        self.late += totals.late.judged();
        self.permits += totals.permits;
        self.permits_expired += totals.permits_expired;
    }
}

/// Counters and gauges as they are now.
#[derive(Clone, Debug, Default)]
pub struct BreakerFigures {
    /// Circuits by state.
    pub states: Vec<(&'static str, u64)>,
    /// Changes of state: from, to, reason, times.
    pub changes: Vec<(&'static str, &'static str, &'static str, u64)>,
    /// Messages with something to say.
    pub reports: u64,
    /// Outcome deltas in them.
    pub deltas: u64,
    /// Deltas that had been counted before.
    pub duplicates: u64,
    /// Outcomes of calls that were admitted under an older state.
    pub late: u64,
    /// Permits for probes.
    pub permits: u64,
    /// Of these, those that nobody used in time.
    pub permits_expired: u64,
    /// Reporters that were found to fail alone.
    pub local_faults: u64,
    /// Circuits that found no room.
    pub full: u64,
    /// Messages that went to the owner of a circuit.
    pub relayed: u64,
    /// Of these, those that found no way.
    pub undelivered: u64,
    /// Streams of clients that are open.
    pub streams: u64,
    /// Clients that circuits tell, once for each circuit.
    pub listening: u64,
    /// Other servers that share circuits.
    pub peers: u64,
    /// Of these, those that cannot be reached.
    pub peers_lost: u64,
}

/// A stream in the count, until it is dropped.
#[derive(Debug)]
pub(super) struct Streaming(std::sync::Arc<Counts>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl Counts {
    pub(super) fn changed(&self, from: &'static str, to: &'static str, reason: &'static str) {
        *lock(&self.changes).entry((from, to, reason)).or_default() += 1;
    }

    pub(super) fn retire(&self, totals: &Totals) {
        lock(&self.retired).add(totals);
    }

    pub(super) fn reported(&self, deltas: usize) {
        self.reports.fetch_add(1, Relaxed);
        self.deltas.fetch_add(deltas as u64, Relaxed);
    }

    pub(super) fn local_fault(&self) {
        self.local_faults.fetch_add(1, Relaxed);
    }

    pub(super) fn full(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    pub(super) fn relayed(&self) {
        self.relayed.fetch_add(1, Relaxed);
    }

    pub(super) fn undelivered(&self) {
        self.undelivered.fetch_add(1, Relaxed);
    }

    pub(super) fn streaming(self: &std::sync::Arc<Counts>) -> Streaming {
        self.streams.fetch_add(1, Relaxed);
        Streaming(self.clone())
    }

    /// What was counted here; the rest is for whoever knows it. `living` is the sum over circuits that are.
    pub(super) fn figures(&self, mut living: Retired) -> BreakerFigures {
        let retired = *lock(&self.retired);
        living.duplicates += retired.duplicates;
        living.late += retired.late;
        living.permits += retired.permits;
        living.permits_expired += retired.permits_expired;
        let changes = lock(&self.changes);
        let changes = changes.iter().map(|((from, to, reason), times)| (*from, *to, *reason, *times));
        BreakerFigures {
            changes: changes.collect(),
            reports: self.reports.load(Relaxed),
            deltas: self.deltas.load(Relaxed),
            duplicates: living.duplicates,
            late: living.late,
            permits: living.permits,
            permits_expired: living.permits_expired,
            local_faults: self.local_faults.load(Relaxed),
            full: self.full.load(Relaxed),
            relayed: self.relayed.load(Relaxed),
            undelivered: self.undelivered.load(Relaxed),
            streams: self.streams.load(Relaxed),
            ..BreakerFigures::default()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
