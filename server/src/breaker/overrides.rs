//! Circuits that people have forced: who, to what, why, until when. Every server keeps all of them, so that whoever
//! owns a circuit next obeys at once; where servers share a Redis, they are kept there.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as wire;
use tonic::Status;

use super::decode::{invalid, span};
use super::encode::duration;
use super::key::Key;

/// Most circuits that can be forced at a time.
pub(super) const MOST: usize = 1_000;
/// Longest time to force a circuit: a forgotten one is an outage.
pub(super) const LONGEST: Span = Span::from_secs(7 * 86_400);

/// What a circuit is forced to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    ForcedOpen,
    Disabled,
    MetricsOnly,
    Enforce,
}

/// A circuit that somebody forced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Forced {
    pub(super) mode: Mode,
    /// `None`: until somebody ends it.
    pub(super) until: Option<Time>,
    pub(super) actor: String,
    pub(super) reason: String,
}

/// What somebody wants of a circuit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Force(Forced),
    Free { actor: String, reason: String },
}

impl Wish {
    /// Reads an override.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: a field of it makes no sense.
    pub(super) fn read(wish: Option<wire::Override>, now: Time) -> Result<Wish, Status> {
        use wire::r#override::Mode as Wire;
        let wish = wish.ok_or_else(|| invalid("override is missing"))?;
        let length = |field: &str, text: &str, most: usize| {
            if (1..=most).contains(&text.len()) {
                return Ok(());
            }
            Err(invalid(format!("override.{field} has {} bytes, must have 1 to {most}", text.len())))
        };
        length("actor", &wish.actor, 256)?;
        length("reason", &wish.reason, 1_024)?;
        let ttl = span(wish.ttl, "override.ttl")?;
        if let Some(ttl) = ttl.filter(|ttl| ttl.is_zero() || *ttl > LONGEST) {
            return Err(invalid(format!("override.ttl is {ttl}, must be more than 0s, at most {LONGEST}")));
        }
        let mode = match Wire::try_from(wish.mode) {
            Ok(Wire::None) => return Ok(Wish::Free { actor: wish.actor, reason: wish.reason }),
            Ok(Wire::ForcedOpen) => Mode::ForcedOpen,
            Ok(Wire::Disabled) => Mode::Disabled,
            Ok(Wire::MetricsOnly) => Mode::MetricsOnly,
            Ok(Wire::Enforce) => Mode::Enforce,
            Ok(Wire::Unspecified) | Err(_) => {
                return Err(invalid(format!("override.mode is {}, must be one of its names", wish.mode)));
            }
        };
        let until = ttl.map(|ttl| now + ttl);
        Ok(Wish::Force(Forced { mode, until, actor: wish.actor, reason: wish.reason }))
    }
}

impl Forced {
    pub(super) fn to_wire(&self, now: Time) -> wire::Override {
        use wire::r#override::Mode as Wire;
        let mode = match self.mode {
            Mode::ForcedOpen => Wire::ForcedOpen,
            Mode::Disabled => Wire::Disabled,
            Mode::MetricsOnly => Wire::MetricsOnly,
            Mode::Enforce => Wire::Enforce,
        };
        wire::Override {
            mode: mode.into(),
            ttl: self.until.map(|until| duration(until - now)),
            actor: self.actor.clone(),
            reason: self.reason.clone(),
        }
    }

    pub(super) fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// How long it holds yet, as long as the core can be told.
    pub(super) fn ttl(&self, now: Time) -> Span {
        self.until.map_or(LONGEST, |until| until - now).min(LONGEST)
    }

    /// For the store, whose clock shows `stored_at` when ours shows `now`.
    pub(super) fn to_stored(&self, now: Time, stored_at: u64) -> String {
        let until = self.until.map(|until| stored_at + (until - now).as_micros());
        let stored = Stored { mode: self.mode, until, actor: &self.actor, reason: &self.reason };
        // texts, a number and a name: it cannot fail
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// From the store, whose clock shows `stored_at` when ours shows `now`. `None` if it makes no sense; one
    /// that is over is there, and does not hold.
    pub(super) fn from_stored(text: &str, now: Time, stored_at: u64) -> Option<Forced> {
        let stored: Stored<String> = serde_json::from_str(text).ok()?;
        let until = stored.until.map(|until| now + Span::from_micros(until.saturating_sub(stored_at)));
        Some(Forced { mode: stored.mode, until, actor: stored.actor, reason: stored.reason })
    }
}

#[derive(Deserialize, Serialize)]
struct Stored<T> {
    mode: Mode,
    /// The store's clock, microseconds.
    until: Option<u64>,
    actor: T,
    reason: T,
}

/// All circuits that are forced.
#[derive(Debug, Default)]
pub(super) struct Overrides(Mutex<HashMap<Key, Forced, RandomState>>);

impl Overrides {
    pub(super) fn get(&self, key: &Key, now: Time) -> Option<Forced> {
        self.lock().get(key).filter(|forced| forced.holds(now)).cloned()
    }

