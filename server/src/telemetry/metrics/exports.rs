//! What became of what was sent to a collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::telemetry) enum Signal {
    Metrics,
    Traces,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::telemetry) enum Export {
    /// The collector has it.
    Sent,
    /// The collector did not take it, or could not be reached.
    Failed,
}

impl Signal {
    pub(in crate::telemetry) const ALL: [(Signal, &str); 2] =
        [(Signal::Metrics, "metrics"), (Signal::Traces, "traces")];

    pub(in crate::telemetry) const fn name(self) -> &'static str {
        Signal::ALL[self as usize].1
    }
}

const EXPORTS: [(Export, &str); 2] = [(Export::Sent, "sent"), (Export::Failed, "failed")];

/// Counts of one process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ExportCounts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    used: AtomicBool,
    messages: [[AtomicU64; EXPORTS.len()]; Signal::ALL.len()],
    dropped: AtomicU64,
}

impl ExportCounts {
    /// From now on there is something to show.
    pub(in crate::telemetry) fn used(&self) {
        self.0.used.store(true, Relaxed);
    }

    pub(in crate::telemetry) fn is_used(&self) -> bool {
        self.0.used.load(Relaxed)
    }

    pub(in crate::telemetry) fn count(&self, signal: Signal, export: Export) {
        self.0.messages[signal as usize][export as usize].fetch_add(1, Relaxed);
    }

    /// Counts traces that no collector will see.
    pub(in crate::telemetry) fn dropped(&self, traces: u64) {
        self.0.dropped.fetch_add(traces, Relaxed);
    }

    pub(in crate::telemetry) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let pairs = Signal::ALL.iter().flat_map(|signal| EXPORTS.iter().map(move |export| (signal, export)));
        pairs.map(|((signal, signal_name), (export, export_name))| {
            let times = self.0.messages[*signal as usize][*export as usize].load(Relaxed);
            (*signal_name, *export_name, times)
        })
    }

    pub(in crate::telemetry) fn dropped_so_far(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }
}
