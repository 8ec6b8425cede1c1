//! The owner's rules, one by one.

use std::collections::BTreeSet;

use tollgate_core::breaker::fleet::{
    Counts, Event, FleetConfig, FleetMode, FleetSettings, FleetState, OutcomeKind, OverrideError,
    OverrideMode, Reason, ReporterId, Share,
};
use tollgate_core::time::{Span, Time};

use crate::world::{World, at, bad, enforced, forced, good, reasons};

#[test]
fn a_circuit_that_nobody_enforces_only_tells_what_it_would_do() {
    let mut world = World::new(FleetSettings::default(), 10);
    world.all(1_000, bad(20));
    assert_eq!(world.state(), FleetState::MetricsOnly);
    assert!(matches!(world.events[..], [Event::WouldTrip { reason: Reason::ShortFailureRate(_) }]));
    assert_eq!(world.directive(1_000, 0).admit, Share::ALL);
    world.all(1_100, bad(20));
    assert_eq!(world.events.len(), 1, "told once");
    world.all(20_000, good(20));
    assert!(matches!(world.events[1..], [Event::WouldRecover]));
}

#[test]
fn the_short_window_trips_at_four_fifths_and_the_long_one_at_half() {
    let mut world = World::new(enforced(), 10);
    for second in 1..=10 {
        world.all(second * 1_000, good(100));
    }
    world.all(11_000, good(20));
    world.all(11_100, bad(79));
    assert_eq!(world.state(), FleetState::Closed, "790 of 990 + 1000 in the last two seconds");
    world.all(12_800, bad(80));
    assert_eq!(world.state(), FleetState::Open);
    assert!(matches!(reasons(&world)[..], [Reason::ShortFailureRate(evidence)] if evidence.over == 10));

    let mut world = World::new(enforced(), 10);
    world.all(1_000, good(10));
    world.all(4_000, Counts { success: 4, failure: 10, ..Counts::default() });
    assert_eq!(world.state(), FleetState::Closed, "100 of 240");
    world.all(7_000, Counts { success: 4, failure: 9, ..Counts::default() });
    assert!(matches!(reasons(&world)[..], [Reason::FailureRate(_)]), "190 of 370");
}

#[test]
fn half_of_many_outcomes_trip_the_short_window() {
    for (short_volume, state) in [(201, FleetState::Closed), (200, FleetState::Open)] {
        let mut world = World::new(FleetSettings { short_volume, ..enforced() }, 10);
        world.all(10_000, good(100));
        world.all(14_000, Counts { success: 8, failure: 12, ..Counts::default() });
        assert_eq!(world.state(), state, "120 of 200, and 120 of 1200 in the long window");
    }
}

#[test]
fn a_blip_that_is_over_does_not_trip_the_short_window() {
    let mut world = World::new(enforced(), 10);
    world.all(10_000, good(200));
    for who in 0..10 {
        let mut blip = world.next(who, Counts { success: 30, failure: 70, ..Counts::default() });
        blip.delta.age = Span::SECOND;
        world.circuit.merge(at(14_000), &blip);
        let well = world.next(who, good(10));
        world.circuit.merge(at(14_000), &well);
    }
    world.tick(14_000);
    assert_eq!(world.state(), FleetState::Closed, "700 of 1100, but none of the last 100");
    world.all(14_400, bad(15));
    assert!(matches!(reasons(&world)[..], [Reason::ShortFailureRate(_)]), "850 of 1250, 150 of the last 250");
}

#[test]
fn too_few_outcomes_never_trip() {
    let mut world = World::new(enforced(), 3);
    world.all(1_000, bad(33));
    assert_eq!(world.state(), FleetState::Closed);
    world.report(1_100, 0, bad(1));
    assert_eq!(world.state(), FleetState::Open, "the hundredth");
}

#[test]
fn slow_calls_trip_only_where_that_is_configured() {
    let slow = Counts { slow_success: 50, ..Counts::default() };
    let mut world = World::new(enforced(), 5);
    world.all(1_000, slow);
    assert_eq!(world.state(), FleetState::Closed);
    let seen = world.circuit.snapshot(at(1_000));
    assert_eq!((seen.slow, seen.window.judged, seen.window.bad), (250, 250, 0), "slow, and told so");
    let slow_after = Some(Span::from_millis(100));
    let settings = FleetSettings { slow_rate: Some(Share::percent(80)), slow_after, ..enforced() };
    let mut world = World::new(settings, 5);
    world.all(1_000, slow);
    assert!(matches!(reasons(&world)[..], [Reason::SlowRate(_)]));
    let settings = FleetSettings { slow_rate: Some(Share::percent(50)), slow_after, ..enforced() };
    for (success, state) in [(13, FleetState::Closed), (12, FleetState::Open)] {
        let mut world = World::new(settings.clone(), 5);
        world.all(10_000, good(100));
        world.all(12_500, Counts { success, slow_success: 50, ..Counts::default() });
        assert_eq!(world.state(), state, "four fifths of the short window, an eleventh of the long one");
    }
}

