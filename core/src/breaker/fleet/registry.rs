//! The circuits that one owner keeps: bounded, by key, each with the configuration of its pattern.

mod key;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::key::{CircuitKey, KeyPath, KeyPattern, PartPattern};
use super::circuit::Circuit;
use super::circuit::event::{Event, Override, OverrideError, Snapshot};
use super::config::{FleetConfig, FleetConfigError};
use super::random::Random;
use crate::time::{Span, Time};

/// When there is no room, this many of the longest unused circuits are looked at.
const LOOKED_AT: usize = 64;

/// What the owner keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryConfig {
    /// Circuits at most, 1 to 10 000 000.
    pub max_keys: usize,
    /// A circuit at rest that was silent for so long is forgotten, 10 s to 30 days.
    pub idle_after: Span,
    /// The first pattern that matches a key gives its configuration; a key that none matches has no circuit.
    pub patterns: Vec<(KeyPattern, Arc<FleetConfig>)>,
}

impl RegistryConfig {
    fn check(&self) -> Result<(), FleetConfigError> {
        let error = |field, value: String, range: &str| {
            Err(FleetConfigError { field, value, range: range.to_owned() })
        };
        if !(1..=10_000_000).contains(&self.max_keys) {
            return error("max_keys", self.max_keys.to_string(), "1 to 10000000");
        }
        if !(Span::from_secs(10)..=Span::from_secs(30 * 86_400)).contains(&self.idle_after) {
            return error("idle_after", self.idle_after.to_string(), "10s to 2592000s");
        }
        Ok(())
    }

    fn config_of(&self, key: &CircuitKey) -> Option<&Arc<FleetConfig>> {
        self.patterns.iter().find(|(pattern, _)| pattern.matches(key)).map(|(_, config)| config)
    }
}

/// Why a key has no circuit: its instances go on with their local breakers alone.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum NoCircuit {
    /// No pattern of the configuration matches.
    #[error("no pattern matches the key")]
    Unmatched,
    /// A part of the key is too long.
    #[error("a part of the key has more than 512 bytes")]
    TooLong,
    /// As many circuits as there may be are in use.
    #[error("as many circuits as there may be are in use")]
    Full,
}

#[derive(Debug)]
struct Slot {
    circuit: Circuit,
    used: Time,
    wake: Option<Time>,
}

/// The circuits of one owner.
///
/// Every circuit begins by listening for what an earlier owner said
/// ([`Circuit::adopting`]), since a registry cannot know whether there was one.
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    incarnation: u64,
    random: Random,
    now: Time,
    slots: BTreeMap<Arc<CircuitKey>, Slot>,
    by_use: BTreeSet<(Time, Arc<CircuitKey>)>,
    by_wake: BTreeSet<(Time, Arc<CircuitKey>)>,
    report_floor: Span,
    refused: u64,
    forgotten: u64,
}

impl Registry {
    /// An empty registry. `incarnation` must be higher than that of any earlier owner of its keys.
    ///
    /// # Errors
    /// A setting that is out of its range.
    pub fn new(config: RegistryConfig, incarnation: u64, seed: u64) -> Result<Registry, FleetConfigError> {
        config.check()?;
        Ok(Registry {
            config,
            incarnation,
            random: Random::new(seed),
            now: Time::EPOCH,
            slots: BTreeMap::new(),
            by_use: BTreeSet::new(),
            by_wake: BTreeSet::new(),
            report_floor: Span::ZERO,
            refused: 0,
            forgotten: 0,
        })
    }

    /// Circuits in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Keys that were refused since there was no room, and circuits forgotten to make some.
    #[must_use]
    pub const fn pressure(&self) -> (u64, u64) {
        (self.refused, self.forgotten)
    }

    /// Acts on the circuit of `key`; makes one if there is none yet.
    ///
    /// # Errors
    /// Why the key has no circuit.
    pub fn with<R>(
        &mut self,
        now: Time,
        key: &CircuitKey,
        act: impl FnOnce(&mut Circuit) -> R,
    ) -> Result<R, NoCircuit> {
        self.now = self.now.max(now);
        let key = self.find_or_make(key)?;
        let Some(slot) = self.slots.get_mut(&key) else { return Err(NoCircuit::Full) };
        let result = act(&mut slot.circuit);
        self.by_use.remove(&(slot.used, Arc::clone(&key)));
        slot.used = self.now;
        self.by_use.insert((self.now, Arc::clone(&key)));
        self.reindex(&key);
        Ok(result)
    }

    /// Reads the circuit of `key`, if there is one.
    #[must_use]
    pub fn get(&self, key: &CircuitKey) -> Option<&Circuit> {
        self.slots.get(key).map(|slot| &slot.circuit)
    }

    /// All circuits, in the order of their keys.
    pub fn list(&self, now: Time) -> impl Iterator<Item = (&CircuitKey, Snapshot)> {
        self.slots.iter().map(move |(key, slot)| (&**key, slot.circuit.snapshot(now)))
    }

