//! The circuits that this server owns, and who listens to each.
//!
//! Reports come in on every worker and timers fire on the control thread. A circuit is a value that takes
//! microseconds to step, so it sits behind a lock rather than with an actor of its own: a report and its answer
//! then need no hop between threads, and the locks are divided by key, so that two circuits seldom meet. No lock
//! is held over an await; one hot circuit costs its lock for as long as the core takes, which any single owner
//! would cost too.

mod entry;
mod show;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tollgate_core::breaker::fleet::{Circuit, Event, ReporterId};
use tollgate_core::load::random::mix64;
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as wire;

use self::entry::Entry;
pub(super) use self::show::Page;
use super::counts::Counts;
use super::decode::{Reporter, Said};
use super::key::Key;
use super::overrides::{Forced, Overrides};
use super::policy::Policy;

/// Locks; circuits are spread over them by their keys.
const SHARDS: usize = 16;
/// A circuit at rest that nobody watches or reports on is forgotten after this.
const IDLE: Span = Span::from_secs(120);
/// Circuits that one turn of the timer steps under one lock, before others have their turn.
const TURN: usize = 64;

/// Whoever is told what to do about circuits.
pub(super) trait Listener: Send + Sync {
    /// There is a new directive.
    fn told(&self, key: &Key, directive: wire::Directive);
    /// This server does not own the circuit any more.
    fn lost(&self, key: &Key);
}

/// Whoever says something.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) reporter: &'a Reporter,
    /// Its number and its ear, if it wants to hear of the circuit from now on.
    pub(super) listens: Option<(u64, &'a Arc<dyn Listener>)>,
}

/// The circuits of this server.
pub(super) struct Circuits {
    shards: Box<[Mutex<Shard>]>,
    pub(super) policy: Policy,
    pub(super) overrides: Overrides,
    counts: Arc<Counts>,
    most: usize,
    kept: AtomicUsize,
    /// When the servers were last other ones: until leases from before are over, a new circuit listens first.
    moved: AtomicU64,
    /// When the timer will look next; an earlier wake has to call it.
    next_look: AtomicU64,
    earlier: Notify,
    /// Clients report no more often than this, microseconds.
    report_floor: AtomicU64,
}

#[derive(Default)]
struct Shard {
    circuits: HashMap<Key, Entry, RandomState>,
    wakes: BTreeSet<(Time, Key)>,
}

impl Circuits {
    /// No circuit yet, and at most `most`. The server starts at `now`.
    pub(super) fn new(policy: Policy, most: usize, counts: Arc<Counts>, now: Time) -> Circuits {
        Circuits {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            policy,
            overrides: Overrides::default(),
            counts,
            most,
            kept: AtomicUsize::new(0),
            moved: AtomicU64::new(now.as_micros()),
            next_look: AtomicU64::new(u64::MAX),
            earlier: Notify::new(),
            report_floor: AtomicU64::new(0),
        }
    }

    /// Asks clients to report no more often than `floor`, as each circuit is next spoken of; zero ends it.
    pub(super) fn set_report_floor(&self, floor: Span) {
        self.report_floor.store(floor.as_micros(), Relaxed);
    }

    /// Takes what a client says of a circuit. The answer is what it should do; `None` if there is nothing to
    /// say (yet), or the circuit is not kept.
    pub(super) fn hear(
        &self,
        now: Time,
        key: &Key,
        caller: Caller<'_>,
        said: &[Said],
    ) -> Option<wire::Directive> {
        self.with(now, key, said, |entry, events| {
            if let Some((number, listener)) = caller.listens {
                entry.listen(number, caller.reporter, listener);
            }
            entry.hear(now, caller, said, events);
            entry.touched = now;
            entry.answer(now, key, caller)
        })?
    }

    /// Asks for a permit for a probe; it is in the answer if there is one.
    pub(super) fn acquire_probe(&self, now: Time, key: &Key, caller: Caller<'_>) -> Option<wire::Directive> {
        self.with(now, key, &[], |entry, events| {
            events.extend(entry.circuit.tick(now));
            let permit = entry.circuit.acquire_probe(now, caller.reporter.id);
            entry.touched = now;
            let mut directive = entry.answer(now, key, caller)?;
            directive.permits = permit.iter().map(super::encode::permit).collect();
            Some(directive)
        })?
    }

    /// The client of that number listens no more.
    pub(super) fn unlisten(&self, now: Time, key: &Key, number: u64) {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.circuits.get_mut(key) {
            entry.unlisten(number);
            entry.touched = now;
        }
    }

    /// Forces a circuit, or ends that with `None`; one that nobody has reported on yet is made. `None` if
    /// it is not kept.
    pub(super) fn force(&self, now: Time, key: &Key, forced: Option<&Forced>) -> Option<()> {
        self.overrides.set(key, forced.cloned());
        if forced.is_none() && !self.shard(key).circuits.contains_key(key) {
            return Some(());
        }
        self.with(now, key, &[], |entry, events| entry.force(now, forced, events))
    }

    /// The servers are other ones now: drops the circuits that are not `mine` any more.
    pub(super) fn release(&self, now: Time, mine: impl Fn(&Key) -> bool) {
        self.moved.store(now.as_micros(), Relaxed);
        for shard in &self.shards {
            let shard = &mut *lock(shard);
            let gone = shard.circuits.extract_if(|key, _| !mine(key));
            for (key, entry) in gone {
                self.kept.fetch_sub(1, Relaxed);
                shard.wakes.remove(&(entry.wake, key.clone()));
                self.counts.retire(&entry.circuit.snapshot(now).totals);
                entry.listeners().for_each(|listener| listener.lost(&key));
            }
        }
    }

