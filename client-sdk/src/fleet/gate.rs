//! One circuit of one client: the view that calls are judged by, and the local breakers that obey it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tollgate_core::breaker::fleet::{
    Directive, FleetState, FleetView, LocalAction, ViewConfig, ViewSnapshot,
};
use tollgate_core::time::{Span, Time};

use super::client::Inner;
use super::key::FleetKey;
use super::link::Notice;
use crate::breaker::{
    CircuitBreaker, FleetGate, FleetMember, FleetOutcome, FleetTicket, FleetVerdict, LocalBreaker, Reason,
};
use crate::clock::{Clock, duration, span};
use crate::state::State;

/// The circuit as calls see it. It keeps its client, and so the client's task.
#[derive(Debug)]
pub(super) struct Gate {
    /// Unique in the client.
    pub(super) number: u64,
    pub(super) key: FleetKey,
    pub(super) view: FleetView,
    clock: Arc<dyn Clock>,
    state: watch::Sender<State>,
    locals: Mutex<Vec<LocalBreaker>>,
    /// The task knows when to look at the view next.
    scheduled: AtomicBool,
    /// A notice to look earlier is on its way to the task.
    noticed: AtomicBool,
    client: Arc<Inner>,
}

impl Gate {
    pub(super) fn new(client: Arc<Inner>, number: u64, key: FleetKey, member: FleetMember) -> Gate {
        let config = ViewConfig {
            reporter: client.reporter_id(),
            incarnation: 0,
            base_wait: span(member.base_wait),
            slow_after: member.slow_after.map(span),
        };
        Gate {
            number,
            key,
            view: FleetView::new(config, member.seed, member.clock.now()),
            clock: member.clock,
            state: watch::Sender::new(State::Closed),
            locals: Mutex::default(),
            // the notice of its birth makes the task look
            scheduled: AtomicBool::new(true),
            noticed: AtomicBool::new(false),
            client,
        }
    }

    /// This moment for the breakers of this circuit.
    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(super) fn seen(&self) -> ViewSnapshot {
        self.view.snapshot(self.now())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Breakers that use this circuit and are still used themselves.
    pub(super) fn breakers(&self) -> Vec<CircuitBreaker> {
        let mut locals = self.locals();
        locals.retain(|local| local.upgrade().is_some());
        locals.iter().filter_map(LocalBreaker::upgrade).collect()
    }

    fn locals(&self) -> MutexGuard<'_, Vec<LocalBreaker>> {
        self.locals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a directive.
    pub(super) fn follow(&self, directive: &Directive) {
        let Some(change) = self.view.apply(self.now(), directive) else { return };
        let (from, to) = (state(change.from), state(change.to));
        tracing::info!(circuit = %self.key, %from, %to, "fleet circuit changed");
        self.state.send_replace(to);
        if change.local == LocalAction::Reset {
            self.breakers().iter().for_each(forget_outage);
        }
    }

    /// Ends a lease that has run out while the circuit was not closed.
    pub(super) fn lapse(&self) {
        if let Some(open_for) = self.view.lapse(self.now()) {
            self.seed(open_for);
        }
    }

    /// Nobody can say what the fleet thinks: the local breakers open, each for itself.
    fn seed(&self, open_for: Span) {
        tracing::warn!(circuit = %self.key, open_for_us = open_for.as_micros(), "fleet circuit has no lease");
        for breaker in self.breakers() {
            breaker.open_again(duration(open_for), self.view.openings(), Reason::Fleet);
        }
        self.state.send_replace(State::Closed);
    }

    /// Nothing is due: a call has to say when there is something again. False if a notice came in between.
    pub(super) fn rest(&self) -> bool {
        self.scheduled.store(false, Ordering::SeqCst);
        self.view.flush_due(self.now()) == Time::MAX
    }

    pub(super) fn wake(&self) {
        self.scheduled.store(true, Ordering::SeqCst);
    }

    /// The task has got the notice.
    pub(super) fn heard(&self) {
        self.noticed.store(false, Ordering::SeqCst);
        self.wake();
    }

    fn notice(&self) {
        if !self.noticed.swap(true, Ordering::SeqCst) {
            self.client.tell(Notice::Look(self.number));
        }
    }

    /// There is something to report, in its time.
    fn counted(&self) {
        if !self.scheduled.load(Ordering::SeqCst) {
            self.notice();
        }
    }
}

/// What the local breaker remembers is the outage that is over, unless a person has set it.
fn forget_outage(breaker: &CircuitBreaker) {
    let by_hand = matches!(breaker.state(), State::ForcedOpen | State::Disabled | State::MetricsOnly);
    if !by_hand {
        breaker.reset("the fleet recovers");
    }
}

impl FleetGate for Gate {
    fn admit(&self, now: Time, roll: u32) -> FleetVerdict {
        let verdict = self.view.admit(now, roll);
        match verdict {
            FleetVerdict::Refuse { ask, .. } => {
                self.counted();
                if ask {
                    self.client.tell(Notice::Ask(self.number));
                }
            }
            FleetVerdict::Seed { open_for } => self.seed(open_for),
            FleetVerdict::Local(_) | FleetVerdict::Pass(_) | FleetVerdict::Probe(_) => {}
        }
        verdict
    }

    fn record(&self, now: Time, ticket: FleetTicket, outcome: FleetOutcome) {
        if self.view.record(now, ticket, outcome) {
            self.notice();
        } else {
            self.counted();
        }
    }

    fn forget(&self, _now: Time, ticket: FleetTicket) {
        let probe_back = self.view.forget(ticket);
        if self.view.not_permitted() || probe_back {
            self.notice();
        } else {
            self.counted();
        }
    }

    fn state(&self) -> State {
        *self.state.borrow()
    }

    fn attach(&self, local: LocalBreaker) {
        let mut locals = self.locals();
        locals.retain(|known| known.upgrade().is_some());
        locals.push(local);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.client.forget(&self.key, self.number);
    }
}

/// The same state for users of this crate.
pub(super) const fn state(state: FleetState) -> State {
    match state {
        FleetState::Closed => State::Closed,
        FleetState::Open => State::Open,
        FleetState::HalfOpen => State::HalfOpen,
        FleetState::Recovering => State::Recovering,
        FleetState::ForcedOpen => State::ForcedOpen,
        FleetState::Disabled => State::Disabled,
        FleetState::MetricsOnly => State::MetricsOnly,
    }
}
