//! The instances that report to one circuit: what each counted lately, and which deltas have arrived.
//!
//! The table is bounded: at the bound the reporter that was silent longest is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::wire::{Ack, Counts, ReporterId};
use crate::time::{Span, Time};

/// Cells in the short window: a verdict covers between seven and eight of them.
pub(super) const CELLS_PER_SHORT_WINDOW: u64 = 8;
/// Who is expected to make so many calls within the life of a permit (in thousandths) makes at least one with
/// 95 % probability, if calls come at random. Permits pushed to others would lie idle; those ask.
const KEEN_MILLI: u64 = 3_000;
/// Demand is counted over two slots of this length.
const DEMAND_SLOT: u64 = 5_000_000;

/// What one reporter counted in one cell of time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Cell {
    tick: u64,
    sum: Sums,
}

/// Outcomes as a verdict needs them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sums {
    pub(super) judged: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
    pub(super) bad: u64,
}

impl Sums {
    pub(super) const fn of(counts: &Counts) -> Sums {
        Sums { judged: counts.judged(), failures: counts.failures(), slow: counts.slow(), bad: counts.bad() }
    }

    pub(super) const fn add(&mut self, other: &Sums) {
        self.judged = self.judged.saturating_add(other.judged);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
        self.bad = self.bad.saturating_add(other.bad);
    }
}

/// Calls that a reporter wanted to make, sent or refused, in this slot of time and the one before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Demand {
    slot: u64,
    current: u64,
    previous: u64,
}

impl Demand {
    fn at(self, now: Time) -> Demand {
        let slot = now.as_micros() / DEMAND_SLOT;
        match slot.saturating_sub(self.slot) {
            0 => self,
            1 => Demand { slot, current: 0, previous: self.current },
            _ => Demand { slot, current: 0, previous: 0 },
        }
    }

    /// Calls to be expected within `span`, in thousandths.
    fn expected_milli(self, now: Time, span: Span) -> u64 {
        let demand = self.at(now);
        let covered = DEMAND_SLOT + now.as_micros() % DEMAND_SLOT;
        let calls = u128::from(demand.current.saturating_add(demand.previous));
        let milli = calls * 1_000 * u128::from(span.as_micros()) / u128::from(covered);
        u64::try_from(milli).unwrap_or(u64::MAX)
    }
}

/// One instance.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Reporter {
    incarnation: u64,
    ack: Ack,
    seen: Time,
    /// Its last report, new or not.
    kept: Time,
    /// In order of time, only those with outcomes.
    cells: VecDeque<Cell>,
    demand: Demand,
    /// Since the last step of the ramp.
    pub(super) step: Sums,
    /// Whether a local fault was told of it.
    pub(super) faulty: bool,
}

impl Reporter {
    /// What it counted in the cells from `first` on.
    pub(super) fn since(&self, first: u64) -> Sums {
        let mut sums = Sums::default();
        self.cells.iter().filter(|cell| cell.tick >= first).for_each(|cell| sums.add(&cell.sum));
        sums
    }

    fn add(&mut self, tick: u64, sum: &Sums) {
        let place = self.cells.partition_point(|cell| cell.tick < tick);
        match self.cells.get_mut(place) {
            Some(cell) if cell.tick == tick => cell.sum.add(sum),
            _ => self.cells.insert(place, Cell { tick, sum: *sum }),
        }
    }
}

/// Where the cells of time lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Grid {
    width: u64,
    window: u64,
    short: u64,
}

impl Grid {
    pub(super) fn new(window: Span, short: Span) -> Grid {
        let width = (short.as_micros() / CELLS_PER_SHORT_WINDOW).max(1);
        Grid { width, window: window.as_micros().div_ceil(width), short: CELLS_PER_SHORT_WINDOW }
    }

    pub(super) const fn tick(&self, at: Time) -> u64 {
        at.as_micros() / self.width
    }

    /// The first cell of the long window that ends at `now`.
    pub(super) const fn window_from(&self, now: Time) -> u64 {
        self.tick(now).saturating_sub(self.window - 1)
    }

    /// When the next cell begins: then the windows lose their oldest outcomes.
    pub(super) const fn rolls(&self, now: Time) -> Time {
        Time::from_micros(self.tick(now).saturating_add(1).saturating_mul(self.width))
    }

    /// The first cell of the short window that ends at `now`.
    pub(super) const fn short_from(&self, now: Time) -> u64 {
        self.tick(now).saturating_sub(self.short - 1)
    }

    /// The first cell of the last quarter of the short window.
    pub(super) const fn last_from(&self, now: Time) -> u64 {
        self.tick(now).saturating_sub(self.short / 4 - 1)
    }
}

/// All of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Reporters {
    most: usize,
    by_id: BTreeMap<ReporterId, Reporter>,
    by_age: BTreeSet<(Time, ReporterId)>,
    forgotten: u64,
}

