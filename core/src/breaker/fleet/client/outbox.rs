//! Deltas on their way: each has a sequence, and is sent again until the owner says that it arrived.

use std::collections::VecDeque;

use super::super::wire::{Ack, Delta};
use crate::time::{Span, Time};

/// Deltas that wait for an acknowledgement at most; then counts pile up in the counters instead.
const MOST: usize = 8;
/// A delta is sent again when it was not acknowledged for this long.
const RESEND_AFTER: Span = Span::SECOND;

#[derive(Debug)]
struct Sent {
    delta: Delta,
    ended: Time,
    resend: Time,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    last: u64,
    sent: VecDeque<Sent>,
}

impl Outbox {
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < MOST
    }

    /// When the next delta is to be sent again.
    pub(super) fn resend_due(&self) -> Option<Time> {
        self.sent.iter().map(|sent| sent.resend).min()
    }

    /// A delta whose time has come again, with its age as it is now.
    pub(super) fn resend(&mut self, now: Time) -> Option<Delta> {
        let sent = self.sent.iter_mut().find(|sent| sent.resend <= now)?;
        sent.resend = now + RESEND_AFTER;
        Some(Delta { age: now - sent.ended, ..sent.delta.clone() })
    }

    /// Gives `delta`, whose counting ended at `ended`, the next sequence, and keeps it.
    pub(super) fn send(&mut self, now: Time, ended: Time, mut delta: Delta) -> Delta {
        self.last += 1;
        delta.sequence = self.last;
        delta.age = now - ended;
        self.sent.push_back(Sent { delta: delta.clone(), ended, resend: now + RESEND_AFTER });
        delta
    }

    pub(super) fn acknowledge(&mut self, ack: &Ack) {
        self.sent.retain(|sent| !ack.covers(sent.delta.sequence));
    }

    /// All of it is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent.iter_mut().for_each(|sent| sent.resend = Time::EPOCH);
    }

    pub(super) fn waiting(&self) -> usize {
        self.sent.len()
    }
}
