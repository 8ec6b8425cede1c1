//! One circuit, who listens to it, and what follows from its events.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState as Chance};
use std::sync::Arc;

use foldhash::fast::RandomState;
use tollgate_core::breaker::fleet::{
    Circuit, Claim, Event, FleetState, OverrideMode, Reason, Report, ReporterId,
};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as wire;

use super::super::counts::Counts;
use super::super::decode::{Reporter, Said};
use super::super::encode::{core_override, directive, explain, reason_name, state_name};
use super::super::key::Key;
use super::super::overrides::{Forced, Mode};
use super::super::policy::Ruled;
use super::{Caller, Listener, concerns};

/// Claims of owners whose clock is further ahead than this are lies.
const FAR: Span = Span::from_secs(86_400);
/// Pause before a look that cannot be due yet.
const SOON: Span = Span::from_millis(20);
/// Most reporters whose faults are named.
const MOST_FAULTS: usize = 100;

/// One circuit.
pub(super) struct Entry {
    pub(super) circuit: Circuit,
    pub(super) ruled: Ruled,
    listening: HashMap<u64, Watcher, RandomState>,
    /// When it is looked at next; the same as in the shard's list.
    pub(super) wake: Time,
    /// When somebody last said something.
    pub(super) touched: Time,
    opened: Time,
    /// When those who listen are looked at next: whose lease is half over is told again.
    renew: Time,
    pub(super) would_open: bool,
    /// Why it is in its state, in words; empty before the first change.
    reason: String,
    /// Until when it judges although it is configured not to.
    enforced_until: Option<Time>,
    /// Reporters that fail while the others do not, as they call themselves.
    pub(super) faults: BTreeMap<ReporterId, Vec<u8>>,
}

/// Whoever listens.
struct Watcher {
    reporter: Reporter,
    listener: Arc<dyn Listener>,
    /// When it last got a directive.
    told: Time,
    /// What it believed when it came.
    claim: Option<Claim>,
}

/// The incarnation of a circuit that is opened at `now`: higher than what is `claimed` of an earlier one, even
/// if its owner's clock was ahead of ours.
pub(super) fn incarnation(now: Time, claimed: Option<u64>) -> u64 {
    let believable = claimed.filter(|claimed| *claimed < (now + FAR).as_micros());
    now.as_micros().max(believable.unwrap_or_default() + 1)
}

/// A number that nobody can guess; the standard library's hasher is keyed by the system's randomness.
pub(super) fn chance() -> u64 {
    Chance::new().hash_one(0)
}

impl Entry {
    pub(super) fn new(circuit: Circuit, ruled: Ruled, now: Time) -> Entry {
        Entry {
            circuit,
            ruled,
            listening: HashMap::default(),
            wake: Time::MAX,
            touched: now,
            opened: now,
            renew: Time::MAX,
            would_open: false,
            reason: String::new(),
            enforced_until: None,
            faults: BTreeMap::new(),
        }
    }

    pub(super) fn listen(&mut self, number: u64, reporter: &Reporter, listener: &Arc<dyn Listener>) {
        self.listening.entry(number).or_insert_with(|| Watcher {
            reporter: reporter.clone(),
            listener: listener.clone(),
            told: Time::EPOCH,
            claim: None,
        });
    }

