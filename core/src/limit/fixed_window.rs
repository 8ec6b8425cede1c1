//! Fixed window: a count that starts afresh with every window.

use super::{Ask, Calendar, Cost, LimitError, MAX_COUNT, Retry, State, Step, Verdict};
use crate::time::{Span, Time};

/// Longest window: 100 years of 365.25 days.
const MAX_WINDOW: Span = Span::from_secs(36_525 * 86_400);
/// Largest limit.
const MAX_LIMIT: u64 = u32::MAX as u64;

/// Where windows begin and end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Window {
    /// Windows of one length, `1us..=100 years`, aligned to the Unix epoch.
    Epoch(Span),
    /// A window of this length, `1us..=100 years`, begins with the first charged request after the one
    /// before has ended.
    Anchored(Span),
    /// Windows of a calendar in a time zone.
    Calendar(Calendar),
}

/// Whether a refused request is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// It is, as in envoyproxy/ratelimit, which adds first and compares then.
    Counts,
    /// It is not.
    Free,
}

/// What a fixed window remembers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FixedState {
    /// Start of the window.
    pub start: Time,
    /// When the count may be forgotten: the end of the window, or of an older and longer one that was still
    /// running when the limit was changed.
    pub end: Time,
    /// Units charged, at most [`MAX_COUNT`].
    pub count: u64,
}

/// Admits a number of units in each window: at most `limit` per window, so at most twice that around its end.
///
/// A changed window never forgets what was used: while a stored window overlaps the present one, its count
/// is carried over, and it is kept at least until the stored window would have ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FixedWindow {
    limit: u64,
    window: Window,
    refused: Refused,
}

impl FixedWindow {
    /// At most `limit` units per window, `0..=u32::MAX`.
    ///
    /// # Errors
    /// [`LimitError::Limit`] or [`LimitError::Window`] if one of them is out of range.
    pub fn new(limit: u64, window: Window, refused: Refused) -> Result<FixedWindow, LimitError> {
        if limit > MAX_LIMIT {
            return Err(LimitError::Limit(limit));
        }
        match window {
            Window::Epoch(length) | Window::Anchored(length) if length.is_zero() || length > MAX_WINDOW => {
                Err(LimitError::Window(length))
            }
            _ => Ok(FixedWindow { limit, window, refused }),
        }
    }

    /// Units per window.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Where windows begin and end.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Whether a refused request is counted.
    #[must_use]
    pub const fn refused(&self) -> Refused {
        self.refused
    }

    /// The same limit with another rule for refused requests.
    #[must_use]
    pub fn refusing(self, refused: Refused) -> FixedWindow {
        FixedWindow { refused, ..self }
    }

    pub(super) fn step(&self, state: Option<&State>, now: Time, ask: Ask) -> Step {
        let current = match state {
            Some(State::FixedWindow(state)) => self.window.carried(state, now),
            _ => self.window.fresh(now),
        };
        match ask.cost {
            Cost::Take(units) => self.take(&current, now, units),
            Cost::Refund(units) => self.refund(&current, now, units),
        }
    }

    pub(super) fn expires(&self, state: &State) -> Time {
        match state {
            State::FixedWindow(state) => self.window.settled(state),
            _ => Time::EPOCH,
        }
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.limit
    }

    fn take(&self, current: &FixedState, now: Time, units: u64) -> Step {
        let after = FixedState { count: current.count.saturating_add(units).min(MAX_COUNT), ..*current };
        let allowed = after.count <= self.limit;
        let retry_after = match (allowed, units > self.limit) {
            (true, _) => Retry::After(Span::ZERO),
            (false, true) => Retry::Never,
            (false, false) => Retry::After(current.end - now),
        };
        let charged = units > 0 && (allowed || self.refused == Refused::Counts);
        let after = if charged { after } else { *current };
        let verdict = Verdict { allowed, retry_after, ..self.admitted(current, &after, now) };
        Step { verdict, state: charged.then_some(State::FixedWindow(after)) }
    }

    fn refund(&self, current: &FixedState, now: Time, units: u64) -> Step {
        let after = FixedState { count: current.count.saturating_sub(units), ..*current };
        let state = (after.count < current.count).then_some(State::FixedWindow(after));
        Step { verdict: self.admitted(current, &after, now), state }
    }

