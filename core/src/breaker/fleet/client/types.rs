//! What goes into a view and what comes out.

use super::super::wire::{Counts, Epoch, FleetState, OutcomeKind, PermitId, ReporterId, Share};
use crate::time::Span;

/// How an instance takes part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ViewConfig {
    /// Names the instance: drawn at random when it starts.
    pub reporter: ReporterId,
    /// Higher after each restart under the same name; any value for a fresh name.
    pub incarnation: u64,
    /// Base wait of the local breaker. When a lease runs out, the local breaker is opened for what was left
    /// and a random part of the wait that it would have reached by itself: this one, half as long again for
    /// each further opening in a row, up to 60 s. Zero means no random part.
    pub base_wait: Span,
    /// Calls longer than this are slow as long as the owner does not say otherwise.
    pub slow_after: Option<Span>,
}

/// Under which epoch a call was admitted, and with which permit. Goes back with [`FleetView::record`](super::FleetView::record).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    pub(super) generation: u32,
    pub(super) permit: Option<PermitId>,
}

impl Ticket {
    /// For what goes wrong with a call after its probe has been recorded: an outcome like any other.
    #[must_use]
    pub const fn after_probe(self) -> Ticket {
        Ticket { permit: None, ..self }
    }
}

/// May a call go on?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FleetVerdict {
    /// The local breaker alone decides.
    Local(Ticket),
    /// The call belongs to the share that passes, if the local breaker lets it.
    Pass(Ticket),
    /// The call is a probe: it is sent, whatever the local breaker says.
    Probe(Ticket),
    /// It may not.
    Refuse {
        /// When it is worth trying again.
        retry_after: Span,
        /// Whether a permit may be asked for, for this very call. At most one call in half a second is told.
        ask: bool,
    },
    /// The lease ran out while the circuit was not closed: the local breaker must be opened for so long.
    /// Exactly one call is told; it may not go on.
    Seed {
        /// What was left, and a random part of the wait that the local breaker would have by now. Open it by
        /// [`Breaker::open_again`](crate::breaker::Breaker::open_again), as the last of
        /// [`FleetView::openings`](super::FleetView::openings) in a row.
        open_for: Span,
    },
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// How.
    pub kind: OutcomeKind,
    /// From the start of the call to the head of the answer.
    pub took: Span,
    /// The target's wish to be left alone for so long.
    pub hint: Option<Span>,
}

/// What the SDK does with its local breaker at a change of state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LocalAction {
    /// Nothing.
    Keep,
    /// Close it and forget its outcomes: they tell of the outage that is over.
    Reset,
}

/// A change of state that an instance has followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FleetTransition {
    /// Before.
    pub from: FleetState,
    /// Now.
    pub to: FleetState,
    /// Of the new state.
    pub epoch: Epoch,
    /// What the local breaker should do.
    pub local: LocalAction,
}

/// A view as an operator sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ViewSnapshot {
    /// State it follows; closed without a lease.
    pub state: FleetState,
    /// Epoch it follows; counter 0 without one.
    pub epoch: Epoch,
    /// Share that passes.
    pub admit: Share,
    /// What is left of the lease.
    pub lease: Span,
    /// Permits it may use.
    pub permits: u32,
    /// Openings in a row, as it was told.
    pub attempt: u32,
    /// Counted since the last delta.
    pub counts: Counts,
    /// Deltas that the owner has not acknowledged.
    pub unacknowledged: usize,
}
