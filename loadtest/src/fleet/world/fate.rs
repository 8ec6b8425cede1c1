//! What becomes of the owner.

use super::super::scenario::{OwnerFate, Policy};
use super::{Happening, Span, Time, World};

/// Until another owner takes over.
const TAKEOVER: Span = Span::SECOND;
/// How often the liar lies.
const LIE_EVERY: Span = Span::from_millis(200);

impl World {
    pub(super) fn begin_owner(&mut self) {
        if self.scenario.policy != Policy::Fleet || self.scenario.owner == OwnerFate::Absent {
            return;
        }
        self.owner.begin(self.now);
        self.see_to_owner();
        let first = self.scenario.outage_from() - Span::from_secs(2);
        let last = self.scenario.outage_until() + Span::from_secs(30);
        match self.scenario.owner {
            OwnerFate::FailsOver(times) => {
                for _ in 0..times {
                    let at = first + self.chance.between(Span::ZERO, last - first);
                    self.push(at, Happening::OwnerFails);
                }
            }
            OwnerFate::Dies => {
                let middle = Span::from_micros(Span::from_secs(self.scenario.outage).as_micros() / 2);
                self.push(self.scenario.outage_from() + middle, Happening::OwnerFails);
            }
            OwnerFate::Steady | OwnerFate::Absent => {}
        }
        if self.scenario.poisoned {
            // The fleet is there before the liar is.
            self.push(self.now + Span::from_secs(5), Happening::Lie);
        }
    }

    pub(super) fn owner_fails(&mut self) {
        self.owner.fail();
        self.owner_wake = Time::MAX;
        if matches!(self.scenario.owner, OwnerFate::FailsOver(_)) {
            self.push(self.now + TAKEOVER, Happening::OwnerBegins);
        }
    }

    pub(super) fn owner_begins(&mut self) {
        self.owner.begin(self.now);
        self.see_to_owner();
        // Every stream broke, and is opened again.
        for client in 0..self.clients.len() {
            if let Some(view) = &self.clients[client].view {
                view.stream_lost();
            }
            self.look(client);
        }
    }

    pub(super) fn lie(&mut self) {
        let news = self.owner.lie(self.now);
        self.tell(&news);
        self.see_to_owner();
        self.push(self.now + LIE_EVERY, Happening::Lie);
    }
}
