//! The state word: everything that a call in CLOSED has to read.

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// Calls pass and are judged.
    Closed,
    /// Calls are refused until the wait is over.
    Open,
    /// A few probes pass; their outcomes decide.
    HalfOpen,
    /// A growing share of the calls passes and is judged.
    Recovering,
    /// Calls are refused by hand.
    ForcedOpen,
    /// Calls pass by hand and nothing is recorded.
    Disabled,
    /// Calls pass by hand; they are judged, and what would have opened the breaker is told.
    MetricsOnly,
}

impl Mode {
    /// Whether outcomes go into a window in this mode.
    pub(super) const fn measures(self) -> bool {
        matches!(self, Mode::Closed | Mode::Recovering | Mode::MetricsOnly)
    }

    /// Whether a person set this mode and only a person or its TTL ends it.
    #[must_use]
    pub const fn is_manual(self) -> bool {
        matches!(self, Mode::ForcedOpen | Mode::Disabled | Mode::MetricsOnly)
    }
}

/// `epoch: 32 | mode: 3 | window: 1 | unused: 12 | half-open permits left: 16`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word(u64);

const MODE_SHIFT: u32 = 29;
const WINDOW_SHIFT: u32 = 28;

impl Word {
    pub(super) const fn new(epoch: u32, mode: Mode, window: usize, permits: u16) -> Word {
        let window = (window as u64 & 1) << WINDOW_SHIFT;
        Word((epoch as u64) << 32 | (mode as u64) << MODE_SHIFT | window | permits as u64)
    }

    pub(super) const fn from_bits(bits: u64) -> Word {
        Word(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) const fn mode(self) -> Mode {
        match self.0 >> MODE_SHIFT & 7 {
            0 => Mode::Closed,
            1 => Mode::Open,
            2 => Mode::HalfOpen,
            3 => Mode::Recovering,
            4 => Mode::ForcedOpen,
            5 => Mode::Disabled,
            _ => Mode::MetricsOnly,
        }
    }

    /// Which of the two windows is in use.
    pub(super) const fn window(self) -> usize {
        (self.0 >> WINDOW_SHIFT & 1) as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lowest 16 bits")]
    pub(super) const fn permits(self) -> u16 {
        self.0 as u16
    }

    pub(super) const fn with_permits(self, permits: u16) -> Word {
        Word(self.0 & !0xffff | permits as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_word_comes_back() {
        let modes = [
            Mode::Closed,
            Mode::Open,
            Mode::HalfOpen,
            Mode::Recovering,
            Mode::ForcedOpen,
            Mode::Disabled,
            Mode::MetricsOnly,
        ];
        for mode in modes {
            for (epoch, window, permits) in [(0, 0, 0), (u32::MAX, 1, u16::MAX), (7, 1, 3), (8, 0, 5)] {
                let word = Word::new(epoch, mode, window, permits);
                assert_eq!((word.epoch(), word.mode()), (epoch, mode));
                assert_eq!((word.window(), word.permits()), (window, permits));
                assert_eq!(word.with_permits(9), Word::new(epoch, mode, window, 9));
            }
        }
    }
}
