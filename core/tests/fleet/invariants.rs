//! What holds after every step of any history.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate_core::breaker::fleet::{
    Circuit, Counts, Delta, Epoch, Event, FleetSettings, FleetState, OutcomeKind, OverrideMode, PermitId,
    ProbeResult, Report, ReporterId, Share, Snapshot,
};
use tollgate_core::time::{Span, Time};

use crate::world::{circuit, enforced, forced, good};

/// Most permits of a round in these tests, so that rounds often end.
const PROBES: u32 = 5;

fn settings() -> FleetSettings {
    let attempt_timeout = Span::from_millis(300);
    let permit_grace = Span::from_millis(300);
    // A reporter is remembered for six leases: longer than any of these histories.
    let lease = Span::from_secs(3_600);
    FleetSettings { probes: PROBES, min_volume: 20, attempt_timeout, permit_grace, lease, ..enforced() }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// Outcomes: of whom, how many good and bad, of how many epochs ago, how old, with which hint.
    Report {
        who: u8,
        good: u8,
        bad: u8,
        behind: u64,
        age: u64,
        hint: Option<u64>,
    },
    /// The oldest permit of a reporter ends so.
    Probe {
        who: u8,
        kind: OutcomeKind,
    },
    Ask(u8),
    Tell(u8),
    Override(OverrideMode, u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(OutcomeKind::Success), 3 => Just(OutcomeKind::Failure), 1 => Just(OutcomeKind::Ignored)
    ];
    let mode = prop_oneof![
        Just(OverrideMode::ForcedOpen),
        Just(OverrideMode::Disabled),
        Just(OverrideMode::MetricsOnly)
    ];
    let report = (0..8_u8, 0..40_u8, prop_oneof![2 => Just(0), 1 => 0..40_u8], 0..3_u64, 0..3_000_u64);
    prop_oneof![
        20 => prop_oneof![4 => 0..700_u64, 1 => 0..20_000_u64].prop_map(Step::Wait),
        30 => (report, prop::option::weighted(0.05, 0..90_u64)).prop_map(
            |((who, good, bad, behind, age), hint)| Step::Report { who, good, bad, behind, age, hint }
        ),
        25 => (0..8_u8, kind).prop_map(|(who, kind)| Step::Probe { who, kind }),
        10 => (0..8_u8).prop_map(Step::Ask),
        10 => (0..8_u8).prop_map(Step::Tell),
        1 => (mode, 1..30_u64).prop_map(|(mode, secs)| Step::Override(mode, secs)),
        1 => Just(Step::Clear),
    ]
}

/// A circuit in the middle of a history.
struct Run {
    circuit: Circuit,
    now: Time,
    sequences: [u64; 8],
    permits: BTreeMap<u8, Vec<PermitId>>,
    events: Vec<Event>,
    /// Every report that was made, and when.
    reports: Vec<(Time, Report)>,
}