    /// Whether there is room for `key`.
    pub(super) fn has_room(&self, key: &Key, now: Time) -> bool {
        let mut all = self.lock();
        all.retain(|_, forced| forced.holds(now));
        all.len() < MOST || all.contains_key(key)
    }

    pub(super) fn set(&self, key: &Key, forced: Option<Forced>) {
        let mut all = self.lock();
        match forced {
            Some(forced) => drop(all.insert(key.clone(), forced)),
            None => drop(all.remove(key)),
        }
    }

    /// Takes these for all that there are. Returns the keys of those that are new, other or gone.
    pub(super) fn replace(&self, new: HashMap<Key, Forced, RandomState>) -> Vec<Key> {
        let mut all = self.lock();
        // the same end is read a little differently each time
        let same = |one: &Forced, other: &Forced| {
            let end = |forced: &Forced| forced.until.map(|until| until.as_micros() / 1_000_000);
            let near = match (end(one), end(other)) {
                (Some(one), Some(other)) => one.abs_diff(other) <= 1,
                (one, other) => one == other,
            };
            near && (one.mode, &one.actor, &one.reason) == (other.mode, &other.actor, &other.reason)
        };
        let gone = all.keys().filter(|key| !new.contains_key(*key)).cloned();
        let mut changed: Vec<Key> = gone.collect();
        let other = |(key, forced): &(&Key, &Forced)| !all.get(*key).is_some_and(|known| same(known, forced));
        changed.extend(new.iter().filter(other).map(|(key, _)| key.clone()));
        *all = new;
        changed
    }

    /// All that hold.
    pub(super) fn all(&self, now: Time) -> Vec<(Key, Forced)> {
        let all = self.lock();
        let holding = all.iter().filter(|(_, forced)| forced.holds(now));
        holding.map(|(key, forced)| (key.clone(), forced.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Forced, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(5_000_000);

    fn wish() -> wire::Override {
        wire::Override { mode: 2, ttl: None, actor: "ann".into(), reason: "drill".into() }
    }

    fn refused(wish: wire::Override) -> String {
        let status = Wish::read(Some(wish), NOW).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    fn forced(ttl: u64) -> Forced {
        let until = Some(NOW + Span::from_secs(ttl));
        Forced { mode: Mode::ForcedOpen, until, actor: "ann".into(), reason: "drill".into() }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(Wish::read(None, NOW).unwrap_err().message().starts_with("override is missing"));
        assert!(refused(wire::Override { mode: 0, ..wish() }).starts_with("override.mode is 0"));
        assert!(
            refused(wire::Override { actor: String::new(), ..wish() }).starts_with("override.actor has 0")
        );
        let reason = "x".repeat(1_025);
        assert!(refused(wire::Override { reason, ..wish() }).starts_with("override.reason has 1025"));
        for seconds in [-1, 0, 7 * 86_400 + 1] {
            let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
            assert!(refused(wire::Override { ttl, ..wish() }).starts_with("override.ttl is"), "{seconds}");
        }
    }

    #[test]
    fn a_stored_one_ends_by_the_clock_of_the_store() {
        let text = forced(60).to_stored(NOW, 1_000_000_000);
        // read by a server whose clock shows another time, 20 s later
        let read = Forced::from_stored(&text, Time::from_micros(77), 1_020_000_000).unwrap();
        assert_eq!(read.until, Some(Time::from_micros(77) + Span::from_secs(40)));
        assert!(!Forced::from_stored(&text, NOW, 2_000_000_000).unwrap().holds(NOW));
        assert_eq!(Forced::from_stored("{}", NOW, 0), None);
    }

    #[test]
    fn a_new_reading_tells_what_is_different() {
        let key = |target: &str| Key::new(["n", target, "", ""]).unwrap();
        let map = |all: Vec<(Key, Forced)>| all.into_iter().collect::<HashMap<_, _, _>>();
        let overrides = Overrides::default();
        let mut first = overrides.replace(map(vec![(key("a"), forced(60)), (key("b"), forced(60))]));
        first.sort();
        assert_eq!(first, [key("a"), key("b")]);
        let later = Forced { until: Some(NOW + Span::from_micros(60_400_000)), ..forced(60) };
        assert_eq!(overrides.replace(map(vec![(key("a"), later)])), [key("b")]);
        let other = Forced { mode: Mode::Disabled, ..forced(60) };
        assert_eq!(overrides.replace(map(vec![(key("a"), other)])), [key("a")]);
    }

    #[test]
    fn there_is_a_bound_and_what_is_over_makes_room() {
        let overrides = Overrides::default();
        let key = |number: usize| Key::new(["n", &format!("t{number}"), "", ""]).unwrap();
        for number in 0..MOST {
            overrides.set(&key(number), Some(forced(60)));
        }
        assert!(!overrides.has_room(&key(MOST), NOW) && overrides.has_room(&key(3), NOW));
        assert!(overrides.has_room(&key(MOST), NOW + Span::from_secs(61)));
    }
}
