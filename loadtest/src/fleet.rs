//! A herd of clients around one backend that goes down and comes back, in virtual time, with the state
//! machines that the server and the SDK run.
//!
//! Read in this order: [`scenario`] (what is played), [`backend`] (who is called), [`client`] (who calls),
//! [`owner`] (who owns the circuit), [`world`] (the events that connect them), [`measure`] (what came of it),
//! [`sweep`] (many scenarios and their bars).
//!
//! Equal seeds give equal runs. The clients and the owner exchange the values of
//! [`tollgate_core::breaker::fleet`] with delays of 1 to 5 ms, which may be lost.

pub mod backend;
pub mod client;
pub mod measure;
pub mod owner;
pub mod plot;
pub mod scenario;
pub mod sweep;
pub mod table;
pub mod world;

pub use measure::{Measured, Seconds};
pub use scenario::{Failure, OwnerFate, Policy, Scenario, Warmup};
pub use world::play;
