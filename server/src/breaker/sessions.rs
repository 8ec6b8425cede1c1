//! Clients that have a stream to this server: which circuits each has named, who owns them, and what it was told last.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tollgate_core::time::Time;
use tollgate_proto::tollgate::v1 as wire;

use super::circuits::Listener;
use super::decode::Reporter;
use super::encode;
use super::key::Key;
use super::members::{Members, Owner};
use super::outbox::Outbox;
use crate::clock::{Clock as _, Steady};

/// Where a circuit of a client is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum At {
    /// No server has taken it yet.
    Nobody,
    /// Here.
    Me,
    /// At another server.
    Peer(Arc<str>),
}

impl At {
    pub(super) fn owner(owner: Owner<'_>) -> At {
        match owner {
            Owner::Me => At::Me,
            Owner::Peer(name) => At::Peer(name.into()),
        }
    }

    fn is(&self, owner: Owner<'_>) -> bool {
        match (self, owner) {
            (At::Me, Owner::Me) => true,
            (At::Peer(one), Owner::Peer(other)) => **one == *other,
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Place {
    at: At,
    told: Option<(wire::Directive, Time)>,
}

/// How a circuit came to its place.
#[derive(Debug)]
pub(super) struct Placed {
    /// Where it was before, if it was elsewhere.
    pub(super) from: Option<At>,
    /// What the client believes of it, for a new owner.
    pub(super) claim: Option<wire::Claim>,
}

/// One client.
pub(super) struct Session {
    /// Unique on this server.
    pub(super) number: u64,
    pub(super) reporter: Reporter,
    pub(super) out: Outbox<Key, wire::Directive>,
    places: Mutex<HashMap<Key, Place, RandomState>>,
    clock: Steady,
}

impl Session {
    fn new(number: u64, reporter: Reporter, clock: Steady) -> Session {
        Session { number, reporter, out: Outbox::new(), places: Mutex::default(), clock }
    }

    /// Puts a circuit where its owner is. `None` if the client has named `most` others.
    pub(super) fn place(&self, key: &Key, at: &At, most: usize) -> Option<Placed> {
        let mut places = self.lock();
        if places.len() >= most && !places.contains_key(key) {
            return None;
        }
        let place = places.entry(key.clone()).or_insert(Place { at: At::Nobody, told: None });
        if place.at == *at {
            return Some(Placed { from: None, claim: None });
        }
        let from = std::mem::replace(&mut place.at, at.clone());
        let claim =
            place.told.as_ref().and_then(|(told, when)| encode::claim(told, self.clock.now() - *when));
        Some(Placed { from: Some(from), claim })
    }

    /// The circuit is with nobody, if it was at `at`.
    pub(super) fn unplace(&self, key: &Key, at: &At) {
        if let Some(place) = self.lock().get_mut(key).filter(|place| place.at == *at) {
            place.at = At::Nobody;
        }
    }

    /// All circuits that are at `at` are with nobody.
    pub(super) fn unplace_all(&self, at: &At) {
        self.lock().values_mut().filter(|place| place.at == *at).for_each(|place| place.at = At::Nobody);
    }

    /// The client does not want to hear of it any more. Where it was.
    pub(super) fn forget(&self, key: &Key) -> Option<At> {
        let at = self.lock().remove(key).map(|place| place.at);
        self.out.forget(key);
        at
    }

    /// Circuits that are not where they belong.
    pub(super) fn misplaced(&self, members: &Members) -> Vec<Key> {
        let places = self.lock();
        let wrong = places.iter().filter(|(key, place)| !place.at.is(members.owner(key)));
        wrong.map(|(key, _)| key.clone()).collect()
    }

    /// Everything it has named, and where that is; then nothing.
    pub(super) fn take_places(&self) -> Vec<(Key, At)> {
        self.lock().drain().map(|(key, place)| (key, place.at)).collect()
    }

    /// Whether another server may still speak for the circuit.
    pub(super) fn is_at(&self, key: &Key, at: &At) -> bool {
        self.lock().get(key).is_some_and(|place| place.at == *at)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Place, RandomState>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Session {
    fn told(&self, key: &Key, directive: wire::Directive) {
        let mut places = self.lock();
        // it may have gone, or a newer owner may have spoken
        let Some(place) = places.get_mut(key) else { return };
        let epoch =
            |directive: &wire::Directive| directive.epoch.map(|epoch| (epoch.incarnation, epoch.counter));
        if place.told.as_ref().is_some_and(|(told, _)| epoch(told) > epoch(&directive)) {
            return;
        }
        place.told = Some((directive.clone(), self.clock.now()));
        self.out.put(key.clone(), directive);
    }

    fn lost(&self, key: &Key) {
        self.unplace(key, &At::Me);
    }
}

/// All clients that have a stream to this server.
pub(super) struct Sessions {
    all: Mutex<HashMap<u64, Arc<Session>, RandomState>>,
    last: AtomicU64,
    clock: Steady,
}

impl Sessions {
    pub(super) fn new(clock: Steady) -> Sessions {
        Sessions { all: Mutex::default(), last: AtomicU64::new(0), clock }
    }

    /// A number that nobody had before.
    pub(super) fn number(&self) -> u64 {
        self.last.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn begin(&self, reporter: Reporter) -> Arc<Session> {
        let session = Arc::new(Session::new(self.number(), reporter, self.clock));
        self.lock().insert(session.number, session.clone());
        session
    }

    pub(super) fn end(&self, number: u64) {
        self.lock().remove(&number);
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Session>> {
        self.lock().get(&number).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>, RandomState>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::decode::reporter;

    fn session() -> Arc<Session> {
        let clock = Steady::new(Time::from_micros(1_000_000));
        let wire = wire::Reporter { id: b"r".to_vec(), ..Default::default() };
        Sessions::new(clock).begin(reporter(Some(wire)).unwrap())
    }

    fn key(target: &str) -> Key {
        Key::new(["n", target, "", ""]).unwrap()
    }

    fn directive(incarnation: u64, counter: u64) -> wire::Directive {
        wire::Directive {
            key: Some(key("a").to_wire()),
            epoch: Some(wire::Epoch { incarnation, counter }),
            state: wire::CircuitState::Open.into(),
            lease: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_moves_takes_along_what_it_was_told() {
        let session = session();
        let placed = session.place(&key("a"), &At::Me, 9).unwrap();
        assert!(placed.from == Some(At::Nobody) && placed.claim.is_none());
        session.told(&key("a"), directive(1, 2));
        tokio::time::advance(std::time::Duration::from_secs(4)).await;
        assert!(session.place(&key("a"), &At::Me, 9).unwrap().from.is_none());
        let placed = session.place(&key("a"), &At::Peer("b".into()), 9).unwrap();
        let claim = placed.claim.unwrap();
        assert_eq!((placed.from, claim.lease.unwrap().seconds), (Some(At::Me), 6));
        tokio::time::advance(std::time::Duration::from_secs(7)).await;
        assert!(session.place(&key("a"), &At::Me, 9).unwrap().claim.is_none(), "its lease is over");
    }

    #[tokio::test]
    async fn an_owner_of_before_is_not_heard_any_more() {
        let session = session();
        session.place(&key("a"), &At::Me, 9);
        session.told(&key("a"), directive(2, 1));
        session.told(&key("a"), directive(1, 9));
        let claim = session.place(&key("a"), &At::Nobody, 9).unwrap().claim.unwrap();
        assert_eq!(claim.epoch.unwrap().incarnation, 2);
    }

    #[tokio::test]
    async fn a_client_names_so_many_circuits_and_no_more() {
        let session = session();
        assert!(
            session.place(&key("a"), &At::Me, 1).is_some() && session.place(&key("a"), &At::Me, 1).is_some()
        );
        assert!(session.place(&key("b"), &At::Me, 1).is_none());
        assert_eq!(session.forget(&key("a")), Some(At::Me));
        assert!(session.place(&key("b"), &At::Me, 1).is_some());
    }
}
