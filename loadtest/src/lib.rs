//! Simulations and load tests of Tollgate.
//!
//! [`load`] asks a real server, and counts what it admits. [`fleet`] plays outages against the fleet circuit
//! breaker, in virtual time.

pub mod chance;
pub mod fleet;
pub mod load;
