//! Sliding log: every admission of the last window is remembered, so that no interval holds too many.

use std::sync::Arc;

use super::{Ask, Cost, LimitError, MAX_COUNT, Retry, State, Step, Verdict};
use crate::time::{Span, Time};

/// Longest window: 100 years of 365.25 days.
const MAX_WINDOW: Span = Span::from_secs(36_525 * 86_400);

/// The admissions of a key, oldest first, one entry an instant.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogState {
    entries: Arc<[(Time, u64)]>,
}

impl LogState {
    /// A log of instants and the units admitted at each, in any order; empty ones are left out, counts of
    /// one instant are added up.
    #[must_use]
    pub fn new(mut entries: Vec<(Time, u64)>) -> LogState {
        entries.retain(|(_, units)| *units > 0);
        entries.sort_unstable_by_key(|(at, _)| *at);
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = earlier.1.saturating_add(later.1).min(MAX_COUNT);
            }
            same
        });
        LogState { entries: entries.into() }
    }

    /// Instants and the units admitted at each: at least 1, oldest first, each instant once.
    #[must_use]
    pub fn entries(&self) -> &[(Time, u64)] {
        &self.entries
    }
}

/// Exact: any half-open interval of the window's length holds at most `limit` units.
///
/// A decision takes time and memory in proportion to the limit, hence its small maximum.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlidingLog {
    limit: u64,
    length: Span,
}

impl SlidingLog {
    /// Largest limit of a log.
    pub const MAX_LIMIT: u64 = 1_000;

    /// At most `limit` units, `0..=MAX_LIMIT`, in any interval of `length`, `1us..=100 years`.
    ///
    /// # Errors
    /// [`LimitError::Log`] or [`LimitError::Window`] if one of them is out of range.
    pub fn new(limit: u64, length: Span) -> Result<SlidingLog, LimitError> {
        if limit > SlidingLog::MAX_LIMIT {
            return Err(LimitError::Log(limit));
        }
        if length.is_zero() || length > MAX_WINDOW {
            return Err(LimitError::Window(length));
        }
        Ok(SlidingLog { limit, length })
    }

    /// Units in any interval of the window's length.
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
            Some(State::SlidingLog(log)) => View::new(&log.entries, now, self.length),
            _ => View::new(&[], now, self.length),
        };
        match ask.cost {
            Cost::Take(units) => self.take(&view, units),
            Cost::Refund(units) => self.refund(&view, units),
        }
    }

    pub(super) fn expires(&self, state: &State) -> Time {
        match state {
            State::SlidingLog(LogState { entries }) => {
                entries.last().map_or(Time::EPOCH, |(at, _)| *at + self.length)
            }
            _ => Time::EPOCH,
        }
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.limit
    }

    fn take(&self, view: &View, units: u64) -> Step {
        let used = view.used.saturating_add(units);
        if used > self.limit {
            let retry_after = match self.limit.checked_sub(units) {
                Some(room) => Retry::After(view.until_at_most(room)),
                None => Retry::Never,
            };
            let verdict = Verdict { allowed: false, retry_after, ..self.admitted(view, view.used) };
            return Step { verdict, state: None };
        }
        let state = (units > 0).then(|| State::SlidingLog(view.charged(units)));
        let whole = if units > 0 { self.length + view.lag() } else { view.until_at_most(0) };
        Step { verdict: Verdict { reset_after: whole, ..self.admitted(view, used) }, state }
    }

    fn refund(&self, view: &View, units: u64) -> Step {
        let used = view.used.saturating_sub(units);
        let mut verdict = self.admitted(view, used);
        if used == view.used {
            return Step { verdict, state: None };
        }
        let log = view.refunded(units);
        verdict.reset_after = View { live: &log.entries, used, ..*view }.until_at_most(0);
        Step { verdict, state: Some(State::SlidingLog(log)) }
    }

    fn admitted(&self, view: &View, used: u64) -> Verdict {
        Verdict {
            allowed: true,
            limit: self.limit,
            remaining: self.limit.saturating_sub(used),
            used_before: view.used,
            used,
            retry_after: Retry::After(Span::ZERO),
            reset_after: view.until_at_most(0),
            wait: Span::ZERO,
        }
    }
}

/// What of a log still counts at a moment.
#[derive(Clone, Copy)]
struct View<'a> {
    live: &'a [(Time, u64)],
    used: u64,
    /// `now`, or the newest entry if the clock went backwards.
    at: Time,
    now: Time,
    length: Span,
}

