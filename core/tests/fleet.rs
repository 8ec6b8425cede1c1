//! What the fleet breaker promises: rules of the owner's state machine, of an instance's view, and of both
//! together, for random histories.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "fleet/world.rs"]
mod world;

#[path = "fleet/circuit.rs"]
mod circuit;
#[path = "fleet/handover.rs"]
mod handover;
#[path = "fleet/invariants.rs"]
mod invariants;
#[path = "fleet/liveness.rs"]
mod liveness;
#[path = "fleet/ramp.rs"]
mod ramp;
#[path = "fleet/threads.rs"]
mod threads;
#[path = "fleet/view.rs"]
mod view;
