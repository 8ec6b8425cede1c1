//! A circuit breaker for a whole fleet: instances report outcomes, the owner of the circuit judges them
//! together, hands out a few probes for all, and ramps traffic back.
//!
//! Read in this order: [`wire`] (what is said), [`circuit`] (the owner's side), [`client`] (an instance's
//! side), [`registry`] (many circuits). Both sides are values without a clock or I/O; the server and the SDK
//! carry the messages.
//!
//! No call waits for the owner: an instance decides by what it holds. Only an instance that was refused while
//! probes are left may ask for one ([`FleetVerdict::Refuse`], `ask`), for that call.
//!
//! # The stricter of local and fleet governs
//!
//! Every instance keeps its local breaker, which records every outcome all the time. [`combine`] puts the two
//! answers together:
//!
//! | fleet | local breaker | the call |
//! |---|---|---|
//! | closed, disabled, metrics only, or no lease | decides | local verdict |
//! | recovering | may refuse | must belong to the share, and the local breaker must allow it |
//! | open, half-open, forced open | is not asked | refused, unless it has a permit |
//! | lease ran out while not closed | is opened ([`FleetVerdict::Seed`]) | refused; then the local breaker alone decides |
//!
//! So a local fault is refused locally while the fleet is closed; while the fleet is open no instance has a
//! half-open state of its own; and a local half-open state during a closed fleet is allowed, since it is one
//! client with its own faults. When the ramp begins, the SDK resets the local breaker
//! ([`LocalAction::Reset`]), since what it remembers is the outage.

pub mod circuit;
pub mod client;
pub mod config;
mod latency;
mod random;
pub mod registry;
pub mod wire;

pub use circuit::Circuit;
pub use circuit::event::{
    ActiveOverride, Event, Evidence, Override, OverrideError, OverrideMode, Reason, Snapshot, Totals,
};
pub use client::{
    FleetTransition, FleetVerdict, FleetView, LocalAction, Outcome, Ticket, ViewConfig, ViewSnapshot,
};
pub use config::{FleetConfig, FleetConfigError, FleetMode, FleetSettings};
pub use registry::{CircuitKey, KeyPath, KeyPattern, NoCircuit, PartPattern, Registry, RegistryConfig};
pub use wire::{
    Ack, Claim, Counts, Delta, Directive, Epoch, FleetState, OutcomeKind, Permit, PermitId, ProbeResult,
    Report, ReporterId, Share,
};

use crate::time::Span;

/// What the local breaker says of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LocalGate {
    /// It may go on.
    Allow,
    /// It may not.
    Refuse {
        /// When it is worth trying again.
        retry_after: Span,
    },
}

/// Whose verdict a refusal is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RefusedBy {
    /// The fleet's circuit.
    Fleet,
    /// The local breaker.
    Local,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// It is sent; both breakers record how it ends.
    Call(Ticket),
    /// It is sent as a probe; only the fleet records how it ends.
    Probe(Ticket),
    /// It is not sent.
    Refuse {
        /// By whom.
        by: RefusedBy,
        /// When it is worth trying again.
        retry_after: Span,
        /// Whether a permit may be asked for, for this very call.
        ask: bool,
    },
}

/// The stricter of both. The local breaker needs to be asked only if the fleet says
/// [`FleetVerdict::Local`] or [`FleetVerdict::Pass`]; `local` is called then, and only then. After a refusal
/// by the local breaker, call [`FleetView::not_permitted`].
#[must_use]
pub fn combine(fleet: FleetVerdict, local: impl FnOnce() -> LocalGate) -> Gate {
    match fleet {
        FleetVerdict::Local(ticket) | FleetVerdict::Pass(ticket) => match local() {
            LocalGate::Allow => Gate::Call(ticket),
            LocalGate::Refuse { retry_after } => {
                Gate::Refuse { by: RefusedBy::Local, retry_after, ask: false }
            }
        },
        FleetVerdict::Probe(ticket) => Gate::Probe(ticket),
        FleetVerdict::Refuse { retry_after, ask } => Gate::Refuse { by: RefusedBy::Fleet, retry_after, ask },
        FleetVerdict::Seed { open_for } => {
            Gate::Refuse { by: RefusedBy::Fleet, retry_after: open_for, ask: false }
        }
    }
}
