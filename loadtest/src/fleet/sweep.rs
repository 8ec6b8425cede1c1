//! Many scenarios, and the bars that the fleet breaker has to clear in each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use super::measure::Measured;
use super::scenario::{Failure, OwnerFate, Policy, Scenario, Warmup};
use super::world::play;

/// A scenario to be played under several policies and with several seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// What is special about it, for the table.
    pub twist: String,
    /// What is played; policy and seed are set by the sweep.
    pub scenario: Scenario,
    /// Whether the strict bars for a total outage of 30 seconds hold.
    pub strict: bool,
}

/// Medians over the seeds, each figure by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Medians {
    /// See [`Measured::doomed`].
    pub doomed: u64,
    /// See [`Measured::peak`].
    pub peak: f64,
    /// See [`Measured::t90`]; `u64::MAX` if never.
    pub t90: u64,
    /// See [`Measured::lost`].
    pub lost: u64,
    /// See [`Measured::failed`].
    pub failed: u64,
    /// See [`Measured::rounds`].
    pub rounds: u64,
}

/// A cell with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// What was played.
    pub cell: Cell,
    /// Under the local breakers alone.
    pub local: Medians,
    /// Under the fleet's circuit.
    pub fleet: Medians,
}

/// Calls that one round of probes may cost, and what an outage may cost besides.
const DOOMED: (u64, u64) = (10, 100);
/// Largest ratio of load sent to capacity after an outage.
const PEAK: f64 = 1.5;

impl Played {
    /// The bars that were missed, by name.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        if self.cell.strict { self.missed_strictly() } else { self.missed_against_local() }
    }

    /// After a total outage of 30 s: few doomed calls, no overload, no failures, and in the hard case no
    /// more lost than under local breakers.
    fn missed_strictly(&self) -> Vec<&'static str> {
        let hard = self.cell.scenario.warmup == Warmup::HARD;
        [
            ("doomed", self.fleet.doomed > DOOMED.1),
            ("peak", self.fleet.peak > PEAK),
            ("failed", self.fleet.failed > self.allowance()),
            ("lost", hard && self.fleet.lost > self.local.lost),
        ]
        .into_iter()
        .filter_map(|(name, missed)| missed.then_some(name))
        .collect()
    }

    /// Elsewhere: no more doomed than the probes and a hundred, or than local breakers doom, and nothing worse
    /// than under local breakers by more than a tenth.
    fn missed_against_local(&self) -> Vec<&'static str> {
        let (fleet, local) = (&self.fleet, &self.local);
        let tenth = |figure: u64| figure + figure / 10;
        let no_owner = matches!(self.cell.scenario.owner, OwnerFate::Absent | OwnerFate::Dies);
        let probes = DOOMED.0 * fleet.rounds + DOOMED.1;
        let doomed = if no_owner { tenth(local.doomed) } else { probes };
        [
            ("doomed", fleet.doomed > doomed),
            ("doomed more than local", fleet.doomed > tenth(local.doomed) + DOOMED.1),
            ("peak", fleet.peak > PEAK.max(local.peak * 1.1)),
            ("failed", fleet.failed > tenth(local.failed) + self.allowance()),
            ("lost", fleet.lost > tenth(local.lost) + self.allowance()),
        ]
        .into_iter()
        .filter_map(|(name, missed)| missed.then_some(name))
        .collect()
    }

    /// A thousandth of the calls after the outage.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a thousandth of some thousands of calls"
    )]
    fn allowance(&self) -> u64 {
        let scenario = &self.cell.scenario;
        (scenario.load * scenario.recovery_secs() as f64 / 1_000.0) as u64
    }
}

fn cell(twist: &str, scenario: Scenario) -> Cell {
    Cell { twist: twist.to_owned(), scenario, strict: false }
}

/// The cells of the strict bars.
#[must_use]
pub fn headline() -> Vec<Cell> {
    let mut cells = Vec::new();
    for warmup in [Warmup::EASY, Warmup::HARD] {
        for clients in [100, 1_000] {
            let scenario = Scenario { clients, warmup, ..Scenario::default() };
            cells.push(Cell { strict: true, ..cell("total, 30 s", scenario) });
        }
    }
    cells
}