impl Reporters {
    pub(super) const fn new(most: usize) -> Reporters {
        Reporters { most, by_id: BTreeMap::new(), by_age: BTreeSet::new(), forgotten: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Reporters that were forgotten to make room for others.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(super) fn ack(&self, id: ReporterId) -> Ack {
        self.by_id.get(&id).map_or_else(Ack::default, |reporter| reporter.ack)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ReporterId, &Reporter)> {
        self.by_id.iter().map(|(id, reporter)| (*id, reporter))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ReporterId, &mut Reporter)> {
        self.by_id.iter_mut().map(|(id, reporter)| (*id, reporter))
    }

    /// Notes that a delta arrived; false if it must not be counted: it did before, or it was sent by an
    /// earlier incarnation of its reporter.
    pub(super) fn arrive(&mut self, now: Time, id: ReporterId, incarnation: u64, sequence: u64) -> bool {
        if let Some(known) = self.by_id.get(&id)
            && (incarnation < known.incarnation
                || (incarnation == known.incarnation && known.ack.covers(sequence)))
        {
            // who resends must not be forgotten, or it would be counted anew
            self.keep(now, id);
            return false;
        }
        self.make_room(id);
        let reporter = self.by_id.entry(id).or_default();
        if reporter.incarnation != incarnation {
            (reporter.incarnation, reporter.ack) = (incarnation, Ack::default());
        }
        reporter.seen = now;
        let fresh = reporter.ack.insert(sequence);
        self.keep(now, id);
        fresh
    }

    fn keep(&mut self, now: Time, id: ReporterId) {
        if let Some(reporter) = self.by_id.get_mut(&id) {
            self.by_age.remove(&(reporter.kept, id));
            reporter.kept = now;
            self.by_age.insert((now, id));
        }
    }

    fn make_room(&mut self, newcomer: ReporterId) {
        while self.by_id.len() >= self.most && !self.by_id.contains_key(&newcomer) {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.by_id.remove(&oldest);
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// Shrinks the table to a new bound.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        while self.by_id.len() > most {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.by_id.remove(&oldest);
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// Forgets who was silent for `idle`.
    pub(super) fn prune(&mut self, now: Time, idle: Span) {
        while let Some(&(seen, id)) = self.by_age.first()
            && now - seen > idle
        {
            self.by_age.pop_first();
            self.by_id.remove(&id);
        }
    }

    /// Adds outcomes to the cell `tick`, and drops cells before `first`.
    pub(super) fn count(&mut self, id: ReporterId, tick: u64, first: u64, sum: &Sums) {
        let Some(reporter) = self.by_id.get_mut(&id) else { return };
        while reporter.cells.front().is_some_and(|cell| cell.tick < first) {
            reporter.cells.pop_front();
        }
        if tick >= first && sum.judged > 0 {
            reporter.add(tick, sum);
        }
    }

    /// Adds outcomes to the step of the ramp.
    pub(super) fn count_step(&mut self, id: ReporterId, sum: &Sums) {
        if let Some(reporter) = self.by_id.get_mut(&id) {
            reporter.step.add(sum);
        }
    }

    /// Notes that a reporter wanted to make `calls` calls.
    pub(super) fn demand(&mut self, now: Time, id: ReporterId, calls: u64) {
        if let Some(reporter) = self.by_id.get_mut(&id) {
            reporter.demand = reporter.demand.at(now);
            reporter.demand.current = reporter.demand.current.saturating_add(calls);
        }
    }

    /// Forgets every outcome, since a new state begins; demand and acknowledgements stay.
    pub(super) fn clear_outcomes(&mut self) {
        for reporter in self.by_id.values_mut() {
            reporter.cells.clear();
            (reporter.step, reporter.faulty) = (Sums::default(), false);
        }
    }

    /// Starts a new step of the ramp.
    pub(super) fn clear_steps(&mut self) {
        self.by_id.values_mut().for_each(|reporter| reporter.step = Sums::default());
    }

    /// Reporters that were heard of within `recent`.
    pub(super) fn heard(&self, now: Time, recent: Span) -> usize {
        self.by_id.values().filter(|reporter| now - reporter.seen <= recent).count()
    }

    /// Those heard of within `recent` who are likely to make a call within `span`, keenest first.
    pub(super) fn keen(&self, now: Time, recent: Span, span: Span) -> Vec<ReporterId> {
        let mut keen: Vec<(u64, ReporterId)> = self
            .iter()
            .filter(|(_, reporter)| now - reporter.seen <= recent)
            .map(|(id, reporter)| (reporter.demand.expected_milli(now, span), id))
            .filter(|(expected, _)| *expected >= KEEN_MILLI)
            .collect();
        keen.sort_unstable_by_key(|(expected, id)| (u64::MAX - expected, *id));
        keen.into_iter().map(|(_, id)| id).collect()
    }
}
