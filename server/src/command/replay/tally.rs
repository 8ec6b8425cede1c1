//! What a replay counts, in bounded memory.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use tollgate_core::time::{Span, Time};

use super::top::Top;

/// Rows of the table by time; more make each row longer.
const MAX_ROWS: usize = 120;
/// Keys that are told apart exactly.
const MAX_KEYS: usize = 10_000;
/// Bad lines that are shown.
const MAX_SHOWN: usize = 5;
/// Lengths of a row in seconds, each a multiple of the one before; after them they double.
const WIDTHS: [u64; 11] = [1, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800];

/// What both sides said of one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sides {
    /// The current rules refuse it.
    pub(super) before: bool,
    /// The proposed ones do.
    pub(super) after: bool,
    /// The proposed ones would, if all of their rules were enforced.
    pub(super) would: bool,
}

/// Counts of requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) refused_before: u64,
    pub(super) refused_after: u64,
    pub(super) newly_refused: u64,
    pub(super) newly_allowed: u64,
    pub(super) would_refuse: u64,
}

impl Counts {
    fn add(&mut self, sides: Sides) {
        self.requests += 1;
        self.refused_before += u64::from(sides.before);
        self.refused_after += u64::from(sides.after);
        self.newly_refused += u64::from(sides.after && !sides.before);
        self.newly_allowed += u64::from(sides.before && !sides.after);
        self.would_refuse += u64::from(sides.would);
    }

    fn join(&mut self, other: &Counts) {
        self.requests += other.requests;
        self.refused_before += other.refused_before;
        self.refused_after += other.refused_after;
        self.newly_refused += other.newly_refused;
        self.newly_allowed += other.newly_allowed;
        self.would_refuse += other.would_refuse;
    }
}

/// Lines that were no request.
#[derive(Debug, Default, Serialize)]
pub(super) struct BadLines {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

/// Everything that is counted.
pub(super) struct Tally {
    pub(super) total: Counts,
    pub(super) bad: BadLines,
    /// Requests that were logged after later ones, and those of them that came too late to be sorted.
    pub(super) reordered: (u64, u64),
    /// Keys that are newly refused (or refused, if there is but one side), and keys that are newly allowed.
    pub(super) refused: Top,
    pub(super) allowed: Top,
    width: Span,
    fixed: bool,
    rows: BTreeMap<u64, Counts>,
}

impl Tally {
    /// Rows of `width`; without one as short as the bound on rows allows.
    pub(super) fn new(width: Option<Span>) -> Tally {
        Tally {
            total: Counts::default(),
            bad: BadLines::default(),
            reordered: (0, 0),
            refused: Top::new(MAX_KEYS),
            allowed: Top::new(MAX_KEYS),
            width: width.unwrap_or(Span::from_secs(WIDTHS[0])),
            fixed: width.is_some(),
            rows: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, at: Time, sides: Sides) {
        self.total.add(sides);
        self.rows.entry(at.as_micros() / self.width.as_micros()).or_default().add(sides);
        let most = if self.fixed { MAX_ROWS * MAX_ROWS } else { MAX_ROWS };
        while self.rows.len() > most {
            self.widen();
        }
    }

    /// Makes the rows longer.
    fn widen(&mut self) {
        let seconds = self.width.as_micros() / 1_000_000;
        let wider = WIDTHS.into_iter().find(|&wider| wider > seconds && wider.is_multiple_of(seconds.max(1)));
        let wider = wider.filter(|_| !self.fixed).map(Span::from_secs);
        let wider = wider.unwrap_or(Span::from_micros(self.width.as_micros().saturating_mul(2)));
        let mut rows: BTreeMap<u64, Counts> = BTreeMap::new();
        for (place, counts) in &self.rows {
            let begin = place * self.width.as_micros();
            rows.entry(begin / wider.as_micros()).or_default().join(counts);
        }
        (self.rows, self.width) = (rows, wider);
    }

    pub(super) fn key(&mut self, key: &str, rule: &str, sides: Sides) {
        let top = if sides.after { &mut self.refused } else { &mut self.allowed };
        top.add(&format!("{key}  by {rule}"));
    }

    pub(super) fn bad_line(&mut self, log: &Path, number: u64, why: &str) {
        self.bad.count += 1;
        if self.bad.first.len() < MAX_SHOWN {
            self.bad.first.push(format!("{}:{number}: {why}", log.display()));
        }
    }

    pub(super) fn out_of_order(&mut self, reordered: u64, late: u64) {
        self.reordered = (reordered, late);
    }

    /// How long a row is.
    pub(super) fn width(&self) -> Span {
        self.width
    }

    /// The rows that have requests, by their beginning.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Time, &Counts)> {
        let width = self.width.as_micros();
        self.rows.iter().map(move |(place, counts)| (Time::from_micros(place.saturating_mul(width)), counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_grow_longer_and_lose_nothing() {
        let mut tally = Tally::new(None);
        let sides = Sides { before: false, after: true, would: false };
        for second in 0..10_000 {
            tally.count(Time::from_micros(second * 1_000_000), sides);
        }
        assert_eq!(tally.width(), Span::from_secs(300));
        let rows: Vec<_> = tally.rows().collect();
        assert_eq!(rows.len(), 34);
        assert_eq!(rows.iter().map(|(_, counts)| counts.newly_refused).sum::<u64>(), 10_000);
    }

    #[test]
    fn the_first_bad_lines_are_shown_and_all_are_counted() {
        let mut tally = Tally::new(None);
        (1..=9).for_each(|number| tally.bad_line(Path::new("a.log"), number, "no time"));
        assert_eq!((tally.bad.count, tally.bad.first.len()), (9, MAX_SHOWN));
        assert_eq!(tally.bad.first[0], "a.log:1: no time");
    }
}
