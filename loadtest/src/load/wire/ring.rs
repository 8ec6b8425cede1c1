//! Calls by number, of which those under way lie close together.

use std::collections::VecDeque;

use super::Call;

/// Calls that are under way.
#[derive(Debug, Default)]
pub(super) struct Ring {
    first: u64,
    calls: VecDeque<Option<Call>>,
    open: usize,
}

impl Ring {
    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Takes a call in, and gives it a number: 0, 1, 2, …
    pub(super) fn push(&mut self, call: Call) -> u64 {
        self.calls.push_back(Some(call));
        self.open += 1;
        self.first + self.calls.len() as u64 - 1
    }

    /// The call of that number, once.
    pub(super) fn take(&mut self, number: u64) -> Option<Call> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let call = self.calls.get_mut(place)?.take()?;
        self.open -= 1;
        while let Some(None) = self.calls.front() {
            self.calls.pop_front();
            self.first += 1;
        }
        Some(call)
    }

    /// All that are left.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Call> + '_ {
        self.first += self.calls.len() as u64;
        self.open = 0;
        self.calls.drain(..).flatten()
    }
}