    pub(super) fn unlisten(&mut self, number: u64) {
        self.listening.remove(&number);
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = &Arc<dyn Listener>> {
        self.listening.values().map(|watcher| &watcher.listener)
    }

    /// Takes what a reporter says.
    pub(super) fn hear(&mut self, now: Time, caller: Caller<'_>, said: &[Said], events: &mut Vec<Event>) {
        let (from, mut claim) = (caller.reporter, None);
        for said in said {
            if let Said::Believes(believed, _) = said {
                self.outlive(now, believed);
                claim = Some(*believed);
            }
        }
        let claim = self.remember(caller, claim);
        let mut reported = false;
        for said in said {
            let Said::Happened(delta, _) = said else { continue };
            // the core takes the latest word of a reporter for its claim, and a delta without one for "closed"
            let delta = tollgate_core::breaker::fleet::Delta { claim, ..(**delta).clone() };
            let report = Report { reporter: from.id, incarnation: from.wire.incarnation, delta };
            events.extend(self.circuit.report(now, &report));
            reported = true;
        }
        if let Some(claim) = claim.filter(|_| !reported) {
            events.extend(self.circuit.adopt(now, &[(from.id, claim)]));
        }
        events.extend(self.circuit.tick(now));
        let blames =
            |event: &Event| matches!(event, Event::LocalFault { reporter, .. } if *reporter == from.id);
        let blamed = events.iter().any(blames);
        if blamed && self.faults.len() < MOST_FAULTS {
            self.faults.insert(from.id, from.wire.id.clone());
        }
    }

    /// The claim of a listening reporter, until the circuit has made up its mind.
    fn remember(&mut self, caller: Caller<'_>, claim: Option<Claim>) -> Option<Claim> {
        let watcher = caller.listens.and_then(|(number, _)| self.listening.get_mut(&number));
        let Some(watcher) = watcher else { return claim };
        watcher.claim = claim.or(watcher.claim);
        watcher.claim
    }

    /// If an earlier owner's clock was ahead of ours, its clients would not obey: as long as that can be, the
    /// circuit begins anew above the claimed epoch.
    fn outlive(&mut self, now: Time, claim: &Claim) {
        let (ours, theirs) = (self.circuit.epoch().incarnation, claim.epoch.incarnation);
        let lease = self.ruled.configured.settings().lease;
        if theirs < ours || now >= self.opened + lease || theirs >= (now + FAR).as_micros() {
            return;
        }
        let incarnation = incarnation(now, Some(theirs));
        self.circuit = Circuit::adopting(self.ruled.configured.clone(), incarnation, chance(), now);
        let claims =
            self.listening.values().filter_map(|watcher| Some((watcher.reporter.id, watcher.claim?)));
        let claims: Vec<(ReporterId, Claim)> = claims.collect();
        // a circuit that has just begun to listen says nothing
        let _silent = self.circuit.adopt(now, &claims);
    }

    /// What `caller` should do now.
    pub(super) fn answer(&mut self, now: Time, key: &Key, caller: Caller<'_>) -> Option<wire::Directive> {
        let told = self.directive(now, key, caller.reporter.id)?;
        if let Some((number, _)) = caller.listens
            && let Some(watcher) = self.listening.get_mut(&number)
        {
            watcher.told = now;
        }
        Some(told)
    }

    fn directive(&mut self, now: Time, key: &Key, reporter: ReporterId) -> Option<wire::Directive> {
        let told = self.circuit.directive_for(now, reporter)?;
        Some(directive(key, &told, self.would_open, &self.reason))
    }

    /// Does what time alone does.
    pub(super) fn tick(&mut self, now: Time, key: &Key, events: &mut Vec<Event>) {
        if self.enforced_until.is_some_and(|until| until <= now) {
            self.enforced_until = None;
            events.extend(self.circuit.configure(now, self.ruled.configured.clone()));
        }
        events.extend(self.circuit.tick(now));
        if self.renew <= now {
            self.renew = Time::MAX;
            let half = self.quarter_lease();
            self.tell(now, key, |watcher| watcher.told + half <= now);
        }
    }

    /// Forces it, or ends that.
    pub(super) fn force(&mut self, now: Time, forced: Option<&Forced>, events: &mut Vec<Event>) {
        let mode = match forced.map(|forced| forced.mode) {
            Some(Mode::ForcedOpen) => Some(OverrideMode::ForcedOpen),
            Some(Mode::Disabled) => Some(OverrideMode::Disabled),
            Some(Mode::MetricsOnly) => Some(OverrideMode::MetricsOnly),
            Some(Mode::Enforce) | None => None,
        };
        let enforced = forced.filter(|forced| forced.mode == Mode::Enforce);
        self.enforced_until = enforced.map(|forced| now + forced.ttl(now));
        let config = if enforced.is_some() { &self.ruled.enforcing } else { &self.ruled.configured };
        match mode.zip(forced) {
            Some((mode, forced)) => {
                let set = self.circuit.set_override(now, core_override(mode, forced.ttl(now), forced));
                // its texts were checked when it was read; an end that has come is none
                events.extend(set.unwrap_or_default());
            }
            None => events.extend(self.circuit.clear_override(now)),
        }
        events.extend(self.circuit.configure(now, config.clone()));
    }

    /// Whether an override has ended by its own time.
    pub(super) fn has_lost_its_override(&self, events: &[Event]) -> bool {
        let expired = |event: &Event| matches!(event, Event::Changed { reason: Reason::OverrideExpired, .. });
        events.iter().any(expired)
    }

    /// Counts, logs and tells what has happened.
    pub(super) fn spread(&mut self, now: Time, key: &Key, events: &[Event], counts: &Counts) {
        for event in events {
            self.note(now, key, event, counts);
        }
        if !events.is_empty() {
            self.tell(now, key, |watcher| concerns(events, watcher.reporter.id));
        }
    }

    fn note(&mut self, now: Time, key: &Key, event: &Event, counts: &Counts) {
        match event {
            Event::Changed { from, to, reason, epoch, .. } => {
                self.would_open = false;
                let (from, to) = (state_name(*from), state_name(*to));
                counts.changed(from, to, reason_name(reason));
                let why = explain(reason);
                counts.history.note(now, key, (from, to), &why);
                tracing::info!(circuit = %key, from, to, epoch = epoch.counter, "circuit has changed: {why}");
                self.reason = why;
            }
            Event::WouldTrip { reason } => {
                self.would_open = true;
                counts.changed("metrics_only", "would_open", reason_name(reason));
                self.reason = explain(reason);
                counts.history.note(now, key, ("metrics_only", "would_open"), &self.reason);
                tracing::info!(circuit = %key, "circuit would open: {}", self.reason);
            }
            Event::WouldRecover => {
                self.would_open = false;
                counts.changed("would_open", "metrics_only", "recovered");
                counts.history.note(now, key, ("would_open", "metrics_only"), "recovered");
            }
            Event::LocalFault { reporter, judged, failures } => {
                counts.local_fault();
                let name = self.name_of(*reporter);
                if self.faults.len() < MOST_FAULTS {
                    self.faults.entry(*reporter).or_insert_with(|| name.clone());
                }
                let name = String::from_utf8_lossy(&name).into_owned();
                tracing::warn!(circuit = %key, reporter = name, judged, failures, "only this reporter fails");
            }
            Event::LocalFaultOver { reporter } => drop(self.faults.remove(reporter)),
            Event::AdmitChanged { .. } | Event::PermitsAssigned { .. } => {}
        }
    }

    /// As a reporter calls itself; if it does not listen and said nothing just now, our number for it.
    fn name_of(&self, reporter: ReporterId) -> Vec<u8> {
        let mut watchers = self.listening.values().filter(|watcher| watcher.reporter.id == reporter);
        let known = self.faults.get(&reporter);
        let name = watchers.next().map(|watcher| watcher.reporter.wire.id.clone()).or_else(|| known.cloned());
        name.unwrap_or_else(|| format!("{:016x}", reporter.0).into_bytes())
    }

    /// Tells those who listen, and of whom `whom` says so, what to do.
    fn tell(&mut self, now: Time, key: &Key, whom: impl Fn(&Watcher) -> bool) {
        for watcher in self.listening.values_mut().filter(|watcher| whom(watcher)) {
            let Some(told) = self.circuit.directive_for(now, watcher.reporter.id) else { continue };
            watcher.listener.told(key, directive(key, &told, self.would_open, &self.reason));
            watcher.told = now;
        }
    }

    /// When it wants to be looked at.
    pub(super) fn next_wake(&mut self, now: Time) -> Time {
        if self.listening.is_empty() {
            self.renew = Time::MAX;
        } else if self.renew == Time::MAX {
            self.renew = now + self.quarter_lease();
        }
        let core = self.circuit.next_wake();
        let next = [Some(self.renew), self.enforced_until, core].into_iter().flatten().min();
        // what is overdue although it was just looked at has to wait: it would keep the timer busy
        next.map_or(Time::MAX, |next| if next <= now { now + SOON } else { next })
    }

    /// Every quarter of a lease those are told who were not for as long: none waits for more than half.
    fn quarter_lease(&self) -> Span {
        Span::from_micros(self.ruled.configured.settings().lease.as_micros() / 4)
    }

    /// Whether nobody would miss it.
    pub(super) fn is_idle(&self, now: Time, idle: Span) -> bool {
        let rests = matches!(self.circuit.state(), FleetState::Closed | FleetState::MetricsOnly);
        // what does not rest is of use until the clients' leases are over
        let idle = if rests { idle } else { idle + self.ruled.configured.settings().open_max };
        self.listening.is_empty() && self.touched + idle <= now
    }
}
