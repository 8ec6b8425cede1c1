//! Simulations and load tests of Tollgate.
//!
//! [`fleet`] plays outages against the fleet circuit breaker, in virtual time.

pub mod fleet;
