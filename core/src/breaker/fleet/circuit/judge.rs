//! When the outcomes of the fleet open a circuit, and when one reporter stands alone with its failures.

use super::super::config::FleetSettings;
use super::super::{ReporterId, Share};
use super::event::{Event, Reason};
use super::reporters::{Grid, Reporters, Sums};
use super::tally::{Part, Tally};
use crate::time::Time;

/// Reporters, and when they are looked at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) reporters: &'a Reporters,
    pub(super) grid: &'a Grid,
    pub(super) now: Time,
    pub(super) settings: &'a FleetSettings,
}

impl View<'_> {
    /// The outcomes from cell `first` on, `bad` ones picked by `pick`.
    fn tally(&self, first: u64, pick: fn(&Sums) -> u64, threshold: Share) -> Tally {
        let part = |sums: Sums| Part { judged: sums.judged, bad: pick(&sums) };
        let parts: Vec<Part> =
            self.reporters.iter().map(|(_, reporter)| part(reporter.since(first))).collect();
        let crowd = self.reporters.heard(self.now, self.settings.window) as u64;
        Tally::of(&parts, crowd, threshold, self.settings)
    }

    /// Failures over the long window.
    pub(super) fn over_window(&self) -> Tally {
        self.tally(self.grid.window_from(self.now), |sums| sums.failures, self.settings.failure_rate)
    }

    /// Slow calls over the long window.
    pub(super) fn slow_in_window(&self) -> u64 {
        let threshold = self.settings.slow_rate.unwrap_or(self.settings.failure_rate);
        self.tally(self.grid.window_from(self.now), |sums| sums.slow, threshold).bad
    }

    /// Why the circuit should open, if it should.
    pub(super) fn trip(&self) -> Option<Reason> {
        let volume = self.settings.min_volume;
        let threshold = self.settings.short_failure_rate;
        let short = self.tally(self.grid.short_from(self.now), |sums| sums.failures, threshold);
        if short.reaches(threshold, volume, self.settings) {
            return Some(Reason::ShortFailureRate(short.into()));
        }
        if let Some(reason) = self.trip_early(&short) {
            return Some(reason);
        }
        let long = self.over_window();
        if long.reaches(self.settings.failure_rate, volume, self.settings) {
            return Some(Reason::FailureRate(long.into()));
        }
        self.trip_slow()
    }

    /// Half of many outcomes in the short window failed, and it goes on.
    fn trip_early(&self, short: &Tally) -> Option<Reason> {
        let threshold = self.settings.failure_rate;
        // Rates and volumes do not depend on the threshold, the quorum does: most of the time that is spared.
        if short.volume < self.settings.short_volume || !threshold.reached(short.bad, short.volume) {
            return None;
        }
        let tally = |first| self.tally(first, |sums| sums.failures, threshold);
        let short = tally(self.grid.short_from(self.now));
        let last = tally(self.grid.last_from(self.now));
        let goes_on = threshold.reached(last.bad, last.volume);
        let reached = goes_on && short.reaches(threshold, self.settings.short_volume, self.settings);
        reached.then(|| Reason::ShortFailureRate(short.into()))
    }

    /// Too many calls are slow, in the short window or in the long one.
    fn trip_slow(&self) -> Option<Reason> {
        let threshold = self.settings.slow_rate?;
        let volume = self.settings.min_volume;
        let strict = threshold.max(self.settings.short_failure_rate);
        let short = self.tally(self.grid.short_from(self.now), |sums| sums.slow, strict);
        if short.reaches(strict, volume, self.settings) {
            return Some(Reason::SlowRate(short.into()));
        }
        let slow = self.tally(self.grid.window_from(self.now), |sums| sums.slow, threshold);
        slow.reaches(threshold, volume, self.settings).then(|| Reason::SlowRate(slow.into()))
    }

    /// Whether anybody has failed within the short window: then its share can still grow as it loses older
    /// outcomes, though nobody reports any more since the local breakers have opened.
    pub(super) fn simmers(&self) -> bool {
        let first = self.grid.short_from(self.now);
        self.reporters.iter().any(|(_, reporter)| reporter.since(first).failures > 0)
    }

    /// Why a recovering circuit should open again, if it should.
    pub(super) fn reopen(&self) -> Option<Reason> {
        let threshold = self.settings.reopen_rate;
        let tally = self.tally(self.grid.short_from(self.now), |sums| sums.failures, threshold);
        let reached = tally.reaches(threshold, self.settings.reopen_min_samples, self.settings);
        reached.then(|| Reason::RampFailed(tally.into()))
    }
}

/// Finds reporters that fail while the others do not, and those that no longer do.
pub(super) fn local_faults(
    reporters: &mut Reporters,
    grid: &Grid,
    now: Time,
    settings: &FleetSettings,
) -> Vec<Event> {
    let first = grid.window_from(now);
    let mut total = Sums::default();
    let mut active = 0;
    for (_, reporter) in reporters.iter() {
        let sums = reporter.since(first);
        active += u32::from(sums.judged > 0);
        total.add(&sums);
    }
    let enough = active >= settings.quorum_min;
    let mut events = Vec::new();
    for (id, reporter) in reporters.iter_mut() {
        let own = reporter.since(first);
        let faulty = enough && alone(&own, &total, settings);
        if faulty != reporter.faulty {
            reporter.faulty = faulty;
            events.push(fault(id, &own, faulty));
        }
    }
    events
}

fn fault(reporter: ReporterId, own: &Sums, faulty: bool) -> Event {
    if faulty {
        Event::LocalFault { reporter, judged: own.judged, failures: own.failures }
    } else {
        Event::LocalFaultOver { reporter }
    }
}

/// Whether a reporter fails, and the others (what is left of `total`) are well.
fn alone(own: &Sums, total: &Sums, settings: &FleetSettings) -> bool {
    let others = total.judged.saturating_sub(own.judged);
    let others_failed = total.failures.saturating_sub(own.failures);
    own.judged >= settings.ramp_min_samples
        && settings.failure_rate.reached(own.failures, own.judged)
        && others >= settings.ramp_min_samples
        && !settings.ramp_bad.reached(others_failed, others)
}
