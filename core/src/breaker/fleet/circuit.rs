//! The circuit of one key for a whole fleet, as its owner keeps it: a value with no clock and no I/O.
//!
//! The owner passes in reports and instants, and sends out what [`Circuit::directive_for`] says after each
//! [`Event`]. It calls [`Circuit::tick`] at [`Circuit::next_wake`].

mod adopt;
pub(super) mod event;
mod half_open;
mod judge;
mod phase;
mod ramp;
mod reporters;
mod say;
mod tally;
mod turn;

use std::sync::Arc;

use self::adopt::Adoption;
use self::event::{ActiveOverride, Event, Override, OverrideError, OverrideMode, Reason, Totals};
use self::phase::Phase;
use self::reporters::{Grid, Reporters, Sums};
use super::config::{FleetConfig, FleetMode, FleetSettings};
use super::latency::Typical;
use super::random::Random;
use super::wire::{Claim, Counts, Epoch, FleetState, Permit, PermitId, Report, ReporterId};
use crate::time::{Span, Time};

/// Outcomes are judged at most this often, so that a verdict over thousands of reporters costs little.
const JUDGE_EVERY: Span = Span::from_millis(20);

/// The circuit of one key. Memory is bounded: `max_reporters` reporters with at most
/// `8 * window / short_window + 1` cells of 40 bytes each, and as many permits as there are probes.
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    config: Arc<FleetConfig>,
    grid: Grid,
    /// The latest instant heard of: time never goes back.
    now: Time,
    epoch: Epoch,
    since: Time,
    reason: Option<Reason>,
    phase: Phase,
    adoption: Option<Adoption>,
    set: Option<ActiveOverride>,
    reporters: Reporters,
    typical: Typical,
    random: Random,
    /// Openings in a row.
    attempt: u32,
    opened_slow: bool,
    would_open: bool,
    /// Whether there is something new to judge.
    dirty: bool,
    judged: Time,
    /// When the windows have lost outcomes, so that it has to be judged again although nothing was reported.
    rolls: Option<Time>,
    hint_until: Time,
    report_floor: Span,
    totals: Totals,
    events: Vec<Event>,
}

impl Circuit {
    /// A circuit that nobody owned before. `incarnation` must be higher than that of any earlier owner of
    /// the key; `seed` draws the jitter and the names of permits.
    #[must_use]
    pub fn new(config: Arc<FleetConfig>, incarnation: u64, seed: u64, now: Time) -> Circuit {
        let settings = config.settings();
        let phase = Phase::at_rest(settings.mode);
        Circuit {
            grid: Grid::new(settings.window, settings.short_window),
            now,
            epoch: Epoch { incarnation, counter: 1 },
            since: now,
            reason: None,
            phase,
            adoption: None,
            set: None,
            reporters: Reporters::new(settings.max_reporters),
            typical: Typical::new(),
            random: Random::new(seed),
            attempt: 0,
            opened_slow: false,
            would_open: false,
            dirty: false,
            judged: Time::EPOCH,
            rolls: None,
            hint_until: Time::EPOCH,
            report_floor: Span::ZERO,
            totals: Totals::default(),
            events: Vec::new(),
            config,
        }
    }

    /// A circuit that another owner had: it listens to what the instances hold for `adopt_for` before it
    /// speaks. Until then their leases go on.
    #[must_use]
    pub fn adopting(config: Arc<FleetConfig>, incarnation: u64, seed: u64, now: Time) -> Circuit {
        let mut circuit = Circuit::new(config, incarnation, seed, now);
        if circuit.settings().mode == FleetMode::Enforce {
            circuit.adoption = Some(Adoption::new(now + circuit.settings().adopt_for));
        }
        circuit
    }

    /// State of the circuit.
    #[must_use]
    pub const fn state(&self) -> FleetState {
        self.phase.state()
    }

