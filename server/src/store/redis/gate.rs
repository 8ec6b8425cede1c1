//! A breaker in front of one Redis server: after a few failures in a row nobody asks it any more, until a probe
//! in the background succeeds.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Failed calls in a row that open the gate.
const THRESHOLD: u32 = 3;

/// Lets requests through to one server, or does not.
#[derive(Debug, Default)]
pub(super) struct Gate {
    failures: AtomicU32,
    open: AtomicBool,
    /// Connections made before this epoch may lead to a server that is gone.
    epoch: AtomicU64,
}

impl Gate {
    /// Whether the server is not to be asked.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// A call was answered.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// A call failed. True if that opened the gate: whoever is told so has to probe.
    #[must_use]
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, SeqCst) + 1;
        failures >= THRESHOLD && !self.open.swap(true, SeqCst)
    }

    /// A probe over a connection of `epoch` succeeded.
    pub(super) fn close(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, SeqCst);
        self.failures.store(0, SeqCst);
        self.open.store(false, SeqCst);
    }

    /// The oldest connections that may be used.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_failures_in_a_row_open_it_once() {
        let gate = Gate::default();
        assert!(!gate.failed() && !gate.failed());
        gate.succeeded();
        assert!(!gate.failed() && !gate.failed() && !gate.is_open());
        assert!(gate.failed() && gate.is_open());
        assert!(!gate.failed(), "only one probes");
        gate.close(7);
        assert!(!gate.is_open());
        assert_eq!(gate.epoch(), 7);
    }
}
