//! The ramp after an outage: additive increase while the target copes, multiplicative decrease when it does
//! not (Chiu, Jain: Analysis of the Increase and Decrease Algorithms for Congestion Avoidance, 1989).
//!
//! As long as the target answers as fast as it did before the outage, the step doubles, as in a slow start
//! (Jacobson: Congestion Avoidance and Control, 1988). A target that warms up is slower than it was before it
//! is overloaded, so it is never hurried.

use super::super::Share;
use super::super::config::FleetSettings;
use super::reporters::Reporters;
use super::tally::{Part, Tally};
use crate::time::{Span, Time};

/// The share never falls below this, or nothing could tell that the target copes again.
const LEAST: Share = Share::percent(2);

/// One reporter cannot decide how fast the target answers: this much of a delta counts.
const MOST_PER_DELTA: u64 = 16;

/// Where the ramp is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ramp {
    pub(super) admit: Share,
    pub(super) next_step: Time,
    /// What the last good step added.
    step: Share,
    /// Calls since the last judged step that took no longer than before the outage, and calls that did.
    quick: u64,
    late: u64,
    /// The share before the last raise: what the target is known to bear.
    proven: Share,
    /// Since when everything passes.
    full_since: Option<Time>,
}

/// What a step found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Evidence {
    /// Enough outcomes, and less than half as many bad ones as would be too many.
    Clean,
    /// Enough outcomes, not too many of them bad.
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
        let (next_step, step) = (now + settings.ramp_every, settings.ramp_step);
        Ramp { admit, next_step, step, quick: 0, late: 0, proven: admit, full_since }
    }

    /// Notes that about half of `calls` took `median`, where `typical` was the median before the outage.
    pub(super) fn time(&mut self, median: Span, typical: Span, calls: u64) {
        let calls = calls.min(MOST_PER_DELTA);
        let bound = Span::from_wide(u128::from(typical.as_micros()) * 5 / 4);
        if median <= bound {
            self.quick = self.quick.saturating_add(calls);
        } else {
            self.late = self.late.saturating_add(calls);
        }
    }

    /// Whether the target answers as fast as before the outage, as far as most of the calls tell.
    const fn is_quick(&self) -> bool {
        self.quick > self.late
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
            Evidence::Clean if self.is_quick() => {
                self.step = grown(self.step, settings.ramp_growth);
                self.raise(now, self.step);
            }
            Evidence::Clean | Evidence::Good | Evidence::FewGood => {
                self.step = settings.ramp_step;
                self.raise(now, self.step);
            }
            Evidence::FewBad => self.step = settings.ramp_step,
            Evidence::Bad => {
                self.lower(settings);
                self.step = settings.ramp_step;
            }
        }
        // What was too little to judge is kept for the next step.
        if !matches!(evidence, Evidence::FewGood | Evidence::FewBad) {
            (self.quick, self.late) = (0, 0);
            reporters.clear_steps();
        }
        self.admit != before
    }

    /// Whether everything has passed for one window.
    pub(super) fn done(&self, now: Time, settings: &FleetSettings) -> bool {
        self.full_since.is_some_and(|since| now >= since + settings.window)
    }

    fn raise(&mut self, now: Time, step: Share) {
        self.proven = self.admit;
        let points = self.admit.basis_points().saturating_add(step.basis_points());
        self.admit = Share::from_basis_points(points);
        if self.admit == Share::ALL {
            self.full_since = self.full_since.or(Some(now));
        }
    }

    fn lower(&mut self, settings: &FleetSettings) {
        let keep = settings.ramp_keep;
        let kept = u32::from(self.admit.basis_points()) * u32::from(keep.basis_points()) / 10_000;
        let mut kept = Share::from_basis_points(u16::try_from(kept).unwrap_or(u16::MAX));
        if self.step > settings.ramp_step {
            // A large step overshot by much: back to what was borne before it.
            kept = kept.min(self.proven);
        }
        self.admit = kept.max(LEAST).min(self.admit);
        self.full_since = None;
    }
}

/// What a clean step adds, where the one before added `step`.
fn grown(step: Share, growth: u32) -> Share {
    let points = u64::from(step.basis_points()) * u64::from(growth) / 1_000;
    Share::from_basis_points(u16::try_from(points).unwrap_or(u16::MAX))
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
    let half = Share::from_basis_points(settings.ramp_bad.basis_points() / 2);
    let doubt = half.reached(tally.bad, tally.volume);
    match (tally.volume >= settings.ramp_min_samples, bad) {
        (true, true) => Evidence::Bad,
        (true, false) if !doubt => Evidence::Clean,
        (true, false) => Evidence::Good,
        (false, true) => Evidence::FewBad,
        (false, false) => Evidence::FewGood,
    }
}