impl<'a> View<'a> {
    fn new(entries: &'a [(Time, u64)], now: Time, length: Span) -> View<'a> {
        let at = entries.last().map_or(now, |(newest, _)| now.max(*newest));
        let live = &entries[entries.partition_point(|(taken, _)| at - *taken >= length)..];
        let used = live.iter().fold(0, |sum: u64, (_, units)| sum.saturating_add(*units));
        View { live, used, at, now, length }
    }

    fn lag(&self) -> Span {
        self.at - self.now
    }

    /// How long until at most `units` are in use if nothing is taken.
    fn until_at_most(&self, units: u64) -> Span {
        let mut left = self.used;
        let mut wait = Span::ZERO;
        for (taken, count) in self.live {
            if left <= units {
                break;
            }
            left = left.saturating_sub(*count);
            wait = self.length - (self.at - *taken) + self.lag();
        }
        wait
    }

    /// The log with `units` more, taken at `at`; at least one.
    fn charged(&self, units: u64) -> LogState {
        let (older, same) = match self.live.split_last() {
            Some(((taken, count), older)) if *taken == self.at => (older, *count),
            _ => (self.live, 0),
        };
        let newest = (self.at, same.saturating_add(units));
        LogState { entries: older.iter().copied().chain([newest]).collect() }
    }

    /// The log without the `units` that were taken last.
    fn refunded(&self, units: u64) -> LogState {
        let mut owed = units;
        let mut live = self.live;
        while let Some(((taken, count), older)) = live.split_last() {
            if *count > owed {
                let rest = (*taken, *count - owed);
                return LogState { entries: older.iter().copied().chain([rest]).collect() };
            }
            owed -= *count;
            live = older;
        }
        LogState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Limit;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    fn limit() -> Limit {
        Limit::SlidingLog(SlidingLog::new(3, Span::from_micros(10)).unwrap())
    }

    fn log(entries: &[(u64, u64)]) -> State {
        State::SlidingLog(LogState::new(entries.iter().map(|(when, units)| (at(*when), *units)).collect()))
    }

    #[test]
    fn each_admission_counts_for_exactly_one_window() {
        let state = log(&[(0, 2), (5, 1)]);
        let refused = limit().step(Some(&state), at(9), Ask::take(1)).verdict;
        assert!(!refused.allowed);
        assert_eq!(refused.retry_after, Retry::After(Span::from_micros(1)));
        let admitted = limit().step(Some(&state), at(10), Ask::take(2));
        assert!(admitted.verdict.allowed);
        assert_eq!(admitted.state, Some(log(&[(5, 1), (10, 2)])));
        assert_eq!(admitted.verdict.reset_after, Span::from_micros(10));
    }

    #[test]
    fn a_larger_cost_waits_for_more_entries_to_leave() {
        let refused = limit().step(Some(&log(&[(0, 2), (5, 1)])), at(6), Ask::take(3)).verdict;
        assert_eq!(refused.retry_after, Retry::After(Span::from_micros(9)));
        let never = limit().step(None, at(6), Ask::take(4)).verdict;
        assert_eq!(never.retry_after, Retry::Never);
    }

    #[test]
    fn admissions_of_one_instant_share_an_entry() {
        let step = limit().step(Some(&log(&[(7, 1)])), at(7), Ask::take(2));
        assert_eq!(step.state, Some(log(&[(7, 3)])));
        assert_eq!(log(&[(7, 2), (7, 1), (3, 0)]), log(&[(7, 3)]));
    }

    #[test]
    fn a_refund_removes_what_was_taken_last() {
        let step = limit().step(Some(&log(&[(0, 1), (5, 2)])), at(6), Ask::refund(2));
        assert_eq!(step.state, Some(log(&[(0, 1)])));
        assert_eq!((step.verdict.used, step.verdict.remaining), (1, 2));
        assert_eq!(step.verdict.reset_after, Span::from_micros(4));
        let part = limit().step(Some(&log(&[(0, 1), (5, 2)])), at(6), Ask::refund(1));
        assert_eq!(part.state, Some(log(&[(0, 1), (5, 1)])));
        let all = limit().step(Some(&log(&[(0, 1)])), at(6), Ask::refund(u64::MAX));
        assert_eq!(all.state, Some(log(&[])));
    }

    #[test]
    fn a_clock_that_went_backwards_waits_for_its_lag_too() {
        let refused = limit().step(Some(&log(&[(100, 3)])), at(90), Ask::take(1)).verdict;
        assert_eq!(refused.retry_after, Retry::After(Span::from_micros(20)));
    }

    #[test]
    fn the_limit_is_bounded() {
        assert_eq!(SlidingLog::new(1_001, Span::SECOND), Err(LimitError::Log(1_001)));
        assert_eq!(SlidingLog::new(1, Span::ZERO), Err(LimitError::Window(Span::ZERO)));
    }
}