    /// Does what is due. Returns when it wants to be called again.
    pub(super) fn tick(&self, now: Time) -> Option<Time> {
        // whatever comes up while we look has to call again
        self.next_look.store(u64::MAX, SeqCst);
        // every shard has its turn before the earliest wake is known
        let wakes: Vec<Option<Time>> = self.shards.iter().map(|shard| self.tick_shard(shard, now)).collect();
        let next = wakes.into_iter().flatten().min();
        self.next_look.store(next.map_or(u64::MAX, Time::as_micros), SeqCst);
        next
    }

    fn tick_shard(&self, shard: &Mutex<Shard>, now: Time) -> Option<Time> {
        loop {
            let shard = &mut *lock(shard);
            let due = shard.wakes.iter().take_while(|(wake, _)| *wake <= now).take(TURN);
            let due: Vec<(Time, Key)> = due.cloned().collect();
            for (_, key) in &due {
                self.step(shard, now, key, |entry, events| entry.tick(now, key, events));
            }
            if due.len() < TURN {
                return shard.wakes.first().map(|(wake, _)| *wake);
            }
        }
    }

    /// Waits until something is due earlier than the last [`Circuits::tick`] knew.
    pub(super) async fn earlier(&self) {
        self.earlier.notified().await;
    }

    /// Forgets circuits that are of no use to anybody.
    pub(super) fn sweep(&self, now: Time) {
        for shard in &self.shards {
            self.sweep_shard(&mut lock(shard), now, IDLE);
        }
    }

    fn sweep_shard(&self, shard: &mut Shard, now: Time, idle: Span) {
        let forced = |key: &Key| self.overrides.get(key, now).is_some();
        let gone = shard.circuits.extract_if(|key, entry| entry.is_idle(now, idle) && !forced(key));
        for (key, entry) in gone {
            self.kept.fetch_sub(1, Relaxed);
            self.counts.retire(&entry.circuit.snapshot(now).totals);
            shard.wakes.remove(&(entry.wake, key));
        }
    }

    /// Does `work` with the circuit of `key`, which is made if need be, and everything that follows from it.
    /// `None` if it is not kept.
    fn with<R>(
        &self,
        now: Time,
        key: &Key,
        said: &[Said],
        work: impl FnOnce(&mut Entry, &mut Vec<Event>) -> R,
    ) -> Option<R> {
        let shard = &mut *self.shard(key);
        if !shard.circuits.contains_key(key) {
            self.open(shard, now, key, said)?;
        }
        self.step(shard, now, key, work)
    }

    fn step<R>(
        &self,
        shard: &mut Shard,
        now: Time,
        key: &Key,
        work: impl FnOnce(&mut Entry, &mut Vec<Event>) -> R,
    ) -> Option<R> {
        let Shard { circuits, wakes } = shard;
        let entry = circuits.get_mut(key)?;
        entry.circuit.set_report_interval_floor(Span::from_micros(self.report_floor.load(Relaxed)));
        let mut events = Vec::new();
        let result = work(entry, &mut events);
        if entry.has_lost_its_override(&events)
            && let Some(forced) = self.overrides.get(key, now)
        {
            // the core forgets in a week what a person may want for longer
            entry.force(now, Some(&forced), &mut events);
        }
        entry.spread(now, key, &events, &self.counts);
        let wake = entry.next_wake(now);
        if wake != entry.wake {
            wakes.remove(&(entry.wake, key.clone()));
            wakes.insert((wake, key.clone()));
            entry.wake = wake;
            if wake.as_micros() < self.next_look.load(SeqCst) {
                self.earlier.notify_one();
            }
        }
        Some(result)
    }

    fn open(&self, shard: &mut Shard, now: Time, key: &Key, said: &[Said]) -> Option<()> {
        let ruled = self.policy.of(key)?;
        if self.kept.load(Relaxed) >= self.most {
            // those that rest and that nobody watches make room early
            self.sweep_shard(shard, now, Span::ZERO);
        }
        if self.kept.fetch_add(1, Relaxed) >= self.most {
            self.kept.fetch_sub(1, Relaxed);
            self.counts.full();
            return None;
        }
        let claimed = said.iter().filter_map(|said| match said {
            Said::Believes(claim, _) => Some(claim.epoch.incarnation),
            _ => None,
        });
        let claimed = claimed.max().filter(|incarnation| *incarnation > 0);
        let moved = Time::from_micros(self.moved.load(Relaxed));
        let had_an_owner = claimed.is_some() || now < moved + self.policy.longest_lease();
        let incarnation = entry::incarnation(now, claimed);
        let seed = mix64(key.stable_hash() ^ now.as_micros() ^ entry::chance());
        let make = if had_an_owner { Circuit::adopting } else { Circuit::new };
        let circuit = make(ruled.configured.clone(), incarnation, seed, now);
        let mut entry = Entry::new(circuit, ruled.clone(), now);
        if let Some(forced) = self.overrides.get(key, now) {
            let mut events = Vec::new();
            entry.force(now, Some(&forced), &mut events);
            entry.spread(now, key, &events, &self.counts);
        }
        shard.circuits.insert(key.clone(), entry);
        Some(())
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "it is below the number of shards")]
        let shard = (key.stable_hash() % SHARDS as u64) as usize;
        lock(&self.shards[shard])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `events` say something to `reporter`.
fn concerns(events: &[Event], reporter: ReporterId) -> bool {
    events.iter().any(|event| match event {
        Event::Changed { .. }
        | Event::AdmitChanged { .. }
        | Event::WouldTrip { .. }
        | Event::WouldRecover => true,
        Event::PermitsAssigned { to } => to.contains(&reporter),
        Event::LocalFault { .. } | Event::LocalFaultOver { .. } => false,
    })
}

#[cfg(test)]
mod tests;
