//! What the task knows of every circuit: when to look at it, what was sent and not acknowledged.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use tollgate_core::breaker::fleet::{Epoch, FleetState, ViewSnapshot};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as proto;

use super::gate::Gate;
use super::key::FleetKey;
use super::link::{GAP, Notice};
use super::stats::Stats;
use super::wire::{self, Numbers};
use crate::clock::{Clock, SystemClock, span};

/// Circuits that go into one message.
const TOGETHER: usize = 256;
/// After a report the circuit is looked at once more, so that a busy one need not send a notice each time.
const AGAIN: Span = Span::SECOND;
/// Reports without an answer before a circuit is reported on less often: the server does not keep it.
const PATIENCE: u32 = 4;
/// A circuit that the server does not answer for is reported on at least this often.
const SELDOM: Span = Span::from_secs(30);

#[derive(Debug)]
struct Slot {
    gate: Weak<Gate>,
    key: FleetKey,
    numbers: Numbers,
    /// In `looks`, if there is one.
    look: Option<Time>,
    /// In `lapses`, if there is one.
    lapse: Option<Time>,
    /// Until when the circuit is open, as it was told.
    open: (Epoch, Time),
    /// Reports since the last directive.
    unanswered: u32,
    not_before: Time,
}

/// All circuits of a client. Times are the task's.
#[derive(Debug)]
pub(super) struct Book {
    slots: HashMap<u64, Slot, RandomState>,
    numbers: HashMap<FleetKey, u64, RandomState>,
    looks: BTreeSet<(Time, u64)>,
    lapses: BTreeSet<(Time, u64)>,
    /// The highest number that a circuit which is gone has used. The server remembers it: a new one under the
    /// same name goes on from there.
    used: u64,
    watch: Vec<FleetKey>,
    unwatch: Vec<FleetKey>,
    asks: Vec<u64>,
    /// Whether permits are asked for one by one.
    may_ask: bool,
    stats: Arc<Stats>,
}

/// What there is to say.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) deltas: Vec<proto::OutcomeDelta>,
    pub(super) claims: Vec<proto::Claim>,
    pub(super) watch: Vec<proto::CircuitKey>,
    pub(super) unwatch: Vec<proto::CircuitKey>,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.deltas.is_empty() && self.claims.is_empty() && self.watch.is_empty() && self.unwatch.is_empty()
    }

    /// The message, of `reporter` if it has to be said who that is.
    pub(super) fn request(self, reporter: Option<proto::Reporter>) -> proto::SyncRequest {
        let Batch { deltas, claims, watch, unwatch } = self;
        proto::SyncRequest { reporter, deltas, claims, watch, unwatch }
    }
}

impl Book {
    pub(super) fn new(stats: Arc<Stats>, may_ask: bool) -> Book {
        Book {
            slots: HashMap::default(),
            numbers: HashMap::default(),
            looks: BTreeSet::new(),
            lapses: BTreeSet::new(),
            used: 0,
            watch: Vec::new(),
            unwatch: Vec::new(),
            asks: Vec::new(),
            may_ask,
            stats,
        }
    }

    /// When something is due to be said.
    pub(super) fn next_look(&self) -> Option<Time> {
        if !self.unwatch.is_empty() || !self.asks.is_empty() {
            return Some(Time::EPOCH);
        }
        self.looks.first().map(|(look, _)| *look)
    }

    /// When the first lease runs out that matters.
    pub(super) fn next_lapse(&self) -> Option<Time> {
        self.lapses.first().map(|(lapse, _)| *lapse)
    }