    fn admitted(&self, before: &FixedState, after: &FixedState, now: Time) -> Verdict {
        Verdict {
            allowed: true,
            limit: self.limit,
            remaining: self.limit.saturating_sub(after.count),
            used_before: before.count,
            used: after.count,
            retry_after: Retry::After(Span::ZERO),
            reset_after: after.end - now,
            wait: Span::ZERO,
        }
    }
}

impl Window {
    /// Start and end of the window that holds `now`; an anchored one begins there.
    pub(crate) fn bounds(&self, now: Time) -> (Time, Time) {
        match self {
            Window::Epoch(length) => {
                let start = now - Span::from_micros(now.as_micros() % length.as_micros());
                (start, start + *length)
            }
            Window::Anchored(length) => (now, now + *length),
            Window::Calendar(calendar) => calendar.window(now),
        }
    }

    fn fresh(&self, now: Time) -> FixedState {
        let (start, end) = self.bounds(now);
        FixedState { start, end, count: 0 }
    }

    /// The present window, with the stored count if the stored window overlaps it. [`Time::MAX`] as an end
    /// means that a window lasts for all time.
    fn carried(&self, state: &FixedState, now: Time) -> FixedState {
        let now = now.max(state.start);
        if let Window::Anchored(length) = self {
            let end = state.end.max(state.start + *length);
            let running = now < end || end == Time::MAX;
            return if running { FixedState { end, ..*state } } else { self.fresh(now) };
        }
        let (start, end) = self.bounds(now);
        if state.end <= start && state.end < Time::MAX {
            return FixedState { start, end, count: 0 };
        }
        let end = if state.end > end { self.bounds(state.end - Span::MICRO).1 } else { end };
        FixedState { start, end, count: state.count }
    }