#[test]
fn one_reporter_that_fails_alone_is_told_apart() {
    let mut world = World::new(enforced(), 6);
    world.all(1_000, good(100));
    world.report(1_500, 0, bad(1_000_000));
    world.tick(1_600);
    assert_eq!(world.state(), FleetState::Closed);
    let fault = Event::LocalFault { reporter: ReporterId(0), judged: 1_000_100, failures: 1_000_000 };
    assert_eq!(world.events, [fault]);
    world.all(20_000, good(100));
    assert_eq!(world.events[1..], [Event::LocalFaultOver { reporter: ReporterId(0) }]);
}

#[test]
fn the_wait_grows_with_each_opening_and_is_never_shorter_than_a_hint() {
    let mut world = World::new(FleetSettings { open_cap: Span::from_secs(30), ..enforced() }, 10);
    let mut now = 1_000;
    let mut wake = world.trip(now);
    for most in [2_400, 3_600, 5_400, 8_100] {
        assert!(wake - now <= most + 1 && wake - now >= most * 2 / 3 - 1, "{} of {most}", wake - now);
        world.tick(wake);
        now = wake;
        world.probes(now, OutcomeKind::Failure);
        wake = world.circuit.next_wake().unwrap().as_micros().div_ceil(1_000);
    }
    for (hint, wait) in [(20, 20_000), (600, 60_000)] {
        let mut world = World::new(enforced(), 10);
        let mut report = world.next(0, bad(1));
        report.delta.retry_after = Some(Span::from_secs(hint));
        world.circuit.merge(at(1_000), &report);
        assert_eq!(world.trip(1_000), 1_000 + wait, "a hint of {hint} s, but a probe in 60 s");
    }
}

#[test]
fn probes_go_to_distinct_reporters_with_traffic() {
    let mut world = World::new(enforced(), 20);
    let wake = world.trip(1_000);
    world.all(wake - 100, Counts { not_permitted: 30, ..Counts::default() });
    world.tick(wake);
    let assigned = world.events.iter().find_map(|event| match event {
        Event::PermitsAssigned { to } => Some(to.iter().copied().collect::<BTreeSet<_>>()),
        _ => None,
    });
    assert_eq!(assigned.unwrap().len(), 10);
    let told: Vec<usize> = (0..20).map(|who| world.directive(wake, who).permits.len()).collect();
    assert_eq!((told.iter().sum::<usize>(), told.iter().max()), (10, Some(&1)));
    assert!(!world.directive(wake, 0).ask_probe);
    assert_eq!(world.circuit.acquire_probe(at(wake), ReporterId(99)), None);
}

#[test]
fn permits_that_nobody_wanted_are_there_for_those_who_ask() {
    let mut world = World::new(enforced(), 100);
    let wake = world.trip(1_000);
    world.tick(wake + 20_000);
    assert_eq!(world.circuit.snapshot(at(wake)).permits_out, 0, "nobody has traffic");
    assert!(world.directive(wake + 20_000, 0).ask_probe);
    let given =
        (0..200).filter(|&who| world.circuit.acquire_probe(at(wake + 20_000), ReporterId(who)).is_some());
    assert_eq!(given.count(), 10);
}

#[test]
fn a_permit_that_nobody_reports_goes_to_somebody_else() {
    let mut world = World::new(enforced(), 4);
    let wake = world.trip(1_000);
    world.tick(wake);
    let lost: Vec<_> = (0..4).flat_map(|who| world.directive(wake, who).permits).collect();
    assert_eq!(lost.len(), 10);
    world.all(wake + 2_900, Counts { not_permitted: 100, ..Counts::default() });
    world.tick(wake + 3_000);
    let snapshot = world.circuit.snapshot(at(wake + 3_000));
    assert_eq!((snapshot.totals.permits_expired, snapshot.permits_out), (10, 10));
    for who in 0..4 {
        lost.iter().for_each(|permit| world.probe(wake + 3_001, who, permit.id, OutcomeKind::Failure));
    }
    assert_eq!(world.circuit.snapshot(at(wake + 3_001)).probes, (0, 0), "too late to count");
}

