//! What is counted of a management server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What is counted.
#[derive(Debug, Default)]
pub struct XdsFigures {
    connected: AtomicBool,
    responses: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    version: Mutex<Option<String>>,
}

/// [`XdsFigures`] at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct XdsReading {
    /// Whether a stream is open.
    pub connected: bool,
    /// Responses that were put in force.
    pub accepted: u64,
    /// Responses that were refused.
    pub rejected: u64,
    /// The version in force; `None` before the first.
    pub version: Option<String>,
}

impl XdsFigures {
    /// The figures now.
    #[must_use]
    pub fn read(&self) -> XdsReading {
        XdsReading {
            connected: self.connected.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            version: self.version.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(super) fn connected(&self) {
        self.connected.store(true, Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.connected.store(false, Relaxed);
    }

    pub(super) fn responded(&self) {
        self.responses.fetch_add(1, Relaxed);
    }

    pub(super) fn responses(&self) -> u64 {
        self.responses.load(Relaxed)
    }

    pub(super) fn accepted(&self, version: &str) {
        self.accepted.fetch_add(1, Relaxed);
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_owned());
    }

    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }
}