    pub(super) fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Born(gate) => self.add(&gate),
            Notice::Look(number) => {
                if let Some(gate) = self.gate(number) {
                    gate.heard();
                    self.plan(number, &gate, SystemClock.now());
                }
            }
            Notice::Ask(number) if self.may_ask && !self.asks.contains(&number) => self.asks.push(number),
            Notice::Ask(_) => {}
            Notice::Gone(number) => self.remove(number),
        }
    }

    fn add(&mut self, weak: &Weak<Gate>) {
        let Some(gate) = weak.upgrade() else { return };
        let (number, key) = (gate.number, gate.key.clone());
        let before = self.numbers.get(&key).and_then(|before| self.slots.get(before));
        self.used = self.used.max(before.map_or(0, |before| before.numbers.last()));
        let slot = Slot {
            gate: weak.clone(),
            key: key.clone(),
            numbers: Numbers::above(self.used),
            look: None,
            lapse: None,
            open: (Epoch::default(), Time::EPOCH),
            unanswered: 0,
            not_before: Time::EPOCH,
        };
        self.slots.insert(number, slot);
        self.numbers.insert(key.clone(), number);
        self.watch.push(key);
        self.look(number, Some(Time::EPOCH));
    }

    fn remove(&mut self, number: u64) {
        self.look(number, None);
        self.set_lapse(number, None);
        let Some(slot) = self.slots.remove(&number) else { return };
        self.used = self.used.max(slot.numbers.last());
        // another circuit may have been made under the same name meanwhile
        if self.numbers.get(&slot.key) == Some(&number) {
            self.numbers.remove(&slot.key);
            self.unwatch.push(slot.key);
        }
    }

    fn gate(&self, number: u64) -> Option<Arc<Gate>> {
        self.slots.get(&number)?.gate.upgrade()
    }

    fn look(&mut self, number: u64, at: Option<Time>) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        if let Some(before) = std::mem::replace(&mut slot.look, at) {
            self.looks.remove(&(before, number));
        }
        self.looks.extend(at.map(|at| (at, number)));
    }

    fn set_lapse(&mut self, number: u64, at: Option<Time>) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        if let Some(before) = std::mem::replace(&mut slot.lapse, at) {
            self.lapses.remove(&(before, number));
        }
        self.lapses.extend(at.map(|at| (at, number)));
    }

    /// Looks at the circuit again when its view has something to say.
    fn plan(&mut self, number: u64, gate: &Gate, now: Time) {
        let here = gate.now();
        let due = gate.view.flush_due(here);
        let not_before = self.slots.get(&number).map_or(Time::EPOCH, |slot| slot.not_before);
        let at = (due != Time::MAX).then(|| (now + (due - here)).max(not_before));
        self.look(number, at);
        if at.is_none() {
            self.let_rest(number, gate, now);
        }
    }

    /// Nothing is due until a call says so.
    fn let_rest(&mut self, number: u64, gate: &Gate, now: Time) {
        if !gate.rest() {
            gate.wake();
            self.look(number, Some(now));
        }
    }

    /// What is due now, of a number of circuits; call it until it is empty.
    pub(super) fn due(&mut self, now: Time) -> Batch {
        let mut batch = Batch {
            watch: self.watch.drain(..self.watch.len().min(TOGETHER)).map(|key| key.to_wire()).collect(),
            unwatch: self
                .unwatch
                .drain(..self.unwatch.len().min(TOGETHER))
                .map(|key| key.to_wire())
                .collect(),
            ..Batch::default()
        };
        let due = self.looks.iter().take_while(|(look, _)| *look <= now).take(TOGETHER);
        let due: Vec<u64> = due.map(|(_, number)| *number).collect();
        for number in due {
            match self.gate(number) {
                Some(gate) => self.flush(number, &gate, now, &mut batch),
                None => self.look(number, None),
            }
        }
        batch
    }

    fn flush(&mut self, number: u64, gate: &Gate, now: Time, batch: &mut Batch) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let here = gate.now();
        let mut said = false;
        while let Some(delta) = gate.view.flush(here) {
            batch.deltas.extend(wire::deltas(&slot.key, &delta, &mut slot.numbers));
            said = true;
        }
        if said {
            slot.not_before = now + slot.patience();
            slot.unanswered = slot.unanswered.saturating_add(1);
            // without a due time it is looked at once more: whoever makes calls makes more of them
            let again = (gate.view.flush_due(here) - here).min(AGAIN).max(span(GAP));
            let at = (now + again).max(slot.not_before);
            self.look(number, Some(at));
        } else {
            self.plan(number, gate, now);
        }
    }

    /// What is to be said of these circuits at the beginning of a conversation: what is believed of them, and
    /// what was counted meanwhile.
    pub(super) fn greet(&mut self, numbers: &[u64], now: Time) -> Batch {
        let mut batch = Batch::default();
        for number in numbers {
            let Some(gate) = self.gate(*number) else { continue };
            batch.watch.push(gate.key.to_wire());
            batch.claims.extend(self.claim(*number, &gate, now));
            self.flush(*number, &gate, now, &mut batch);
        }
        batch
    }

    /// All circuits, in groups for a message each.
    pub(super) fn groups(&mut self) -> Vec<Vec<u64>> {
        self.watch.clear();
        let numbers: Vec<u64> = self.slots.keys().copied().collect();
        numbers.chunks(TOGETHER).map(<[u64]>::to_vec).collect()
    }

    fn claim(&self, number: u64, gate: &Gate, now: Time) -> Option<proto::Claim> {
        let slot = self.slots.get(&number)?;
        let seen: ViewSnapshot = gate.seen();
        let (epoch, until) = slot.open;
        let open = if epoch == seen.epoch { until - now } else { Span::ZERO };
        wire::claim(&slot.key, &seen, open)
    }

    /// What the circuits in `batch` hold of an owner, for a server that keeps no stream.
    pub(super) fn claim_all(&self, batch: &mut Batch, now: Time) {
        let mut last = None;
        for delta in &batch.deltas {
            if last == delta.key.as_ref() {
                continue;
            }
            last = delta.key.as_ref();
            let number = delta.key.clone().and_then(|key| self.numbers.get(&FleetKey::of_wire(key)));
            let claim = number.and_then(|number| self.claim(*number, &*self.gate(*number)?, now));
            let holds = |claim: &proto::Claim| claim.state() != proto::CircuitState::Closed;
            batch.claims.extend(claim.filter(holds));
        }
    }

    /// Follows what the server says.
    pub(super) fn follow(&mut self, said: proto::Directive, now: Time) {
        self.stats.directive();
        let mut said = said;
        let Some(key) = said.key.take().map(FleetKey::of_wire) else {
            return self.complain("key is missing");
        };
        let Some(number) = self.numbers.get(&key).copied() else { return };
        let Some(gate) = self.gate(number) else { return };
        let may_ask = self.may_ask;
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let ack = slot.numbers.acknowledge(wire::counted_by(&said));
        let directive = match wire::directive(&said, ack, may_ask) {
            Ok(directive) => directive,
            Err(why) => return self.complain(&why.to_string()),
        };
        (slot.unanswered, slot.not_before) = (0, Time::EPOCH);
        gate.follow(&directive);
        let seen = gate.seen();
        slot.numbers.follow(seen.epoch);
        if seen.epoch == directive.epoch {
            slot.open = (directive.epoch, now + directive.probe_in);
        }
        let steered =
            !matches!(seen.state, FleetState::Closed | FleetState::Disabled | FleetState::MetricsOnly);
        self.set_lapse(number, steered.then(|| now + seen.lease));
        gate.wake();
        self.plan(number, &gate, now);
    }

    fn complain(&self, why: &str) {
        if self.stats.senseless() {
            tracing::warn!(why, "the server's directive makes no sense; further ones are only counted");
        }
    }

    /// Ends leases that have run out.
    pub(super) fn lapse(&mut self, now: Time) {
        while let Some(&(at, number)) = self.lapses.first()
            && at <= now
        {
            self.set_lapse(number, None);
            let Some(gate) = self.gate(number) else { continue };
            gate.lapse();
        }
    }

    /// Who asked for a probe.
    pub(super) fn take_asks(&mut self) -> Vec<FleetKey> {
        let asks = std::mem::take(&mut self.asks);
        asks.iter().filter_map(|number| Some(self.slots.get(number)?.key.clone())).collect()
    }

    /// What was not acknowledged has to be sent again.
    pub(super) fn stream_lost(&mut self) {
        let now = SystemClock.now();
        (self.unwatch, self.asks) = Default::default();
        let numbers: Vec<u64> = self.slots.keys().copied().collect();
        for number in numbers {
            let Some(gate) = self.gate(number) else { continue };
            gate.view.stream_lost();
            if let Some(slot) = self.slots.get_mut(&number) {
                (slot.unanswered, slot.not_before) = (0, Time::EPOCH);
            }
            gate.wake();
            self.plan(number, &gate, now);
        }
    }
}

impl Slot {
    /// How long to wait before the next report.
    fn patience(&self) -> Span {
        match self.unanswered.checked_sub(PATIENCE) {
            None => Span::ZERO,
            Some(more) => Span::from_micros(Span::SECOND.as_micros() << more.min(5)).min(SELDOM),
        }
    }
}
