//! The state of a view in one atomic word: all that a call needs while nothing is wrong.

use super::super::wire::{FleetState, Share};

/// Generation (upper 32 bits), state (bits 16 to 18), share (lower 16 bits).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word {
    /// Changes with every epoch that the view follows.
    pub(super) generation: u32,
    pub(super) state: FleetState,
    pub(super) admit: Share,
}

impl Word {
    pub(super) const fn pack(self) -> u64 {
        let state = match self.state {
            FleetState::Closed => 0,
            FleetState::Disabled => 1,
            FleetState::MetricsOnly => 2,
            FleetState::Open => 3,
            FleetState::HalfOpen => 4,
            FleetState::Recovering => 5,
            FleetState::ForcedOpen => 6,
        };
        (self.generation as u64) << 32 | state << 16 | self.admit.basis_points() as u64
    }

    pub(super) const fn unpack(word: u64) -> Word {
        let state = match (word >> 16) & 7 {
            1 => FleetState::Disabled,
            2 => FleetState::MetricsOnly,
            3 => FleetState::Open,
            4 => FleetState::HalfOpen,
            5 => FleetState::Recovering,
            6 => FleetState::ForcedOpen,
            _ => FleetState::Closed,
        };
        let admit = Share::from_basis_points((word & 0xffff) as u16);
        Word { generation: (word >> 32) as u32, state, admit }
    }

    /// Whether the local breaker alone decides.
    pub(super) const fn is_local(self) -> bool {
        matches!(self.state, FleetState::Closed | FleetState::Disabled | FleetState::MetricsOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let states = [
            FleetState::Closed,
            FleetState::Disabled,
            FleetState::MetricsOnly,
            FleetState::Open,
            FleetState::HalfOpen,
            FleetState::Recovering,
            FleetState::ForcedOpen,
        ];
        for state in states {
            for generation in [0, 1, u32::MAX] {
                let word = Word { generation, state, admit: Share::from_basis_points(1_234) };
                assert_eq!(Word::unpack(word.pack()), word);
            }
        }
    }
}
