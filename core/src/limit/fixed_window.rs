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
        if state.end <= start && state.start < start {
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
