//! Random limits, questions, clocks and states, with a liking for the edges.

use std::cell::Cell;

use tollgate_core::limit::{
    Ask, Calendar, CalendarUnit, Cost, FixedState, FixedWindow, LeakyBucket, Level, Limit, LogState,
    MAX_COUNT, Rate, Refused, SlidingLog, SlidingState, SlidingWindow, State, TokenBucket, Window,
};
use tollgate_core::time::{Span, Time};

/// 100 years in microseconds: the longest window.
const LONGEST: u64 = 36_525 * 86_400_000_000;
/// The largest cost, `2^63 - 1`.
const LARGEST_COST: u64 = i64::MAX.cast_unsigned();
/// 2026-03-29 01:00 UTC: Berlin's clock goes from two to three.
pub(crate) const SPRING: u64 = 1_774_746_000_000_000;

/// `SplitMix64` by Sebastiano Vigna.
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut mixed = self.0.get();
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// `0..bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// `0..=most`, every magnitude as likely as any other, the ends more likely than that.
    pub(crate) fn upto(&self, most: u64) -> u64 {
        match self.below(20) {
            0 => 0,
            1 => most,
            2 => most - most.min(1),
            _ => (self.next() >> 1 >> self.below(63)).min(most),
        }
    }

    pub(crate) fn pick<'t, T>(&self, from: &'t [T]) -> &'t T {
        &from[usize::try_from(self.next()).unwrap() % from.len()]
    }

    fn length(&self) -> Span {
        Span::from_micros(match self.below(3) {
            0 => self.upto(LONGEST).max(1),
            1 => self.below(50) + 1,
            _ => *self.pick(&[1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000, 7, LONGEST]),
        })
    }

    fn rate(&self) -> Rate {
        loop {
            let per = self.length();
            let micros = per.as_micros();
            let count = match self.below(3) {
                // about as much as the span allows, which does not reduce
                0 => self.upto(micros.saturating_mul(10)),
                1 => self.below(1_000),
                _ => (micros >> self.below(20)).max(1),
            };
            if let Ok(rate) = Rate::new(count.max(1), per) {
                return rate;
            }
        }
    }

    /// Any limit of the algorithm with this number, `0..5`.
    pub(crate) fn limit(&self, algorithm: u64, calendars: &[Calendar]) -> Limit {
        match algorithm {
            0 => Limit::TokenBucket(TokenBucket::new(self.rate(), self.upto(10_000_000).max(1)).unwrap()),
            1 => Limit::LeakyBucket(LeakyBucket::new(self.rate(), self.upto(10_000_000)).unwrap()),
            2 => {
                let window = match self.below(3) {
                    0 => Window::Epoch(self.length()),
                    1 => Window::Anchored(self.length()),
                    _ => Window::Calendar(self.pick(calendars).clone()),
                };
                let refused = *self.pick(&[Refused::Counts, Refused::Free]);
                Limit::FixedWindow(FixedWindow::new(self.upto(u32::MAX.into()), window, refused).unwrap())
            }
            3 => Limit::SlidingWindow(SlidingWindow::new(self.upto(u32::MAX.into()), self.length()).unwrap()),
            _ => Limit::SlidingLog(SlidingLog::new(self.upto(1_000).min(40), self.length()).unwrap()),
        }
    }

    pub(crate) fn ask(&self, limit: &Limit) -> Ask {
        let units = match self.below(8) {
            0 => 0,
            1..4 => self.below(3),
            4 => self.below(limit.capacity().saturating_mul(2)),
            5 => limit.capacity() / (1 + self.below(5)),
            6 => limit.capacity() + self.below(3),
            _ => self.upto(LARGEST_COST),
        };
        let cost = if self.percent(20) { Cost::Refund(units) } else { Cost::Take(units) };
        let patience = match self.below(4) {
            0 => Span::ZERO,
            1 => Span::MAX,
            _ => Span::from_micros(self.upto(Span::MAX.as_micros())),
        };
        Ask { cost, patience }
    }

    /// Where a clock begins.
    pub(crate) fn instant(&self) -> Time {
        Time::from_micros(match self.below(6) {
            0 => self.below(100),
            1 => MAX_COUNT - self.below(100),
            2 => SPRING - 5_000_000 + self.below(10_000_000),
            3 => self.upto(MAX_COUNT),
            _ => SPRING + self.below(100 * 365 * 86_400_000_000),
        })
    }

    /// The clock's next reading: mostly a little later, sometimes the same or earlier.
    pub(crate) fn later(&self, now: Time, limit: &Limit) -> Time {
        let step = match self.below(8) {
            0..2 => return now,
            2 => self.upto(MAX_COUNT),
            3 => self.below(10),
            _ => self.upto(scale(limit).saturating_mul(3)),
        };
        if self.percent(15) { now - Span::from_micros(step) } else { now + Span::from_micros(step) }
    }

    /// A state that can be stored, whether or not any history leads to it.
    pub(crate) fn state(&self, algorithm: u64, now: Time) -> State {
        let instant =
            || Time::from_micros(if self.percent(50) { self.upto(MAX_COUNT) } else { now.as_micros() });
        let level = || {
            let per = self.length().as_micros();
            Level { at: instant(), used: self.upto(MAX_COUNT), credit: self.below(per), per }
        };
        match algorithm {
            0 => State::TokenBucket(level()),
            1 => State::LeakyBucket(level()),
            2 => State::FixedWindow(FixedState {
                start: instant(),
                end: instant(),
                count: self.upto(MAX_COUNT),
            }),
            3 => {
                let (previous, current) = (self.upto(u32::MAX.into()), self.upto(u32::MAX.into()));
                State::SlidingWindow(SlidingState {
                    start: instant(),
                    length: self.length(),
                    previous,
                    current,
                })
            }
            _ => {
                let entry = |_| (instant() - Span::from_micros(self.below(100)), 1 + self.below(65_535));
                State::SlidingLog(LogState::new((0..self.below(20)).map(entry).collect()).clamped())
            }
        }
    }
}

trait Clamped {
    fn clamped(&self) -> LogState;
}

impl Clamped for LogState {
    /// Two bytes hold the units of one entry.
    fn clamped(&self) -> LogState {
        LogState::new(self.entries().iter().map(|(at, units)| (*at, (*units).min(65_535))).collect())
    }
}

/// Microseconds in which something happens to the limit.
fn scale(limit: &Limit) -> u64 {
    match limit {
        Limit::TokenBucket(limit) => limit.rate().per() / limit.rate().count() + 1,
        Limit::LeakyBucket(limit) => limit.rate().per() / limit.rate().count() + 1,
        Limit::FixedWindow(limit) => match limit.window() {
            Window::Epoch(length) | Window::Anchored(length) => length.as_micros(),
            Window::Calendar(_) => 7_200_000_000,
        },
        Limit::SlidingWindow(limit) => limit.length().as_micros(),
        Limit::SlidingLog(limit) => limit.length().as_micros(),
    }
}

/// Calendars with every unit, in zones that change their clocks by hours, halves and days.
pub(crate) fn calendars() -> Vec<Calendar> {
    let zones =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"];
    let units = [
        (CalendarUnit::Second, 7),
        (CalendarUnit::Minute, 1),
        (CalendarUnit::Hour, 1),
        (CalendarUnit::Day, 1),
        (CalendarUnit::Week, 2),
        (CalendarUnit::Month, 1),
        (CalendarUnit::Year, 100),
    ];
    zones
        .iter()
        .flat_map(|zone| units.map(|(unit, count)| Calendar::new(unit, count, zone).unwrap()))
        .collect()
}
