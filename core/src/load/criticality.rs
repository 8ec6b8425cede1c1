//! How much a request matters to the people behind it.

use std::fmt;

/// Four classes, from the first to be shed to the last (Beyer et al., "Site Reliability Engineering", ch. 21).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Criticality {
    /// Frequent partial and occasional full unavailability is expected: batch jobs that retry by themselves.
    Sheddable,
    /// Partial unavailability is expected: batch jobs with a date to keep.
    SheddablePlus,
    /// An outage is visible, less than the most critical; what is not marked is this.
    #[default]
    Critical,
    /// An outage is serious and visible.
    CriticalPlus,
}

impl Criticality {
    /// Every class, from the first to be shed.
    pub const ALL: [Criticality; 4] = [
        Criticality::Sheddable,
        Criticality::SheddablePlus,
        Criticality::Critical,
        Criticality::CriticalPlus,
    ];

    /// The class that a header names, in any case; an unknown name is [`Criticality::Critical`], as a request
    /// without a header is.
    #[must_use]
    pub fn parse(text: &str) -> Criticality {
        let text = text.trim();
        let named = |class: &&Criticality| class.as_str().eq_ignore_ascii_case(text);
        Criticality::ALL.iter().find(named).copied().unwrap_or_default()
    }

    /// Its name in a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Criticality::Sheddable => "sheddable",
            Criticality::SheddablePlus => "sheddable_plus",
            Criticality::Critical => "critical",
            Criticality::CriticalPlus => "critical_plus",
        }
    }

    /// `0..=3`, from the first to be shed.
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Criticality::Sheddable => 0,
            Criticality::SheddablePlus => 1,
            Criticality::Critical => 2,
            Criticality::CriticalPlus => 3,
        }
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_others_are_critical() {
        for (index, class) in Criticality::ALL.into_iter().enumerate() {
            assert_eq!(Criticality::parse(class.as_str()), class);
            assert_eq!(usize::from(class.index()), index);
        }
        assert_eq!(Criticality::parse(" SHEDDABLE_plus "), Criticality::SheddablePlus);
        for unknown in ["", "high", "sheddable-plus", "critical_plus2"] {
            assert_eq!(Criticality::parse(unknown), Criticality::Critical, "{unknown}");
        }
    }

    #[test]
    fn the_least_critical_is_the_least() {
        assert!(Criticality::ALL.is_sorted());
        assert!(Criticality::Sheddable < Criticality::CriticalPlus);
    }
}
