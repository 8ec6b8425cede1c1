//! What many reporters' outcomes add up to, when no single one may decide.
//!
//! Volumes are winsorised (Tukey, 1962): a reporter that counted more than its share of all outcomes is cut
//! down to that share. So one instance with a broken network card, or a hostile one, cannot open the circuit
//! for all, whatever numbers it claims.

use super::super::Share;
use super::super::config::FleetSettings;

/// Weights are computed in 1024ths of an outcome.
const SCALE: u64 = 1_024;

/// Outcomes of one reporter: how many, and how many of the kind in question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part {
    pub(super) judged: u64,
    pub(super) bad: u64,
}

/// Largest volume of a part, so that no product overflows.
const MOST: u64 = 1 << 48;

impl Part {
    fn clipped(self) -> Part {
        let judged = self.judged.min(MOST);
        Part { judged, bad: self.bad.min(judged) }
    }
}

/// What they add up to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    /// Outcomes that count, after the cap.
    pub(crate) volume: u64,
    /// Of the kind in question, after the cap.
    pub(crate) bad: u64,
    /// Reporters with outcomes.
    pub(crate) active: u64,
    /// Reporters that are themselves at or above the threshold.
    pub(crate) over: u64,
    /// Whether so few reporters are there that the plain rate decides.
    pub(crate) plain: bool,
}

impl Tally {
    /// Adds up `parts`; reporters over `threshold` are counted for the quorum. `crowd` reporters are there,
    /// with outcomes or without: one that is the first to have some is not alone for that.
    pub(super) fn of(parts: &[Part], crowd: u64, threshold: Share, settings: &FleetSettings) -> Tally {
        let parts: Vec<Part> =
            parts.iter().map(|part| part.clipped()).filter(|part| part.judged > 0).collect();
        let active = parts.len() as u64;
        let over = parts.iter().filter(|part| threshold.reached(part.bad, part.judged)).count() as u64;
        let plain = active.max(crowd) < u64::from(settings.plain_below);
        let equal = 10_000_u64.div_ceil(active.max(1));
        let share = if plain { 10_000 } else { u64::from(settings.weight_cap.basis_points()).max(equal) };
        let total: u128 = parts.iter().map(|part| u128::from(part.judged)).sum();
        let (mut volume, mut bad) = (0, 0);
        for part in &parts {
            let full = u128::from(part.judged);
            let weight = (full * u128::from(SCALE)).min(cap(total - full, share));
            volume += weight;
            bad += weight * u128::from(part.bad) / u128::from(part.judged);
        }
        Tally { volume: unscaled(volume), bad: unscaled(bad), active, over, plain }
    }

    /// Whether there is enough evidence from enough reporters, and `threshold` is reached.
    pub(super) fn reaches(&self, threshold: Share, volume: u64, settings: &FleetSettings) -> bool {
        self.volume >= volume && threshold.reached(self.bad, self.volume) && self.has_quorum(settings)
    }

    fn has_quorum(&self, settings: &FleetSettings) -> bool {
        if self.plain {
            return true;
        }
        let share = u64::from(settings.quorum_share.basis_points());
        let needed = (self.active * share).div_ceil(10_000).max(u64::from(settings.quorum_min));
        self.over >= needed
    }
}

fn unscaled(weight: u128) -> u64 {
    u64::try_from(weight / u128::from(SCALE)).unwrap_or(u64::MAX)
}

/// The largest weight of a reporter, in 1024ths, when the others counted `others`: its share of both.
///
/// The others are taken as they are: cutting all of them down until everyone holds at most a fifth would
/// leave nothing of a fleet of four busy instances and an idle one.
fn cap(others: u128, share: u64) -> u128 {
    let left = u128::from(10_000_u64.saturating_sub(share));
    (others * u128::from(SCALE) * u128::from(share)).checked_div(left).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Share = Share::percent(50);

    fn parts(of: &[(u64, u64)]) -> Vec<Part> {
        of.iter().map(|&(judged, bad)| Part { judged, bad }).collect()
    }

    fn tally(of: &[(u64, u64)]) -> Tally {
        Tally::of(&parts(of), 0, HALF, &FleetSettings::default())
    }

    #[test]
    fn below_five_reporters_the_plain_rate_decides() {
        let tally = tally(&[(100, 100), (50, 0)]);
        assert_eq!((tally.volume, tally.bad, tally.active), (150, 100, 2));
        assert!(tally.reaches(HALF, 100, &FleetSettings::default()));
    }

    #[test]
    fn one_reporter_never_holds_more_than_its_cap() {
        let tally = tally(&[(1 << 40, 1 << 40), (100, 0), (100, 0), (100, 0), (100, 0), (100, 0)]);
        // 500 others are 80 %, so the loud one holds 125 of 625.
        assert_eq!((tally.volume, tally.bad), (625, 125));
        assert!(!tally.reaches(HALF, 100, &FleetSettings::default()));
    }

    #[test]
    fn without_a_quorum_nothing_is_reached() {
        let settings = FleetSettings::default();
        let two_of_six = tally(&[(100, 100), (100, 100), (1, 0), (1, 0), (1, 0), (1, 0)]);
        assert_eq!(two_of_six.over, 2);
        assert!(!two_of_six.reaches(Share::percent(1), 1, &settings));
        let many: Vec<(u64, u64)> = (0..100).map(|i| (10, if i < 19 { 10 } else { 4 })).collect();
        let nineteen = tally(&many);
        assert!(HALF.reached(nineteen.bad, nineteen.volume) && !nineteen.reaches(HALF, 100, &settings));
    }

    #[test]
    fn reporters_of_equal_size_keep_their_full_weight() {
        let equal: Vec<(u64, u64)> = vec![(100, 60); 7];
        assert_eq!((tally(&equal).volume, tally(&equal).bad), (700, 420));
        let five: Vec<(u64, u64)> = vec![(100, 60); 5];
        assert_eq!(tally(&five).volume, 500);
    }

    #[test]
    fn an_idle_reporter_does_not_take_the_weight_of_the_busy_ones() {
        let tally = tally(&[(1_000, 900), (1_000, 900), (1_000, 900), (1_000, 900), (1, 0)]);
        assert_eq!(tally.volume, 3_001 + 1, "a quarter of the 3 001 of the others, each");
        assert!(tally.reaches(HALF, 100, &FleetSettings::default()));
    }

    #[test]
    fn the_first_of_a_crowd_to_report_is_not_alone() {
        let settings = FleetSettings::default();
        let first = Tally::of(&parts(&[(1_000, 1_000)]), 5, HALF, &settings);
        assert!(!first.reaches(HALF, 100, &settings));
        let alone = Tally::of(&parts(&[(1_000, 1_000)]), 4, HALF, &settings);
        assert!(alone.reaches(HALF, 100, &settings));
    }

    #[test]
    fn no_numbers_overflow() {
        let huge = [(u64::MAX, u64::MAX); 4_096];
        let tally = tally(&huge);
        assert_eq!((tally.volume, tally.bad, tally.over), (4_096 * MOST, 4_096 * MOST, 4_096));
    }
}