/// Every outage with every number of clients and every way back.
#[must_use]
pub fn grid() -> Vec<Cell> {
    let base = Scenario::default();
    let (load, capacity) = (base.load / 8.0, base.capacity / 8.0);
    let shard = Scenario { load, capacity, queue: base.queue / 8, ..base };
    let outages = [
        ("total, 5 s", Scenario { outage: 5, ..base }),
        ("total, 30 s", base),
        ("total, 10 min", Scenario { outage: 600, ..base }),
        ("one shard of 8, 30 s", shard),
    ];
    let whole = [
        ("60 % partial, 30 s", Scenario { failure: Failure::Partial(0.6), ..base }),
        ("slow only, 30 s", Scenario { failure: Failure::Slow, ..base }),
    ];
    let mut cells = Vec::new();
    for clients in [1, 10, 100, 1_000, 10_000] {
        for (twist, scenario) in outages {
            let ways = [Warmup::NONE, Warmup::EASY, Warmup::HARD];
            let with = |warmup| cell(twist, Scenario { clients, warmup, ..scenario });
            cells.extend(ways.into_iter().map(with));
        }
        let whole = whole
            .iter()
            .map(|(twist, scenario)| cell(twist, Scenario { clients, warmup: Warmup::NONE, ..*scenario }));
        cells.extend(whole);
    }
    cells
}

/// What else goes wrong, during a total outage of 30 s.
#[must_use]
pub fn adversity() -> Vec<Cell> {
    let base = Scenario::default();
    let twists = [
        ("1 % of messages lost", Scenario { loss: 0.01, ..base }),
        ("20 % of messages lost", Scenario { loss: 0.2, ..base }),
        ("one failover", Scenario { owner: OwnerFate::FailsOver(1), ..base }),
        ("three failovers", Scenario { owner: OwnerFate::FailsOver(3), ..base }),
        ("no service at all", Scenario { owner: OwnerFate::Absent, ..base }),
        ("service dies in the outage", Scenario { owner: OwnerFate::Dies, ..base }),
        ("a poisoned reporter", Scenario { poisoned: true, ..base }),
        ("three attempts per call", Scenario { attempts: 3, ..base }),
    ];
    let mut cells = Vec::new();
    for clients in [10, 100, 1_000] {
        for warmup in [Warmup::EASY, Warmup::HARD] {
            let with = |(twist, scenario)| cell(twist, Scenario { clients, warmup, ..scenario });
            cells.extend(twists.map(with));
        }
    }
    cells
}

/// Figures of the local breakers: they do not depend on what becomes of the owner and its messages.
type Known = Mutex<HashMap<String, Medians>>;

/// Outages that last longer are played once: they take most of the time.
const LONG: u64 = 100;

/// Plays every cell with `seeds` seeds (one, if the outage is a long one), on as many threads as there are
/// processors; in order.
///
/// # Errors
/// A configuration out of its range.
pub fn run(cells: &[Cell], seeds: u64) -> Result<Vec<Played>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let known = Known::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = cells.get(index) else { break };
            let seeds = if cell.scenario.outage > LONG { 1 } else { seeds };
            let played = play_cell(cell, seeds, &known);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, played));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, played)| played).collect()
}

fn play_cell(cell: &Cell, seeds: u64, known: &Known) -> Result<Played> {
    let local = local_medians(cell, seeds, known)?;
    Ok(Played { local, fleet: medians(cell, Policy::Fleet, seeds)?, cell: cell.clone() })
}

fn local_medians(cell: &Cell, seeds: u64, known: &Known) -> Result<Medians> {
    let scenario = Scenario { loss: 0.0, owner: OwnerFate::Steady, poisoned: false, ..cell.scenario };
    let name = format!("{scenario:?}");
    if let Some(medians) = known.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
        return Ok(*medians);
    }
    let medians = medians(&Cell { scenario, ..cell.clone() }, Policy::Local, seeds)?;
    known.lock().unwrap_or_else(PoisonError::into_inner).insert(name, medians);
    Ok(medians)
}

/// The medians of a cell under one policy, with the seeds from 1 on.
///
/// # Errors
/// A configuration out of its range.
pub fn medians(cell: &Cell, policy: Policy, seeds: u64) -> Result<Medians> {
    let runs = (1..=seeds).map(|seed| play(Scenario { policy, seed, ..cell.scenario }));
    let runs = runs.collect::<Result<Vec<Measured>>>()?;
    let median = |figure: fn(&Measured) -> u64| {
        let mut figures: Vec<u64> = runs.iter().map(figure).collect();
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    let mut peaks: Vec<f64> = runs.iter().map(|run| run.peak).collect();
    peaks.sort_by(f64::total_cmp);
    Ok(Medians {
        doomed: median(|run| run.doomed),
        peak: peaks.get(peaks.len() / 2).copied().unwrap_or_default(),
        t90: median(|run| run.t90.unwrap_or(u64::MAX)),
        lost: median(|run| run.lost),
        failed: median(|run| run.failed),
        rounds: median(|run| run.rounds),
    })
}