#[test]
fn a_round_without_a_verdict_opens_again_for_no_longer() {
    let mut world = World::new(enforced(), 10);
    let wake = world.trip(1_000);
    world.tick(wake);
    world.tick(wake + 59_999);
    assert_eq!(world.state(), FleetState::HalfOpen);
    world.tick(wake + 60_000);
    assert_eq!((world.state(), reasons(&world).last()), (FleetState::Open, Some(&Reason::NoVerdict)));
    assert_eq!(world.circuit.snapshot(at(wake + 60_000)).attempt, 1);
}

#[test]
fn healthy_windows_take_the_backoff_back_step_by_step() {
    let mut world = World::new(enforced(), 10);
    let start = world.ramp(1_000);
    for step in 1..=45 {
        world.tick(start + step * 500);
    }
    assert_eq!(world.state(), FleetState::Closed);
    world.trip(start + 25_000);
    assert_eq!(world.circuit.snapshot(at(start + 25_000)).attempt, 2, "soon after: one more");
    let mut world = World::new(enforced(), 10);
    let start = world.ramp(1_000);
    (1..=45).for_each(|step| world.tick(start + step * 500));
    world.trip(start + 60_000);
    assert_eq!(world.circuit.snapshot(at(start + 60_000)).attempt, 1);
}

#[test]
fn forced_states_end_by_time_or_by_hand_and_traffic_is_ramped_back() {
    let mut world = World::new(enforced(), 10);
    let events = world.circuit.set_override(at(1_000), forced(OverrideMode::ForcedOpen, 60)).unwrap();
    assert!(matches!(events[..], [Event::Changed { reason: Reason::Manual, .. }]));
    let told = world.directive(31_000, 0);
    assert_eq!(
        (told.state, told.admit, told.probe_in),
        (FleetState::ForcedOpen, Share::NONE, Span::from_secs(30))
    );
    world.tick(61_000);
    assert_eq!(
        (world.state(), world.directive(61_000, 0).admit),
        (FleetState::Recovering, Share::percent(5))
    );
    world.circuit.set_override(at(62_000), forced(OverrideMode::Disabled, 60)).unwrap();
    world.all(63_000, bad(100));
    assert_eq!(world.state(), FleetState::Disabled);
    world.circuit.clear_override(at(64_000));
    assert_eq!(world.state(), FleetState::Closed);
    assert_eq!(world.circuit.clear_override(at(64_000)), []);
}

#[test]
fn an_override_needs_a_time_an_actor_and_a_reason() {
    let mut world = World::new(enforced(), 1);
    let mut refused = |change: fn(&mut tollgate_core::breaker::fleet::Override)| {
        let mut set = forced(OverrideMode::ForcedOpen, 60);
        change(&mut set);
        world.circuit.set_override(at(0), set).unwrap_err()
    };
    assert_eq!(refused(|set| set.ttl = Span::ZERO), OverrideError::Ttl(Span::ZERO));
    assert_eq!(
        refused(|set| set.ttl = Span::from_secs(604_801)).to_string(),
        "override: ttl is 604801s, must be 1us to 604800s"
    );
    assert_eq!(refused(|set| set.actor.clear()), OverrideError::Actor(0));
    assert_eq!(refused(|set| set.reason = "x".repeat(1_025)), OverrideError::Reason(1_025));
    assert_eq!(world.state(), FleetState::Closed);
}

#[test]
fn what_is_slow_is_learned_while_all_is_well() {
    let mut world = World::new(enforced(), 10);
    assert_eq!(world.directive(0, 0).slow_after, None);
    for second in 1..=20 {
        for who in 0..10 {
            let mut report = world.next(who, good(10));
            report.delta.median = Some(Span::from_millis(80));
            world.circuit.report(at(second * 1_000), &report);
        }
    }
    let learned = world.directive(20_000, 0).slow_after.unwrap();
    assert!(learned >= Span::from_millis(240) && learned < Span::from_millis(290), "{learned}");
    let mut report = world.next(0, bad(1_000));
    report.delta.median = Some(Span::from_secs(5));
    world.circuit.report(at(20_100), &report);
    assert_eq!(world.directive(20_100, 0).slow_after, Some(learned), "a delta with failures teaches nothing");
}