    /// Epoch of the state.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn settings(&self) -> &FleetSettings {
        self.config.settings()
    }

    /// Takes a report and judges. A report that arrived before changes nothing, as long as its reporter is
    /// remembered: for six leases after its last report, unless others needed the room.
    pub fn report(&mut self, now: Time, report: &Report) -> Vec<Event> {
        self.merge(now, report);
        self.tick(now)
    }

    /// Takes a report without judging, for many that arrive together; [`Circuit::tick`] judges.
    pub fn merge(&mut self, now: Time, report: &Report) {
        self.advance(now);
        let (id, delta) = (report.reporter, &report.delta);
        if delta.sequence == 0 || !self.reporters.arrive(self.now, id, report.incarnation, delta.sequence) {
            self.totals.duplicates = self.totals.duplicates.saturating_add(1);
            return;
        }
        if let Some(adoption) = &mut self.adoption {
            adoption.claim(id, delta.claim, self.config.settings().max_reporters);
        }
        let (counts, late) = (delta.counts.clipped(), delta.late.clipped());
        self.reporters.demand(self.now, id, counts.wanted().saturating_add(late.wanted()));
        let at = self.now - delta.age;
        if let Some(hint) = delta.retry_after {
            self.hint_until = self.hint_until.max(at + hint);
        }
        if delta.epoch == self.epoch {
            self.totals.counts.add(&counts);
            self.count(id, at, &counts, delta.median);
        } else {
            self.totals.late.add(&counts);
        }
        self.totals.late.add(&late);
        if let Phase::HalfOpen(round) = &mut self.phase {
            delta.probes.iter().for_each(|result| round.result(self.now, id, result));
            self.dirty = true;
        }
    }

    /// Counts outcomes of the epoch in force.
    fn count(&mut self, id: ReporterId, at: Time, counts: &Counts, median: Option<Span>) {
        let sums = Sums::of(counts);
        match self.phase {
            Phase::Closed | Phase::MetricsOnly => {
                let calm = counts.failures() == 0;
                if let Some(median) = median.filter(|_| calm) {
                    self.typical.learn(self.now.as_micros(), median, counts.judged());
                }
            }
            Phase::Recovering(ref mut ramp) => {
                if let (Some(median), Some(typical)) = (median, self.typical.median()) {
                    ramp.time(median, typical, counts.judged());
                }
                self.reporters.count_step(id, &sums);
            }
            _ => return,
        }
        self.reporters.count(id, self.grid.tick(at), self.grid.window_from(self.now), &sums);
        // Outcomes that are all well can complete the least volume, but never start the evidence.
        self.dirty |= sums.judged > 0;
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Time) -> Vec<Event> {
        self.advance(now);
        self.judge();
        std::mem::take(&mut self.events)
    }

    /// When [`Circuit::tick`] has something to do without a report; none if never.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        if !self.events.is_empty() {
            return Some(self.now);
        }
        let set = self.set.as_ref().map(|set| set.until);
        let adoption = self.adoption.as_ref().map(|adoption| adoption.until);
        let soon = self.judged + JUDGE_EVERY;
        let dirty = (self.dirty && adoption.is_none()).then_some(soon);
        let rolls = self.rolls.filter(|_| adoption.is_none()).map(|rolls| rolls.max(soon));
        [set, adoption, dirty, rolls, self.phase.wake()].into_iter().flatten().min()
    }

    /// Hands a permit to an instance that has a call to make right now, if one is left.
    pub fn acquire_probe(&mut self, now: Time, reporter: ReporterId) -> Option<Permit> {
        self.advance(now);
        let active = self.active();
        let Phase::HalfOpen(round) = &mut self.phase else { return None };
        let id = PermitId(self.random.next());
        let permit = round.issue(self.now, id, reporter, active)?;
        self.totals.permits = self.totals.permits.saturating_add(1);
        Some(permit)
    }

    /// Sets a state by hand.
    ///
    /// # Errors
    /// A field of the override that is out of its range; nothing changes then.
    pub fn set_override(&mut self, now: Time, new: Override) -> Result<Vec<Event>, OverrideError> {
        new.check()?;
        self.advance(now);
        let phase = match new.mode {
            OverrideMode::ForcedOpen => Phase::ForcedOpen,
            OverrideMode::Disabled => Phase::Disabled,
            OverrideMode::MetricsOnly => Phase::MetricsOnly,
        };
        self.set = Some(ActiveOverride { until: self.now + new.ttl, set: new });
        self.adoption = None;
        if phase.state() != self.state() {
            self.attempt = 0;
            self.change(phase, Reason::Manual);
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// Ends an override by hand. After a forced opening traffic is ramped back, never all at once.
    pub fn clear_override(&mut self, now: Time) -> Vec<Event> {
        self.advance(now);
        if self.set.is_some() {
            self.end_override(Reason::Manual);
        }
        std::mem::take(&mut self.events)
    }

    /// Takes what instances hold of an earlier owner, if it came outside their reports. Judged when the
    /// owner has listened for `adopt_for`; afterwards claims change nothing.
    pub fn adopt(&mut self, now: Time, claims: &[(ReporterId, Claim)]) -> Vec<Event> {
        if let Some(adoption) = &mut self.adoption {
            let most = self.config.settings().max_reporters;
            claims.iter().for_each(|(reporter, claim)| adoption.claim(*reporter, Some(*claim), most));
        }
        self.tick(now)
    }

    /// Goes on under another configuration. Outcomes are kept unless the windows changed; a round of probes
    /// ends as it began.
    pub fn configure(&mut self, now: Time, config: Arc<FleetConfig>) -> Vec<Event> {
        self.advance(now);
        let settings = config.settings();
        let grid = Grid::new(settings.window, settings.short_window);
        if grid != self.grid {
            self.grid = grid;
            self.reporters.clear_outcomes();
        }
        self.reporters.resize(settings.max_reporters);
        let mode_changed = settings.mode != self.settings().mode;
        self.config = config;
        self.dirty = true;
        let rest = Phase::at_rest(self.settings().mode);
        if mode_changed && self.set.is_none() && rest.state() != self.state() {
            (self.attempt, self.adoption) = (0, None);
            self.change(rest, Reason::Configured);
        }
        std::mem::take(&mut self.events)
    }

    /// How often instances may report at most, for a server that has too much to do: the interval of the
    /// configuration is raised to `floor`, up to a third of the lease. Zero ends it.
    pub const fn set_report_interval_floor(&mut self, floor: Span) {
        self.report_floor = floor;
    }
}
