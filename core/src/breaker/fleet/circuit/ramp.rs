//! The ramp after an outage: additive increase while the target copes, multiplicative decrease when it does
//! not (Chiu, Jain: Analysis of the Increase and Decrease Algorithms for Congestion Avoidance, 1989).

use super::super::Share;
use super::super::config::FleetSettings;
use super::reporters::Reporters;
use super::tally::{Part, Tally};
use crate::time::Time;

/// The share never falls below this, or nothing could tell that the target copes again.
const LEAST: Share = Share::percent(2);

/// Where the ramp is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ramp {
    pub(super) admit: Share,
    pub(super) next_step: Time,
    /// Since when everything passes.
    full_since: Option<Time>,
}

/// What a step found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Evidence {
    /// Enough outcomes, few of them bad; or no outcomes at all.
    Good,
    /// Too few outcomes to judge, few of them bad.
    FewGood,
    /// Too few outcomes to judge, but not well.
    FewBad,
    /// Enough outcomes, too many of them bad.
    Bad,
}

impl Ramp {
    pub(super) fn new(now: Time, admit: Share, settings: &FleetSettings) -> Ramp {
        let full_since = (admit == Share::ALL).then_some(now);
        Ramp { admit, next_step: now + settings.ramp_every, full_since }
    }

    /// One step, if it is time; returns whether the share changed.
    pub(super) fn step(&mut self, now: Time, reporters: &mut Reporters, settings: &FleetSettings) -> bool {
        if now < self.next_step {
            return false;
        }
        self.next_step = now + settings.ramp_every;
        let before = self.admit;
        let crowd = reporters.heard(now, settings.window) as u64;
        let evidence = judge(reporters, crowd, settings);
        match evidence {
            Evidence::Good | Evidence::FewGood => self.raise(now, settings.ramp_step),
            Evidence::FewBad => {}
            Evidence::Bad => self.lower(settings.ramp_keep),
        }
        // What was too little to judge is kept for the next step.
        if matches!(evidence, Evidence::Good | Evidence::Bad) {
            reporters.clear_steps();
        }
        self.admit != before
    }

    /// Whether everything has passed for one window.
    pub(super) fn done(&self, now: Time, settings: &FleetSettings) -> bool {
        self.full_since.is_some_and(|since| now >= since + settings.window)
    }

    fn raise(&mut self, now: Time, step: Share) {
        let points = self.admit.basis_points().saturating_add(step.basis_points());
        self.admit = Share::from_basis_points(points);
        if self.admit == Share::ALL {
            self.full_since = self.full_since.or(Some(now));
        }
    }

    fn lower(&mut self, keep: Share) {
        let kept = u32::from(self.admit.basis_points()) * u32::from(keep.basis_points()) / 10_000;
        let kept = Share::from_basis_points(u16::try_from(kept).unwrap_or(u16::MAX));
        self.admit = kept.max(LEAST).min(self.admit);
        self.full_since = None;
    }
}

/// What the outcomes since the last judged step say. One reporter alone cannot hold the fleet down: bad
/// outcomes of at least `quorum_min` distinct reporters are needed once there are enough reporters.
fn judge(reporters: &Reporters, crowd: u64, settings: &FleetSettings) -> Evidence {
    let parts: Vec<Part> = reporters
        .iter()
        .map(|(_, reporter)| Part { judged: reporter.step.judged, bad: reporter.step.bad })
        .filter(|part| part.judged > 0)
        .collect();
    let tally = Tally::of(&parts, crowd, settings.ramp_bad, settings);
    let quorum = tally.plain || tally.over >= u64::from(settings.quorum_min);
    let bad = quorum && settings.ramp_bad.reached(tally.bad, tally.volume);
    match (tally.volume >= settings.ramp_min_samples, bad) {
        (true, true) => Evidence::Bad,
        (true, false) => Evidence::Good,
        (false, true) => Evidence::FewBad,
        (false, false) => Evidence::FewGood,
    }
}
