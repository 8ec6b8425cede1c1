//! The ramp, step by step.

use tollgate_core::breaker::fleet::{Counts, FleetSettings, FleetState, Reason, Share};
use tollgate_core::time::Span;

use crate::world::{World, at, bad, enforced, good, reasons};

#[test]
fn the_ramp_adds_while_it_is_well_shrinks_when_it_is_not_and_closes_after_a_window_at_full() {
    let mut world = World::new(enforced(), 10);
    let start = world.ramp(1_000);
    assert_eq!(world.directive(start, 0).admit, Share::percent(5));
    world.all(start + 400, good(3));
    world.tick(start + 500);
    assert_eq!(world.directive(start + 500, 0).admit, Share::percent(10));
    world.all(start + 900, Counts { success: 9, slow_success: 1, ..Counts::default() });
    world.tick(start + 1_000);
    assert_eq!(world.directive(start + 1_000, 0).admit, Share::percent(8), "a tenth was slow");
    for step in 3..=21 {
        world.all(start + step * 500 - 1, good(10));
        world.tick(start + step * 500);
    }
    assert_eq!(world.directive(start + 10_500, 0).admit, Share::ALL);
    assert_eq!(world.state(), FleetState::Recovering);
    for step in 22..=41 {
        world.tick(start + step * 500);
    }
    assert_eq!((world.state(), reasons(&world).last()), (FleetState::Closed, Some(&Reason::Recovered)));
}

/// Every reporter reports the same, with this median latency.
fn timed(world: &mut World, millis: u64, counts: Counts, median: u64) {
    for who in 0..world.sequences.len() {
        let mut report = world.next(who, counts);
        report.delta.median = Some(Span::from_millis(median));
        world.circuit.merge(at(millis), &report);
    }
    world.tick(millis);
}

/// The shares, in percent, of a ramp whose steps see these outcomes and medians, after calls of 10 ms.
fn shares(settings: FleetSettings, steps: &[(Counts, u64)]) -> Vec<u16> {
    let mut world = World::new(settings, 10);
    for second in 1..=20 {
        timed(&mut world, second * 1_000, good(10), 10);
    }
    let start = world.ramp(40_000);
    let step = |(number, &(counts, median)): (u64, &(Counts, u64))| {
        timed(&mut world, start + number * 500 - 1, counts, median);
        world.tick(start + number * 500);
        world.directive(start + number * 500, 0).admit.basis_points() / 100
    };
    (1..).zip(steps).map(step).collect()
}

#[test]
fn the_step_doubles_while_the_target_is_as_fast_as_before() {
    let quick = (good(10), 10);
    assert_eq!(shares(enforced(), &[quick; 5]), [15, 35, 75, 100, 100]);
    assert_eq!(shares(enforced(), &[(good(10), 20); 3]), [10, 15, 20], "slower than before");
    let steady = FleetSettings { ramp_growth: 1_000, ..enforced() };
    assert_eq!(shares(steady, &[quick; 3]), [10, 15, 20]);
    let few = (good(1), 10);
    assert_eq!(shares(enforced(), &[quick, few, few, quick]), [15, 20, 30, 50], "20 outcomes are enough");
}

#[test]
fn the_first_doubt_takes_the_growth_of_the_step_back() {
    let quick = (good(10), 10);
    let doubtful = (Counts { success: 19, slow_success: 1, ..Counts::default() }, 10);
    assert_eq!(shares(enforced(), &[quick, quick, doubtful, quick]), [15, 35, 40, 50]);
    let too_much = (Counts { success: 5, slow_success: 5, ..Counts::default() }, 50);
    let slower = (good(10), 50);
    assert_eq!(
        shares(enforced(), &[quick, quick, quick, too_much, slower]),
        [15, 35, 75, 35, 40],
        "back to what it bore"
    );
}

#[test]
fn a_step_with_too_few_outcomes_goes_on_counting() {
    let mut world = World::new(enforced(), 10);
    let start = world.ramp(1_000);
    world.report(start + 100, 0, bad(1));
    world.report(start + 110, 1, bad(1));
    world.report(start + 120, 2, bad(1));
    world.tick(start + 500);
    assert_eq!(
        world.directive(start + 500, 0).admit,
        Share::percent(5),
        "three of three: no reason to go on"
    );
    world.all(start + 900, good(2));
    world.tick(start + 1_000);
    assert_eq!(world.directive(start + 1_000, 0).admit, Share::percent(4), "three of twenty-three");
}

#[test]
fn failures_during_the_ramp_open_again_with_a_longer_wait() {
    let mut world = World::new(enforced(), 10);
    let start = world.ramp(1_000);
    world.all(start + 100, Counts { success: 2, failure: 3, ..Counts::default() });
    assert!(matches!(reasons(&world).last(), Some(Reason::RampFailed(_))));
    assert_eq!(world.circuit.snapshot(at(start)).attempt, 2);
}
