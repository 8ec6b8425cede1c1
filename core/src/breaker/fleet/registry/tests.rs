//! The registry is bounded, and wakes what is due.

use super::super::circuit::event::OverrideMode;
use super::super::wire::{Counts, Delta, FleetState, Report, ReporterId};
use super::super::{FleetMode, FleetSettings};
use super::*;

fn registry(max_keys: usize) -> Registry {
    let settings = FleetSettings { mode: FleetMode::Enforce, ..FleetSettings::default() };
    let config = Arc::new(FleetConfig::new(settings).unwrap());
    let shop = KeyPattern { namespace: PartPattern::Exact("shop".into()), ..KeyPattern::default() };
    let patterns = vec![(shop, config)];
    Registry::new(RegistryConfig { max_keys, idle_after: Span::from_secs(600), patterns }, 1, 7).unwrap()
}

fn key(n: usize) -> CircuitKey {
    CircuitKey::of("shop", &format!("service-{n}"))
}

fn at(secs: u64) -> Time {
    Time::EPOCH + Span::from_secs(secs)
}

fn report(sequence: u64) -> Report {
    let counts = Counts { success: 1, ..Counts::default() };
    Report { reporter: ReporterId(1), incarnation: 1, delta: Delta { sequence, counts, ..Delta::default() } }
}

fn forced(ttl: u64) -> Override {
    let (actor, reason) = ("ann".to_owned(), "drill".to_owned());
    Override { mode: OverrideMode::ForcedOpen, ttl: Span::from_secs(ttl), actor, reason }
}

#[test]
fn a_key_that_no_pattern_matches_has_no_circuit() {
    let mut registry = registry(10);
    let foreign = CircuitKey::of("bank", "service");
    assert_eq!(registry.with(at(0), &foreign, |_| ()), Err(NoCircuit::Unmatched));
    let long = CircuitKey::of("shop", &"x".repeat(513));
    assert_eq!(registry.with(at(0), &long, |_| ()), Err(NoCircuit::TooLong));
    assert!(registry.is_empty());
}

#[test]
fn a_flood_of_keys_takes_no_room_from_circuits_in_use_but_from_idle_ones() {
    let mut registry = registry(100);
    for n in 0..100 {
        registry.with(at(n as u64 / 50), &key(n), |circuit| circuit.report(at(1), &report(1))).unwrap();
    }
    registry.tick(at(5));
    assert_eq!(registry.with(at(5), &key(100), |_| ()), Err(NoCircuit::Full));
    registry.with(at(30), &key(0), |circuit| circuit.report(at(30), &report(2))).unwrap();
    for n in 100..10_000 {
        let _full = registry.with(at(30), &key(n), |circuit| circuit.report(at(30), &report(1)));
    }
    assert_eq!(registry.len(), 100);
    assert!(registry.get(&key(0)).is_some(), "in use, so still there");
    assert_eq!(registry.pressure(), (1 + 9_801, 99));
}

#[test]
fn an_override_is_in_force_before_the_first_report_and_keeps_its_circuit() {
    let mut registry = registry(2);
    registry.set_override(at(0), &key(0), forced(5_000)).unwrap().unwrap();
    registry.tick(at(4_000));
    assert_eq!(registry.get(&key(0)).unwrap().state(), FleetState::ForcedOpen);
    let events = registry.tick(at(5_000));
    assert!(matches!(&events[..], [(_, Event::Changed { to: FleetState::Recovering, .. })]), "{events:?}");
}

#[test]
fn tick_wakes_what_is_due_and_forgets_what_is_idle() {
    let mut registry = registry(10);
    registry.with(at(0), &key(0), |circuit| circuit.report(at(0), &report(1))).unwrap();
    assert_eq!(registry.next_wake(), Some(Time::from_micros(1_500_000)), "the end of adoption");
    registry.tick(at(2));
    assert_eq!(registry.next_wake(), None);
    registry.tick(at(599));
    assert_eq!(registry.len(), 1);
    registry.tick(at(601));
    assert_eq!(registry.len(), 0);
}

#[test]
fn a_changed_pattern_reconfigures_or_drops_its_circuits() {
    let mut registry = registry(10);
    registry.with(at(0), &key(0), |_| ()).unwrap();
    registry.tick(at(2));
    let mut config = registry.config.clone();
    config.patterns[0].1 = Arc::new(FleetConfig::default());
    let events = registry.configure(at(3), config.clone()).unwrap();
    assert!(matches!(&events[..], [(_, Event::Changed { to: FleetState::MetricsOnly, .. })]));
    config.patterns.clear();
    registry.configure(at(4), config.clone()).unwrap();
    assert!(registry.is_empty() && registry.by_use.is_empty() && registry.by_wake.is_empty());
    config.max_keys = 0;
    let error = registry.configure(at(5), config).unwrap_err().to_string();
    assert_eq!(error, "fleet breaker: max_keys is 0, must be 1 to 10000000");
}
