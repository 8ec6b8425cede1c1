//! A part of the sweep that takes few seconds: the bars of the fleet breaker, with the real state machines.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use tollgate_loadtest::fleet::sweep::{Cell, Played, medians};
use tollgate_loadtest::fleet::{Failure, Measured, OwnerFate, Policy, Scenario, Warmup, play, plot, table};

const SEEDS: u64 = 3;

fn cell(scenario: Scenario, strict: bool) -> Cell {
    Cell { twist: "test".to_owned(), scenario, strict }
}

/// One seed of a cell of the sweep.
fn played(scenario: Scenario) -> Played {
    let cell = cell(scenario, true);
    let local = medians(&cell, Policy::Local, 1).unwrap();
    Played { local, fleet: medians(&cell, Policy::Fleet, 1).unwrap(), cell }
}

/// A short and small scenario, for what does not need the long one.
fn small() -> Scenario {
    let load = 200.0;
    Scenario { clients: 20, load, capacity: 1.25 * load, queue: 500, outage: 10, ..Scenario::default() }
}

fn seeds(scenario: Scenario) -> Vec<Measured> {
    (1..=SEEDS).map(|seed| play(Scenario { seed, ..scenario }).unwrap()).collect()
}

#[test]
fn a_total_outage_with_an_easy_way_back_clears_the_strict_bars() {
    let played = played(Scenario::default());
    assert!(played.missed().is_empty(), "{}{played:?}", table::row(&played));
}

#[test]
fn a_total_outage_with_a_hard_way_back_clears_the_strict_bars() {
    let played = played(Scenario { warmup: Warmup::HARD, ..Scenario::default() });
    assert!(played.missed().is_empty(), "{}{played:?}", table::row(&played));
}

#[test]
fn equal_seeds_give_equal_plays_and_other_seeds_others() {
    let first = play(small()).unwrap();
    assert_eq!(first, play(small()).unwrap());
    assert_ne!(first.seconds, play(Scenario { seed: 2, ..small() }).unwrap().seconds);
}

#[test]
fn a_breaker_saves_the_target_from_doomed_calls() {
    let of = |policy| play(Scenario { policy, ..small() }).unwrap();
    let (none, local, fleet) = (of(Policy::None), of(Policy::Local), of(Policy::Fleet));
    assert!(none.doomed > 1_500, "{}", none.doomed);
    assert!(local.doomed < none.doomed && fleet.doomed < local.doomed, "{} {}", local.doomed, fleet.doomed);
    assert_eq!((none.openings, local.openings), (0, 0));
    assert!(fleet.openings >= 1 && fleet.rounds == fleet.openings);
}

#[test]
fn messages_may_be_lost() {
    for measured in seeds(Scenario { loss: 0.2, ..small() }) {
        assert!(measured.doomed <= 10 * measured.rounds + 100, "{} in {}", measured.doomed, measured.rounds);
        assert!(measured.t90.is_some(), "it never came back");
        assert!(measured.peak <= 1.5, "{}", measured.peak);
    }
}

/// A new owner begins after a second, listens for one and a half, and has to see calls of its own epoch time
/// out: for so long nobody but the local breakers watches.
#[test]
fn owners_may_fail_at_any_time() {
    let blind = 200 * 4;
    for measured in seeds(Scenario { owner: OwnerFate::FailsOver(3), ..small() }) {
        let most = 10 * measured.rounds + 100 + 3 * blind;
        assert!(measured.doomed <= most, "{} in {}", measured.doomed, measured.rounds);
        assert!(measured.t90.is_some(), "it never came back");
        assert!(measured.peak <= 1.5, "{}", measured.peak);
    }
}

#[test]
fn without_the_service_the_local_breakers_do_what_they_always_do() {
    for (absent, local) in seeds(Scenario { owner: OwnerFate::Absent, ..small() })
        .into_iter()
        .zip(seeds(Scenario { policy: Policy::Local, ..small() }))
    {
        assert_eq!((absent.rounds, absent.seconds), (0, local.seconds), "call for call");
    }
}

/// All leases end within ten seconds: instances that came back together would be worse than local breakers.
#[test]
fn a_service_that_dies_in_an_outage_leaves_breakers_that_come_back_apart() {
    let hard = Scenario { warmup: Warmup::HARD, ..Scenario::default() };
    let dies = medians(&cell(Scenario { owner: OwnerFate::Dies, ..hard }, false), Policy::Fleet, SEEDS);
    let (dies, local) = (dies.unwrap(), medians(&cell(hard, false), Policy::Local, SEEDS).unwrap());
    assert!(dies.peak <= local.peak * 1.25, "{} against {}", dies.peak, local.peak);
    assert!(dies.failed * 10 <= local.failed * 11, "{} against {}", dies.failed, local.failed);
}

#[test]
fn partial_and_slow_outages_are_seen_within_two_seconds() {
    for failure in [Failure::Partial(0.6), Failure::Slow] {
        for measured in seeds(Scenario { failure, warmup: Warmup::NONE, ..small() }) {
            let most = 10 * measured.rounds + 100;
            assert!(measured.doomed <= most, "{} in {}: {failure:?}", measured.doomed, measured.rounds);
        }
    }
}

#[test]
fn one_poisoned_reporter_opens_nothing_and_is_told_apart() {
    let healthy = Scenario { failure: Failure::Partial(0.0), poisoned: true, ..small() };
    for measured in seeds(healthy) {
        let shed: u64 = measured.seconds.iter().map(|second| second.shed).sum();
        assert_eq!((measured.openings, shed), (0, 0));
        assert_eq!(measured.local_faults, 1);
    }
    for measured in seeds(Scenario { poisoned: true, ..small() }) {
        assert!(measured.t90.is_some(), "the liar held it down");
    }
}

#[test]
fn a_dead_eighth_of_a_service_does_not_shut_the_rest() {
    for measured in seeds(Scenario { failure: Failure::Partial(0.125), outage: 30, ..small() }) {
        assert_eq!(measured.openings, 0);
    }
}

#[test]
fn a_slow_target_opens_the_circuit_where_slowness_counts() {
    for measured in seeds(Scenario { failure: Failure::Slow, warmup: Warmup::NONE, outage: 30, ..small() }) {
        assert!(measured.openings >= 1 && measured.t90.is_some(), "{measured:?}");
    }
}

#[test]
fn pictures_show_a_panel_for_each_play() {
    let plays = [play(small()).unwrap(), play(Scenario { policy: Policy::None, ..small() }).unwrap()];
    let svg = plot::picture("title", &plays);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!((svg.matches("fleet: ").count(), svg.matches("none: ").count()), (1, 1));
    let beyond = svg.matches("fill=\"#d9483b\"").count();
    assert!(beyond > 10, "the legend, and the seconds of the outage without a breaker: {beyond}");
}