#[test]
fn an_overloaded_server_asks_for_fewer_reports() {
    let mut world = World::new(enforced(), 1);
    assert_eq!(world.directive(0, 0).report_interval, Span::SECOND);
    world.circuit.set_report_interval_floor(Span::from_secs(3));
    assert_eq!(world.directive(0, 0).report_interval, Span::from_secs(3));
    world.circuit.set_report_interval_floor(Span::from_secs(100));
    assert_eq!(world.directive(0, 0).report_interval, Span::from_micros(3_333_333), "a third of the lease");
}

#[test]
fn a_rolling_change_of_thresholds_keeps_the_outcomes() {
    let mut world = World::new(enforced(), 10);
    world.all(1_000, Counts { success: 60, failure: 40, ..Counts::default() });
    let settings = FleetSettings { failure_rate: Share::percent(40), version: 2, ..enforced() };
    let config = std::sync::Arc::new(FleetConfig::new(settings).unwrap());
    world.circuit.configure(at(1_500), config);
    world.tick(1_600);
    assert_eq!(world.state(), FleetState::Open);
    assert_eq!(world.directive(1_600, 0).config_version, 2);
    let quiet = FleetSettings { mode: FleetMode::MetricsOnly, ..enforced() };
    world.circuit.configure(at(1_700), std::sync::Arc::new(FleetConfig::new(quiet).unwrap()));
    assert_eq!(world.state(), FleetState::MetricsOnly);
}

#[test]
fn a_flood_of_reporters_stays_within_the_bound() {
    let mut world = World::new(FleetSettings { max_reporters: 64, ..enforced() }, 10_000);
    for who in 0..10_000 {
        world.report(1_000, who, good(1));
    }
    let snapshot = world.circuit.snapshot(at(1_000));
    assert_eq!((snapshot.reporters, snapshot.totals.reporters_forgotten), (64, 9_936));
    world.tick(90_000);
    assert_eq!(world.circuit.snapshot(at(90_000)).reporters, 0, "silent for long");
}

#[test]
fn time_that_goes_backwards_changes_nothing() {
    let mut world = World::new(enforced(), 10);
    let wake = world.trip(10_000);
    world.tick(0);
    world.tick(wake - 1);
    assert_eq!(world.state(), FleetState::Open);
    world.tick(wake);
    world.tick(0);
    assert_eq!(world.state(), FleetState::HalfOpen);
    assert!(world.circuit.next_wake().unwrap() > at(wake));
    world.circuit.tick(Time::MAX);
    assert_eq!(world.state(), FleetState::Open, "a round that ends with time itself");
}

#[test]
fn a_circuit_opens_although_the_local_breakers_have_silenced_its_reporters() {
    let mut world = World::new(enforced(), 10);
    for tenth in 1..=18 {
        world.all(tenth * 100, good(10));
    }
    world.all(2_000, bad(30));
    assert_eq!(world.state(), FleetState::Closed, "300 of 2100 in the last two seconds");
    // from now on nobody calls, so nobody reports: the good outcomes leave the window first
    let mut now = 2_000;
    while world.state() == FleetState::Closed && now < 10_000 {
        let wake = world.circuit.next_wake().expect("it has to be looked at again");
        assert!(wake > at(now), "it does not spin");
        now = wake.as_micros().div_ceil(1_000);
        world.tick(now);
    }
    assert_eq!(world.state(), FleetState::Open);
    assert!(now < 4_500, "{now}");
}

#[test]
fn a_closed_circuit_that_is_well_sleeps() {
    let mut world = World::new(enforced(), 10);
    world.all(1_000, good(100));
    world.tick(1_100);
    assert_eq!(world.circuit.next_wake(), None);
    world.all(2_000, Counts { success: 100, failure: 1, ..Counts::default() });
    world.tick(2_100);
    assert!(world.circuit.next_wake().is_some());
    world.tick(6_000);
    assert_eq!(world.circuit.next_wake(), None, "the failure has left the short window");
}

#[test]
fn who_only_resends_is_not_forgotten_and_never_counted_twice() {
    let mut world = World::new(enforced(), 3);
    let report = world.next(0, good(100));
    let lease = enforced().lease.as_micros() / 1_000;
    for step in 0..20 {
        world.circuit.merge(at(1_000 + step * lease), &report);
        world.tick(1_000 + step * lease);
    }
    assert_eq!(world.circuit.snapshot(at(1_000 + 20 * lease)).totals.counts.success, 100);
}
