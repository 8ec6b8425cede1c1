//! Messages between clients and the owner: they take a while, and may be lost.

use tollgate_core::breaker::fleet::{Directive, Report};

use super::super::client::Granted;
use super::super::owner::{LIAR, News};
use super::{Call, Happening, ReporterId, Span, Time, World};

/// Who asked for a permit and heard nothing goes without.
const ANSWER_WITHIN: Span = Span::from_millis(100);

impl World {
    /// Sees to it that a client's report goes out when it is due, after this may have changed.
    pub(super) fn look(&mut self, client: usize) {
        let scheduled = self.flushes[client];
        let Some(view) = &self.clients[client].view else { return };
        let due = view.flush_due(self.now).max(self.now);
        if due < scheduled {
            self.schedule_flush(client, due);
        }
    }

    pub(super) fn schedule_flush(&mut self, client: usize, at: Time) {
        self.flushes[client] = at;
        self.push(at, Happening::Flush(client));
    }

    pub(super) fn flush(&mut self, client: usize) {
        // A sooner look was scheduled after this one, and has been taken.
        if self.flushes[client] != self.now {
            return;
        }
        self.flushes[client] = Time::MAX;
        let Some(view) = &self.clients[client].view else { return };
        let (reporter, incarnation) = (view.config().reporter, view.config().incarnation);
        let deltas: Vec<_> = std::iter::from_fn(|| view.flush(self.now)).collect();
        for delta in deltas {
            let report = Box::new(Report { reporter, incarnation, delta });
            self.transmit(client, Happening::Up(report));
        }
        self.look(client);
    }

    fn transmit(&mut self, client: usize, what: Happening) {
        if !self.is_lost() {
            self.push(self.now + self.delays[client], what);
        }
    }

    /// Whether the next message is lost. Where none can be, no chance is drawn: without an owner the calls of a
    /// seed are those that local breakers alone see.
    fn is_lost(&mut self) -> bool {
        self.scenario.loss > 0.0 && self.chance.unit() < self.scenario.loss
    }

    pub(super) fn arrive(&mut self, report: &Report) {
        let news = self.owner.report(self.now, report);
        self.tell(&news);
        if !news.all && !news.some.contains(&report.reporter) {
            self.direct(report.reporter);
        }
        self.see_to_owner();
    }

    /// Tells those who have to know.
    pub(super) fn tell(&mut self, news: &News) {
        if news.all {
            (1..=self.clients.len() as u64).for_each(|id| self.direct(ReporterId(id)));
        } else {
            news.some.iter().for_each(|id| self.direct(*id));
        }
    }

    fn direct(&mut self, reporter: ReporterId) {
        if reporter == LIAR {
            return;
        }
        let Some(client) = reporter.0.checked_sub(1).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        if let Some(directive) = self.owner.directive(self.now, reporter) {
            self.transmit(client, Happening::Down(client, Box::new(directive)));
        }
    }

    pub(super) fn directed(&mut self, client: usize, directive: &Directive) {
        self.clients[client].apply(self.now, directive);
        self.look(client);
    }

    pub(super) fn wake(&mut self) {
        if self.owner_wake != self.now {
            return;
        }
        self.owner_wake = Time::MAX;
        let news = self.owner.tick(self.now);
        self.tell(&news);
        self.see_to_owner();
    }

    /// Sees to it that the owner wakes when something is due.
    pub(super) fn see_to_owner(&mut self) {
        let Some(wake) = self.owner.wake() else { return };
        let wake = wake.max(self.now);
        if wake < self.owner_wake {
            self.owner_wake = wake;
            self.push(wake, Happening::Wake);
        }
    }

    pub(super) fn ask_owner(&mut self, call: Call) {
        // The question or the answer may be lost: the call waits no longer than this.
        if self.is_lost() {
            self.push(self.now + ANSWER_WITHIN, Happening::Answer(call, None));
        } else {
            self.push(self.now + self.delays[call.client], Happening::Ask(call));
        }
    }

    pub(super) fn asked(&mut self, call: Call) {
        let granted = self.owner.acquire(self.now, ReporterId(call.client as u64 + 1));
        let lost = self.is_lost();
        let (granted, after): (Option<Granted>, Span) =
            if lost { (None, ANSWER_WITHIN) } else { (granted, self.delays[call.client]) };
        self.push(self.now + after, Happening::Answer(call, granted));
        self.see_to_owner();
    }

    pub(super) fn answered(&mut self, call: Call, granted: Option<Granted>) {
        match granted.and_then(|granted| self.clients[call.client].granted(&granted)) {
            Some(pass) => self.send(call, pass),
            None => self.meter.at(self.now).shed += 1,
        }
        self.look(call.client);
    }
}