    /// Sets a state by hand; makes the circuit if there is none yet, so that it is in force before the first
    /// report. A circuit with an override is never forgotten.
    ///
    /// # Errors
    /// Why the key has no circuit, or what is wrong with the override.
    pub fn set_override(
        &mut self,
        now: Time,
        key: &CircuitKey,
        new: Override,
    ) -> Result<Result<Vec<Event>, OverrideError>, NoCircuit> {
        self.with(now, key, |circuit| circuit.set_override(now, new))
    }

    /// When [`Registry::tick`] has something to do; none if never.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.by_wake.first().map(|(wake, _)| *wake)
    }

    /// Does what is due at `now` in every circuit, and forgets circuits that were silent for long.
    pub fn tick(&mut self, now: Time) -> Vec<(Arc<CircuitKey>, Event)> {
        self.now = self.now.max(now);
        let mut events = Vec::new();
        let due: Vec<Arc<CircuitKey>> = self
            .by_wake
            .iter()
            .take_while(|(wake, _)| *wake <= self.now)
            .map(|(_, key)| Arc::clone(key))
            .collect();
        for key in due {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            let happened = slot.circuit.tick(self.now);
            events.extend(happened.into_iter().map(|event| (Arc::clone(&key), event)));
            self.reindex(&key);
        }
        self.forget_idle();
        events
    }

    /// Goes on under other patterns. A circuit whose key no pattern matches any more is dropped.
    ///
    /// # Errors
    /// A setting that is out of its range; nothing changes then.
    pub fn configure(
        &mut self,
        now: Time,
        config: RegistryConfig,
    ) -> Result<Vec<(Arc<CircuitKey>, Event)>, FleetConfigError> {
        config.check()?;
        self.now = self.now.max(now);
        self.config = config;
        let mut events = Vec::new();
        let keys: Vec<Arc<CircuitKey>> = self.slots.keys().cloned().collect();
        for key in keys {
            let Some(config) = self.config.config_of(&key).cloned() else {
                self.remove(&key);
                continue;
            };
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            let happened = slot.circuit.configure(self.now, config);
            events.extend(happened.into_iter().map(|event| (Arc::clone(&key), event)));
            self.reindex(&key);
        }
        Ok(events)
    }

    /// How often instances may report at most, for a server that has too much to do. Zero ends it.
    pub fn set_report_interval_floor(&mut self, floor: Span) {
        self.report_floor = floor;
        self.slots.values_mut().for_each(|slot| slot.circuit.set_report_interval_floor(floor));
    }

    fn find_or_make(&mut self, key: &CircuitKey) -> Result<Arc<CircuitKey>, NoCircuit> {
        if let Some((key, _)) = self.slots.get_key_value(key) {
            return Ok(Arc::clone(key));
        }
        if !key.fits() {
            return Err(NoCircuit::TooLong);
        }
        let config = Arc::clone(self.config.config_of(key).ok_or(NoCircuit::Unmatched)?);
        if self.slots.len() >= self.config.max_keys && !self.make_room() {
            self.refused = self.refused.saturating_add(1);
            return Err(NoCircuit::Full);
        }
        let mut circuit = Circuit::adopting(config, self.incarnation, self.random.next(), self.now);
        circuit.set_report_interval_floor(self.report_floor);
        let key = Arc::new(key.clone());
        self.by_use.insert((self.now, Arc::clone(&key)));
        self.slots.insert(Arc::clone(&key), Slot { circuit, used: self.now, wake: None });
        self.reindex(&key);
        Ok(key)
    }

    /// Forgets the circuit that was unused longest, if it is at rest and nobody holds a lease of it.
    fn make_room(&mut self) -> bool {
        let oldest = self.by_use.iter().take(LOOKED_AT);
        let idle = oldest.map(|(_, key)| key).find(|key| {
            let slot = self.slots.get(*key);
            slot.is_some_and(|slot| slot.circuit.is_idle(self.now, slot.circuit.lease()))
        });
        let Some(key) = idle.map(Arc::clone) else { return false };
        self.remove(&key);
        self.forgotten = self.forgotten.saturating_add(1);
        true
    }

    fn forget_idle(&mut self) {
        let idle_after = self.config.idle_after;
        let silent: Vec<Arc<CircuitKey>> = self
            .by_use
            .iter()
            .take_while(|(used, _)| self.now - *used >= idle_after)
            .filter(|(_, key)| {
                self.slots.get(key).is_some_and(|slot| slot.circuit.is_idle(self.now, idle_after))
            })
            .map(|(_, key)| Arc::clone(key))
            .collect();
        for key in silent {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Arc<CircuitKey>) {
        if let Some(slot) = self.slots.remove(key) {
            self.by_use.remove(&(slot.used, Arc::clone(key)));
            if let Some(wake) = slot.wake {
                self.by_wake.remove(&(wake, Arc::clone(key)));
            }
        }
    }

    fn reindex(&mut self, key: &Arc<CircuitKey>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let wake = slot.circuit.next_wake();
        if wake == slot.wake {
            return;
        }
        if let Some(old) = slot.wake {
            self.by_wake.remove(&(old, Arc::clone(key)));
        }
        slot.wake = wake;
        if let Some(wake) = wake {
            self.by_wake.insert((wake, Arc::clone(key)));
        }
    }
}

#[cfg(test)]
mod tests;
