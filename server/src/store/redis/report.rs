//! What the store counts and says about itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;

use super::lane::{ConnectError, fault_of};
use crate::store::times::Recorder;
use crate::store::{Fault, Remote};

/// At most one line of the log for each kind of fault in this time.
const QUIET: Duration = Duration::from_secs(5);

/// Counters, and a log that is never flooded.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) groups: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) replaced: AtomicU64,
    pub(super) corrupt: AtomicU64,
    pub(super) uncancelled: AtomicU64,
    pub(super) times: Recorder,
    faults: [AtomicU64; Fault::ALL.len()],
    said: [Mutex<Option<Instant>>; Fault::ALL.len()],
}

impl Report {
    /// Counts a group of hits that got no answer.
    pub(super) fn fault(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Relaxed);
    }

    /// Says that a call failed, unless that was said a moment ago.
    pub(super) fn call_failed(&self, fault: Fault, error: Option<&RedisError>) {
        if self.may_say(fault) {
            let error = error.map_or_else(|| "no answer in time".to_owned(), ToString::to_string);
            tracing::warn!(cause = fault.name(), error, "a call to Redis failed");
        }
    }

    /// Says that a connection could not be made.
    pub(super) fn connection_failed(&self, error: &ConnectError) {
        let fault = fault_of(error);
        if self.may_say(fault) {
            tracing::warn!(cause = fault.name(), %error, "cannot connect to Redis");
        }
    }

    /// Says that the script met an error.
    pub(super) fn script_failed(&self, fault: Fault, text: &str) {
        if self.may_say(fault) {
            tracing::warn!(cause = fault.name(), error = text, "Redis did not take a charge");
        }
    }

    fn may_say(&self, fault: Fault) -> bool {
        let now = Instant::now();
        let Ok(mut said) = self.said[fault as usize].lock() else { return true };
        let quiet = said.is_some_and(|said| now.duration_since(said) < QUIET);
        if !quiet {
            *said = Some(now);
        }
        !quiet
    }

    /// The counts so far; what is not counted here is left at zero.
    pub(super) fn remote(&self) -> Remote {
        Remote {
            groups: self.groups.load(Relaxed),
            calls: self.calls.load(Relaxed),
            faults: std::array::from_fn(|fault| self.faults[fault].load(Relaxed)),
            replaced: self.replaced.load(Relaxed),
            corrupt: self.corrupt.load(Relaxed),
            uncancelled: self.uncancelled.load(Relaxed),
            ..Remote::default()
        }
    }
}