    /// The first instant at which no present window overlaps the stored one.
    fn settled(&self, state: &FixedState) -> Time {
        match self {
            Window::Anchored(length) => state.end.max(state.start + *length),
            _ => self.bounds(state.start.max(state.end - Span::MICRO)).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{CalendarUnit, Limit};

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    fn epoch(limit: u64, length: u64, refused: Refused) -> Limit {
        Limit::FixedWindow(
            FixedWindow::new(limit, Window::Epoch(Span::from_micros(length)), refused).unwrap(),
        )
    }

    fn anchored(limit: u64, length: u64) -> Limit {
        let window = Window::Anchored(Span::from_micros(length));
        Limit::FixedWindow(FixedWindow::new(limit, window, Refused::Free).unwrap())
    }

    fn state(start: u64, end: u64, count: u64) -> State {
        State::FixedWindow(FixedState { start: at(start), end: at(end), count })
    }

    #[test]
    fn a_count_starts_afresh_with_every_window() {
        let limit = epoch(2, 10, Refused::Counts);
        let step = limit.step(None, at(19), Ask::take(2));
        assert_eq!((step.verdict.allowed, step.verdict.remaining), (true, 0));
        assert_eq!(step.verdict.reset_after, Span::from_micros(1));
        assert_eq!(step.state, Some(state(10, 20, 2)));
        let next = limit.step(step.state.as_ref(), at(20), Ask::take(1));
        assert_eq!(next.state, Some(state(20, 30, 1)));
    }

    #[test]
    fn a_refused_request_counts_or_not() {
        let full = state(10, 20, 2);
        let counted = epoch(2, 10, Refused::Counts).step(Some(&full), at(13), Ask::take(3));
        assert_eq!((counted.verdict.used_before, counted.verdict.used), (2, 5));
        assert_eq!(counted.verdict.retry_after, Retry::Never);
        assert_eq!(counted.state, Some(state(10, 20, 5)));
        let free = epoch(2, 10, Refused::Free).step(Some(&full), at(13), Ask::take(1));
        assert_eq!((free.verdict.used, free.verdict.retry_after), (2, Retry::After(Span::from_micros(7))));
        assert_eq!(free.state, None);
    }

    #[test]
    fn a_first_request_above_the_limit_is_refused() {
        let step = epoch(2, 10, Refused::Free).step(None, at(0), Ask::take(3)).verdict;
        assert_eq!((step.allowed, step.remaining, step.retry_after), (false, 2, Retry::Never));
        let huge = epoch(2, 10, Refused::Counts).step(None, at(0), Ask::take((1 << 63) - 1));
        assert_eq!(huge.state, Some(state(0, 10, MAX_COUNT)));
    }

    #[test]
    fn a_limit_of_nothing_lets_only_peeks_pass() {
        let limit = epoch(0, 10, Refused::Counts);
        assert!(limit.step(None, at(0), Ask::peek()).verdict.allowed);
        assert!(!limit.step(None, at(0), Ask::take(1)).verdict.allowed);
    }

    #[test]
    fn an_anchored_window_begins_with_the_first_charge() {
        let limit = anchored(2, 10);
        assert_eq!(limit.step(None, at(7), Ask::peek()).verdict.reset_after, Span::from_micros(10));
        let first = limit.step(None, at(7), Ask::take(1)).state;
        assert_eq!(first, Some(state(7, 17, 1)));
        assert_eq!(limit.step(first.as_ref(), at(16), Ask::take(1)).state, Some(state(7, 17, 2)));
        assert_eq!(limit.step(first.as_ref(), at(17), Ask::take(1)).state, Some(state(17, 27, 1)));
    }

    #[test]
    fn a_changed_window_keeps_the_count_until_both_have_ended() {
        let (short, long) = (epoch(5, 10, Refused::Free), epoch(5, 100, Refused::Free));
        let longer = long.step(Some(&state(50, 60, 5)), at(55), Ask::take(1)).verdict;
        assert_eq!((longer.allowed, longer.retry_after), (false, Retry::After(Span::from_micros(45))));
        let shorter = short.step(Some(&state(0, 100, 5)), at(55), Ask::take(1)).verdict;
        assert_eq!((shorter.allowed, shorter.retry_after), (false, Retry::After(Span::from_micros(45))));
        let odd = epoch(5, 7, Refused::Free).step(Some(&state(40, 50, 5)), at(50), Ask::take(1)).verdict;
        assert_eq!(odd.retry_after, Retry::After(Span::from_micros(6)), "its window began at 49");
        assert!(anchored(5, 100).step(Some(&state(50, 60, 4)), at(149), Ask::take(1)).verdict.allowed);
        assert!(!anchored(5, 100).step(Some(&state(50, 60, 5)), at(149), Ask::take(1)).verdict.allowed);
    }

    #[test]
    fn a_refund_touches_only_the_running_window() {
        let limit = epoch(5, 10, Refused::Counts);
        assert_eq!(limit.step(Some(&state(0, 10, 3)), at(5), Ask::refund(9)).state, Some(state(0, 10, 0)));
        assert_eq!(limit.step(Some(&state(0, 10, 3)), at(10), Ask::refund(1)).state, None);
        assert_eq!(limit.step(None, at(10), Ask::refund(1)).state, None);
    }

    #[test]
    fn a_clock_that_went_backwards_stays_in_the_window() {
        let limit = epoch(1, 10, Refused::Free);
        let refused = limit.step(Some(&state(20, 30, 1)), at(3), Ask::take(1)).verdict;
        assert_eq!(refused.retry_after, Retry::After(Span::from_micros(27)));
        let admitted = epoch(2, 10, Refused::Free).step(Some(&state(20, 30, 1)), at(3), Ask::take(1));
        assert_eq!(admitted.state, Some(state(20, 30, 2)));
    }

    #[test]
    fn the_last_window_of_all_is_limited_too() {
        for limit in [epoch(1, 1, Refused::Free), anchored(1, 1)] {
            let step = limit.step(None, Time::MAX, Ask::take(1));
            assert!(!limit.step(step.state.as_ref(), Time::MAX, Ask::take(1)).verdict.allowed);
        }
    }

    #[test]
    fn a_calendar_day_ends_at_midnight() {
        let day = Window::Calendar(Calendar::new(CalendarUnit::Day, 1, "Europe/Berlin").unwrap());
        let limit = Limit::FixedWindow(FixedWindow::new(1, day, Refused::Counts).unwrap());
        let noon = at(1_782_986_400_000_000);
        let reset = limit.step(None, noon, Ask::take(1)).verdict.reset_after;
        assert_eq!(reset, Span::from_secs(12 * 3_600), "2026-07-02 12:00 in Berlin");
    }

    #[test]
    fn limit_and_window_are_bounded() {
        let window = |span| FixedWindow::new(1, Window::Epoch(span), Refused::Free);
        assert!(window(MAX_WINDOW).is_ok());
        assert_eq!(window(Span::ZERO), Err(LimitError::Window(Span::ZERO)));
        assert!(window(MAX_WINDOW + Span::MICRO).is_err());
        let large = FixedWindow::new(MAX_LIMIT + 1, Window::Anchored(Span::SECOND), Refused::Free);
        assert_eq!(large, Err(LimitError::Limit(MAX_LIMIT + 1)));
    }
}
