//! Sliding window: the count of this window, plus that of the one before weighted by how much of it is left.

use super::level::narrow;
use super::{Ask, Cost, LimitError, MAX_COUNT, Retry, State, Step, Verdict};
use crate::time::{Span, Time};

/// Longest window: 100 years of 365.25 days.
const MAX_WINDOW: Span = Span::from_secs(36_525 * 86_400);
/// Largest limit.
const MAX_LIMIT: u64 = u32::MAX as u64;

/// What a sliding window remembers: the counts of two windows aligned to multiples of their length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlidingState {
    /// Start of the later window.
    pub start: Time,
    /// Length of both.
    pub length: Span,
    /// Units admitted in the window before `start`.
    pub previous: u64,
    /// Units admitted in the window that begins at `start`.
    pub current: u64,
}

/// A weighted count over two windows: `current + ceil(previous * rest / length)` may not pass the limit.
///
/// Any closed interval of length `d` holds at most `floor(limit * (1 + d / length))` units, as with a token
/// bucket. The weight is rounded up, since rounding down breaks that bound (peers.md §7).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlidingWindow {
    limit: u64,
    length: Span,
}

impl SlidingWindow {
    /// At most `limit` units, `0..=u32::MAX`, in a window of `length`, `1us..=100 years`.
    ///
    /// # Errors
    /// [`LimitError::Limit`] or [`LimitError::Window`] if one of them is out of range.
    pub fn new(limit: u64, length: Span) -> Result<SlidingWindow, LimitError> {
        if limit > MAX_LIMIT {
            return Err(LimitError::Limit(limit));
        }
        if length.is_zero() || length > MAX_WINDOW {
            return Err(LimitError::Window(length));
        }
        Ok(SlidingWindow { limit, length })
    }

    /// Units per window.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Length of the window.
    #[must_use]
    pub const fn length(&self) -> Span {
        self.length
    }

    pub(super) fn step(&self, state: Option<&State>, now: Time, ask: Ask) -> Step {
        let view = match state {
            Some(State::SlidingWindow(state)) => self.view(state, now),
            _ => self.view(
                &SlidingState { start: Time::EPOCH, length: self.length, previous: 0, current: 0 },
                now,
            ),
        };
        match ask.cost {
            Cost::Take(units) => self.take(&view, units),
            Cost::Refund(units) => self.refund(&view, units),
        }
    }

    pub(super) fn expires(&self, state: &State) -> Time {
        let State::SlidingWindow(state) = state else { return Time::EPOCH };
        let state = self.adopted(state);
        match (state.previous, state.current) {
            (0, 0) => state.start,
            (_, 0) => state.start + self.length,
            _ => state.start + self.length + self.length,
        }
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.limit
    }

    fn take(&self, view: &View, units: u64) -> Step {
        if view.used().saturating_add(units) > self.limit {
            let retry_after = match self.limit.checked_sub(units) {
                Some(room) => Retry::After(view.until_at_most(room)),
                None => Retry::Never,
            };
            let verdict = Verdict { allowed: false, retry_after, ..self.admitted(view, view) };
            return Step { verdict, state: None };
        }
        let mut after = *view;
        after.counts.current += units;
        let state = (units > 0).then_some(State::SlidingWindow(after.counts));
        Step { verdict: self.admitted(view, &after), state }
    }

    /// Gives back what was taken last. A unit of the window before frees only what it still weighs.
    fn refund(&self, view: &View, units: u64) -> Step {
        let counts = view.counts;
        let older = units.saturating_sub(counts.current);
        let mut after = *view;
        after.counts.current = counts.current.saturating_sub(units);
        after.counts.previous = counts.previous.saturating_sub(older);
        let state = (after.counts != counts).then_some(State::SlidingWindow(after.counts));
        Step { verdict: self.admitted(view, &after), state }
    }

    fn admitted(&self, before: &View, after: &View) -> Verdict {
        let used = after.used();
        Verdict {
            allowed: true,
            limit: self.limit,
            remaining: self.limit.saturating_sub(used),
            used_before: before.used(),
            used,
            retry_after: Retry::After(Span::ZERO),
            reset_after: after.until_at_most(0),
            wait: Span::ZERO,
        }
    }

    /// The counts as they stand in the window that holds `now`.
    fn view(&self, state: &SlidingState, now: Time) -> View {
        let state = self.adopted(state);
        let at = now.max(state.start);
        let elapsed = Span::from_micros(at.as_micros() % self.length.as_micros());
        let start = at - elapsed;
        let passed = start - state.start;
        let (previous, current) = match passed {
            Span::ZERO => (state.previous, state.current),
            _ if passed <= self.length => (state.current, 0),
            _ => (0, 0),
        };
        let counts = SlidingState { start, length: self.length, previous, current };
        View { counts, elapsed, lag: at - now }
    }

    /// A state written under another length, as one under this length. Where in the old windows the units
    /// were taken is not known, so that all of them count from the last instant at which one may have been:
    /// the end of the old window. Used units are never forgotten too early, at the price that they may hold
    /// until the old window has ended.
    fn adopted(&self, state: &SlidingState) -> SlidingState {
        if state.length == self.length {
            return *state;
        }
        let end = if state.current > 0 { state.start + state.length } else { state.start };
        let last = end - Span::MICRO;
        let start = last - Span::from_micros(last.as_micros() % self.length.as_micros());
        let current = state.previous.saturating_add(state.current).min(MAX_COUNT);
        SlidingState { start, length: self.length, previous: 0, current }
    }
}

