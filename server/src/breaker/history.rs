//! What has happened to circuits of late, for people.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_core::time::Time;
use tollgate_proto::tollgate::v1 as wire;

use super::key::Key;

/// Changes that are remembered.
const MOST: usize = 256;

/// The latest changes of the circuits of this server.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<wire::CircuitChange>>);

impl History {
    /// Notes that a circuit went from one state to another.
    pub(super) fn note(&self, at: Time, key: &Key, (from, to): (&str, &str), why: &str) {
        let mut changes = self.lock();
        if changes.len() >= MOST {
            changes.pop_front();
        }
        changes.push_back(wire::CircuitChange {
            key: Some(key.to_wire()),
            at_unix_ms: at.as_micros() / 1_000,
            from: from.to_owned(),
            to: to.to_owned(),
            reason: why.to_owned(),
        });
    }

    /// The latest, the very latest first.
    pub(super) fn latest(&self, most: usize) -> Vec<wire::CircuitChange> {
        self.lock().iter().rev().take(most).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<wire::CircuitChange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_changes_are_remembered() {
        let history = History::default();
        let key = Key::new(["n", "t", "", ""]).unwrap();
        for number in 0..MOST as u64 + 10 {
            history.note(Time::from_micros(number * 1_000), &key, ("closed", "open"), "why");
        }
        let latest = history.latest(usize::MAX);
        assert_eq!((latest.len(), latest[0].at_unix_ms), (MOST, MOST as u64 + 9));
        assert_eq!(history.latest(1), latest[..1]);
    }
}
