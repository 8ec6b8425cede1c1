//! Requests in the order of their times, as far as a window reaches.

use std::collections::BTreeMap;

use tollgate_core::time::{Span, Time};

use super::line::Logged;

/// Requests that are kept waiting for earlier ones at most.
const MAX_WAITING: usize = 200_000;

/// Access logs are written when a request ends and sorted by when it began: each waits until the log has come
/// a window further.
pub(super) struct Sorted {
    window: Span,
    waiting: BTreeMap<(Time, u64), Logged>,
    newest: Time,
    /// Of the request that was given out last.
    last: Time,
    sequence: u64,
    reordered: u64,
    late: u64,
}

impl Sorted {
    pub(super) fn new(window: Span) -> Sorted {
        Sorted {
            window,
            waiting: BTreeMap::new(),
            newest: Time::EPOCH,
            last: Time::EPOCH,
            sequence: 0,
            reordered: 0,
            late: 0,
        }
    }

    pub(super) fn push(&mut self, logged: Logged) {
        self.reordered += u64::from(logged.at < self.newest);
        self.newest = self.newest.max(logged.at);
        self.sequence += 1;
        self.waiting.insert((logged.at, self.sequence), logged);
    }

    /// The earliest request, if nothing earlier is expected any more, and when it is decided.
    pub(super) fn ready(&mut self) -> Option<(Time, Logged)> {
        let (&(at, _), _) = self.waiting.first_key_value()?;
        let due = self.newest - at > self.window || self.waiting.len() > MAX_WAITING;
        if due { self.rest() } else { None }
    }

    /// The earliest request of those that are left. One that comes too late is decided now.
    pub(super) fn rest(&mut self) -> Option<(Time, Logged)> {
        let ((at, _), logged) = self.waiting.pop_first()?;
        self.late += u64::from(at < self.last);
        self.last = self.last.max(at);
        Some((self.last, logged))
    }

    /// Requests that came after later ones.
    pub(super) fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Those of them that the window did not reach.
    pub(super) fn late(&self) -> u64 {
        self.late
    }
}
