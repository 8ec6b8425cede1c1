//! What a client's task has done.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What a [`FleetClient`](super::FleetClient) has done since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct FleetStats {
    /// Whether the server has answered on the present connection.
    pub connected: bool,
    /// Connections on which the server has answered.
    pub connections: u64,
    /// Messages to the server.
    pub messages: u64,
    /// Deltas in them, with those that were sent again.
    pub deltas: u64,
    /// Directives from the server.
    pub directives: u64,
    /// Directives that made no sense, and were not followed.
    pub senseless: u64,
    /// Permits for probes that were asked for one by one.
    pub asked: u64,
}

#[derive(Debug, Default)]
pub(super) struct Stats {
    connected: AtomicBool,
    connections: AtomicU64,
    messages: AtomicU64,
    deltas: AtomicU64,
    directives: AtomicU64,
    senseless: AtomicU64,
    asked: AtomicU64,
}

impl Stats {
    pub(super) fn read(&self) -> FleetStats {
        FleetStats {
            connected: self.connected.load(Relaxed),
            connections: self.connections.load(Relaxed),
            messages: self.messages.load(Relaxed),
            deltas: self.deltas.load(Relaxed),
            directives: self.directives.load(Relaxed),
            senseless: self.senseless.load(Relaxed),
            asked: self.asked.load(Relaxed),
        }
    }

    pub(super) fn connected(&self) {
        if !self.connected.swap(true, Relaxed) {
            self.connections.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn disconnected(&self) {
        self.connected.store(false, Relaxed);
    }

    pub(super) fn sent(&self, deltas: usize) {
        self.messages.fetch_add(1, Relaxed);
        self.deltas.fetch_add(deltas as u64, Relaxed);
    }

    pub(super) fn directive(&self) {
        self.directives.fetch_add(1, Relaxed);
    }

    /// Whether this is the first one.
    pub(super) fn senseless(&self) -> bool {
        self.senseless.fetch_add(1, Relaxed) == 0
    }

    pub(super) fn asked(&self) {
        self.asked.fetch_add(1, Relaxed);
    }
}