impl Run {
    fn new() -> Run {
        Run {
            circuit: circuit(settings()),
            now: Time::EPOCH,
            sequences: [0; 8],
            permits: BTreeMap::new(),
            events: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn report(&mut self, who: u8, fill: impl FnOnce(&mut Delta)) {
        self.sequences[usize::from(who)] += 1;
        let sequence = self.sequences[usize::from(who)];
        let mut delta = Delta { sequence, epoch: self.circuit.epoch(), ..Delta::default() };
        fill(&mut delta);
        let report = Report { reporter: ReporterId(who.into()), incarnation: 1, delta };
        self.reports.push((self.now, report.clone()));
        let events = self.circuit.report(self.now, &report);
        self.events.extend(events);
    }

    fn tell(&mut self, who: u8) {
        let told = self.circuit.directive_for(self.now, ReporterId(who.into())).unwrap();
        let held = self.permits.entry(who).or_default();
        for permit in &told.permits {
            if !held.contains(&permit.id) {
                held.push(permit.id);
            }
        }
        let nothing = matches!(told.state, FleetState::Open | FleetState::HalfOpen | FleetState::ForcedOpen);
        assert!(!nothing || told.admit == Share::NONE, "{told:?}");
        assert!(
            told.state == FleetState::HalfOpen || (told.permits.is_empty() && !told.ask_probe),
            "{told:?}"
        );
    }

    fn ask(&mut self, who: u8) {
        let state = self.circuit.state();
        let permit = self.circuit.acquire_probe(self.now, ReporterId(who.into()));
        let half_open = self.circuit.state() == FleetState::HalfOpen;
        assert!(permit.is_none() || half_open, "a permit in {state:?}");
        self.permits.entry(who).or_default().extend(permit.map(|permit| permit.id));
    }

    /// Plays `step`; `failing` turns the outcomes of stale reports into failures.
    fn play(&mut self, step: &Step, failing: bool) {
        match step {
            Step::Wait(millis) => self.now = self.now + Span::from_millis(*millis),
            Step::Report { who, good, bad, behind, age, hint } => {
                let turned = if failing && *behind > 0 { u64::from(*good) } else { 0 };
                let (success, failure) = (u64::from(*good) - turned, u64::from(*bad) + turned);
                self.report(*who, |delta| {
                    delta.epoch.counter = delta.epoch.counter.saturating_sub(*behind);
                    delta.age = Span::from_millis(*age);
                    delta.retry_after = hint.map(Span::from_secs);
                    delta.counts = Counts { success, failure, ..Counts::default() };
                });
            }
            Step::Probe { who, kind } => {
                let held = self.permits.entry(*who).or_default();
                if !held.is_empty() {
                    let permit = held.remove(0);
                    let result = ProbeResult { permit, kind: *kind, slow: false };
                    self.report(*who, |delta| delta.probes.push(result));
                }
            }
            Step::Ask(who) => self.ask(*who),
            Step::Tell(who) => self.tell(*who),
            Step::Override(mode, secs) => {
                let events = self.circuit.set_override(self.now, forced(*mode, *secs)).unwrap();
                self.events.extend(events);
            }
            Step::Clear => self.events.extend(self.circuit.clear_override(self.now)),
        }
        self.events.extend(self.circuit.tick(self.now));
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.circuit.snapshot(self.now);
        snapshot.totals.duplicates = 0;
        snapshot
    }
}

/// The changes among `events` lead from `before` to `after`, one epoch each.
fn check_chain(events: &[Event], before: (FleetState, Epoch), after: (FleetState, Epoch)) {
    let mut current = before;
    for event in events {
        let Event::Changed { from, to, epoch, .. } = event else { continue };
        assert_eq!((current.0, current.1.counter + 1), (*from, epoch.counter), "{event:?}");
        assert_ne!(from, to, "a change that changes nothing");
        current = (*to, *epoch);
    }
    assert_eq!(current, after, "a change without an event");
}

fn check_step(run: &mut Run, step: &Step) {
    let before = run.snapshot();
    run.events.clear();
    run.play(step, false);
    let after = run.snapshot();
    check_chain(&run.events, (before.state, before.epoch), (after.state, after.epoch));
    assert!(after.permits_out + after.probes.0 + after.probes.1 <= PROBES, "{after:?}");
    let by_hand = matches!(step, Step::Override(..) | Step::Clear);
    let forced = before.set.as_ref().is_some_and(|set| set.until > run.now);
    assert!(!forced || by_hand || after.state == before.state, "{before:?} {after:?}");
    if after.state == FleetState::Open {
        assert!(after.remaining <= Span::from_secs(60), "a probe within a minute: {after:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_step_keeps_the_rules(steps in vec(step(), 1..300)) {
        let mut run = Run::new();
        steps.iter().for_each(|step| check_step(&mut run, step));
    }

    #[test]
    fn what_an_older_epoch_tells_changes_no_verdict(steps in vec(step(), 1..300)) {
        let (mut run, mut other) = (Run::new(), Run::new());
        for step in &steps {
            run.play(step, false);
            other.play(step, true);
            let seen = |run: &Run| {
                let s = run.snapshot();
                (s.state, s.epoch, s.admit, s.remaining, s.attempt, s.probes, s.window)
            };
            prop_assert_eq!(seen(&run), seen(&other));
        }
    }

    #[test]
    fn a_report_that_arrives_again_changes_nothing(steps in vec(step(), 1..200), again in any::<u64>()) {
        let (mut run, mut other) = (Run::new(), Run::new());
        for (i, step) in (0_u32..).zip(&steps) {
            run.play(step, false);
            other.play(step, false);
            // Any earlier report arrives again, at the present time.
            let count = other.reports.len() as u64;
            if let Some(pick) = again.rotate_left(i).checked_rem(count) {
                let (_, report) = other.reports[usize::try_from(pick).unwrap()].clone();
                let now = other.now;
                let events = other.circuit.report(now, &report);
                prop_assert_eq!(events, vec![]);
            }
            prop_assert_eq!(run.snapshot(), other.snapshot());
        }
        let (now, reports) = (other.now, std::mem::take(&mut other.reports));
        for (_, report) in &reports {
            other.circuit.merge(now, report);
        }
        other.circuit.tick(now);
        run.circuit.tick(now);
        prop_assert_eq!(run.snapshot(), other.snapshot());
    }

    #[test]
    fn the_order_of_what_arrives_together_does_not_matter(
        prefix in vec(step(), 0..60),
        parts in vec((0..8_u8, 0..60_u64, 0..60_u64, 0..4_000_u64), 1..40),
        seed in any::<u64>(),
    ) {
        let mut run = Run::new();
        prefix.iter().for_each(|step| run.play(step, false));
        let mut sequences = run.sequences;
        let epoch = run.circuit.epoch();
        let mut reports: Vec<Report> = parts.iter().map(|&(who, success, failure, age)| {
            sequences[usize::from(who)] += 1;
            let counts = Counts { success, failure, ..Counts::default() };
            let (sequence, age) = (sequences[usize::from(who)], Span::from_millis(age));
            let median = Some(Span::from_millis(success));
            let delta = Delta { sequence, epoch, age, counts, median, ..Delta::default() };
            Report { reporter: ReporterId(who.into()), incarnation: 1, delta }
        }).collect();
        let mut other = run.circuit.clone();
        reports.iter().for_each(|report| run.circuit.merge(run.now, report));
        reports.sort_by_key(|report| {
            (report.reporter.0 << 32 | report.delta.sequence).wrapping_mul(seed | 1)
        });
        reports.iter().for_each(|report| other.merge(run.now, report));
        prop_assert_eq!(run.circuit.tick(run.now), other.tick(run.now));
        prop_assert!(run.circuit == other);
    }

    #[test]
    fn without_bad_outcomes_the_share_never_falls(
        waits in vec((0..900_u64, vec(0..50_u64, 8)), 1..100)
    ) {
        let mut world = crate::world::World::new(enforced(), 8);
        let mut now = world.ramp(1_000);
        let mut admit = Share::NONE;
        for (wait, successes) in waits {
            now += wait;
            for (who, success) in successes.into_iter().enumerate() {
                world.report(now, who, good(success));
            }
            let told = world.directive(now, 0);
            prop_assert!(matches!(told.state, FleetState::Recovering | FleetState::Closed));
            prop_assert!(told.admit >= admit);
            admit = told.admit;
        }
    }

    #[test]
    fn one_poisoned_reporter_never_opens_the_circuit_for_five(
        honest in vec((0..5_000_u64, vec(0..200_u64, 4)), 1..60),
        poison in vec(0..u64::MAX, 60),
    ) {
        let mut world = crate::world::World::new(enforced(), 5);
        world.all(0, good(1));
        let mut now = 0;
        for ((wait, successes), failure) in honest.into_iter().zip(poison) {
            now += wait;
            for (who, success) in successes.into_iter().enumerate() {
                world.report(now, who + 1, good(success));
            }
            world.report(now, 0, Counts { failure, slow_failure: failure, ..Counts::default() });
            prop_assert_eq!(world.state(), FleetState::Closed);
        }
    }

    #[test]
    fn one_poisoned_reporter_never_holds_the_ramp_down(failure in 1..u64::MAX, others in 4..40_usize) {
        let mut world = crate::world::World::new(enforced(), others + 1);
        let start = world.ramp(1_000);
        for step in 1..=19 {
            for who in 1..=others {
                world.report(start + step * 500 - 1, who, good(10));
            }
            world.report(start + step * 500 - 1, 0, Counts { failure, ..Counts::default() });
            world.tick(start + step * 500);
            // A step in which nobody else had outcomes.
            world.report(start + step * 500 + 1, 0, Counts { failure, ..Counts::default() });
        }
        prop_assert_eq!(world.directive(start + 9_500, 1).admit, Share::ALL);
    }
}
