//! The state of a circuit with what belongs to it.

use super::super::config::{FleetMode, FleetSettings};
use super::super::wire::{FleetState, Share};
use super::half_open::Round;
use super::ramp::Ramp;
use crate::time::{Span, Time};

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Closed,
    Open { until: Time },
    HalfOpen(Round),
    Recovering(Ramp),
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

impl Phase {
    /// Where a circuit of this mode is when nothing is wrong.
    pub(super) const fn at_rest(mode: FleetMode) -> Phase {
        match mode {
            FleetMode::Enforce => Phase::Closed,
            FleetMode::MetricsOnly => Phase::MetricsOnly,
        }
    }

    pub(super) const fn state(&self) -> FleetState {
        match self {
            Phase::Closed => FleetState::Closed,
            Phase::Open { .. } => FleetState::Open,
            Phase::HalfOpen(_) => FleetState::HalfOpen,
            Phase::Recovering(_) => FleetState::Recovering,
            Phase::ForcedOpen => FleetState::ForcedOpen,
            Phase::Disabled => FleetState::Disabled,
            Phase::MetricsOnly => FleetState::MetricsOnly,
        }
    }

    /// The share of ordinary calls that passes.
    pub(super) const fn admit(&self) -> Share {
        match self {
            Phase::Closed | Phase::Disabled | Phase::MetricsOnly => Share::ALL,
            Phase::Recovering(ramp) => ramp.admit,
            Phase::Open { .. } | Phase::HalfOpen(_) | Phase::ForcedOpen => Share::NONE,
        }
    }

    /// When something happens by itself.
    pub(super) fn wake(&self) -> Option<Time> {
        match self {
            Phase::Open { until } => Some(*until),
            Phase::HalfOpen(round) => Some(round.wake()),
            Phase::Recovering(ramp) => Some(ramp.next_step),
            Phase::Closed | Phase::ForcedOpen | Phase::Disabled | Phase::MetricsOnly => None,
        }
    }
}

/// The wait after so many openings in a row, before jitter.
pub(super) fn wait(settings: &FleetSettings, attempt: u32) -> Span {
    let cap = u128::from(settings.open_cap.as_micros());
    let mut wait = u128::from(settings.open_wait.as_micros());
    // At least 1.0 per step: either it reaches the cap within the first hundreds of steps, or never grows.
    for _ in 1..attempt.min(10_000) {
        if wait >= cap || settings.open_multiplier == 1_000 {
            break;
        }
        wait = (wait * u128::from(settings.open_multiplier)).div_ceil(1_000);
    }
    Span::from_wide(wait.min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_by_half_up_to_its_cap() {
        let settings = FleetSettings { open_cap: Span::from_secs(30), ..FleetSettings::default() };
        let waits: Vec<u64> = (0..9).map(|n| wait(&settings, n).as_micros() / 1_000).collect();
        assert_eq!(waits, [2_000, 2_000, 3_000, 4_500, 6_750, 10_125, 15_187, 22_781, 30_000]);
        assert_eq!(wait(&settings, u32::MAX), Span::from_secs(30));
        assert_eq!(wait(&FleetSettings::default(), u32::MAX), Span::from_secs(3));
    }
}