/// The counts of a moment, `elapsed` after the start of their window and `lag` after the caller's clock.
#[derive(Clone, Copy)]
struct View {
    counts: SlidingState,
    elapsed: Span,
    lag: Span,
}

impl View {
    /// Units in use: those of this window, and those of the one before by what is left of it, rounded up.
    fn used(&self) -> u64 {
        let length = u128::from(self.counts.length.as_micros());
        let rest = length - u128::from(self.elapsed.as_micros());
        let weighted = (u128::from(self.counts.previous) * rest).div_ceil(length);
        self.counts.current.saturating_add(narrow(weighted))
    }

    /// How long until at most `units` are in use if nothing is taken.
    fn until_at_most(&self, units: u64) -> Span {
        let SlidingState { length, previous, current, .. } = self.counts;
        if self.used() <= units {
            return Span::ZERO;
        }
        let after_start = match units.checked_sub(current) {
            Some(room) => fades(previous, room, length),
            None => length + fades(current, units, length),
        };
        self.lag + (after_start - self.elapsed)
    }
}

/// How far into the next window `count` units weigh at most `room`; `count` is more than `room`.
fn fades(count: u64, room: u64, length: Span) -> Span {
    let weight = u128::from(room) * u128::from(length.as_micros()) / u128::from(count);
    length - Span::from_wide(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Limit;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    fn sliding(limit: u64, length: u64) -> Limit {
        Limit::SlidingWindow(SlidingWindow::new(limit, Span::from_micros(length)).unwrap())
    }

    fn state(start: u64, length: u64, previous: u64, current: u64) -> State {
        State::SlidingWindow(SlidingState {
            start: at(start),
            length: Span::from_micros(length),
            previous,
            current,
        })
    }

    #[test]
    fn the_window_before_weighs_what_is_left_of_it_rounded_up() {
        let used =
            |now| sliding(10, 100).step(Some(&state(0, 100, 0, 10)), at(now), Ask::peek()).verdict.used;
        assert_eq!([used(99), used(100), used(101), used(110), used(111)], [10, 10, 10, 9, 9]);
        assert_eq!([used(199), used(200), used(1_000)], [1, 0, 0]);
    }

    #[test]
    fn the_cost_counts_in_the_comparison() {
        let half = state(100, 100, 10, 0);
        assert!(sliding(10, 100).step(Some(&half), at(150), Ask::take(5)).verdict.allowed);
        let refused = sliding(10, 100).step(Some(&half), at(150), Ask::take(6));
        assert_eq!((refused.verdict.allowed, refused.state), (false, None));
        assert_eq!(refused.verdict.retry_after, Retry::After(Span::from_micros(10)));
    }

    #[test]
    fn retry_reaches_over_the_edge_of_the_window() {
        let refused =
            |units| sliding(10, 100).step(Some(&state(100, 100, 4, 10)), at(150), Ask::take(units)).verdict;
        assert_eq!(
            refused(1).retry_after,
            Retry::After(Span::from_micros(60)),
            "ten of a hundred into the next"
        );
        assert_eq!(refused(10).retry_after, Retry::After(Span::from_micros(150)), "nothing may be left");
        assert_eq!(refused(11).retry_after, Retry::Never);
        let edge = sliding(10, 100).step(Some(&state(100, 100, 1, 9)), at(199), Ask::take(1)).verdict;
        assert_eq!(edge.retry_after, Retry::After(Span::from_micros(1)), "at the edge itself");
    }

    #[test]
    fn a_refund_takes_from_this_window_first() {
        let step = sliding(10, 100).step(Some(&state(100, 100, 5, 3)), at(150), Ask::refund(4));
        assert_eq!(step.state, Some(state(100, 100, 4, 0)));
        assert_eq!((step.verdict.used_before, step.verdict.used), (6, 2));
    }

    #[test]
    fn another_length_counts_everything_until_the_old_window_is_over() {
        let shorter = sliding(10, 10).step(Some(&state(100, 100, 5, 3)), at(150), Ask::take(3)).verdict;
        assert_eq!((shorter.allowed, shorter.used), (false, 8));
        assert_eq!(
            shorter.retry_after,
            Retry::After(Span::from_micros(52)),
            "two of ten into the window from 200"
        );
        let longer = sliding(10, 1_000).step(Some(&state(100, 100, 5, 3)), at(250), Ask::take(2));
        assert_eq!(longer.state, Some(state(0, 1_000, 0, 10)));
    }

    #[test]
    fn a_clock_that_went_backwards_waits_for_its_lag_too() {
        let refused = sliding(10, 100).step(Some(&state(200, 100, 10, 0)), at(150), Ask::take(1)).verdict;
        assert_eq!(refused.retry_after, Retry::After(Span::from_micros(60)));
    }

    #[test]
    fn limit_and_window_are_bounded() {
        assert_eq!(SlidingWindow::new(MAX_LIMIT + 1, Span::SECOND), Err(LimitError::Limit(MAX_LIMIT + 1)));
        assert!(SlidingWindow::new(1, MAX_WINDOW + Span::MICRO).is_err());
        assert!(SlidingWindow::new(0, Span::MICRO).is_ok());
    }
}
