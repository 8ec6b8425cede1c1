//! The limiter client against limiters on the loopback address.
#![cfg(feature = "testing")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "limiter/basics.rs"]
mod basics;
#[path = "limiter/failures.rs"]
mod failures;
#[path = "limiter/leases.rs"]
mod leases;
#[path = "limiter/pipelines.rs"]
mod pipelines;
#[path = "limiter/replicas.rs"]
mod replicas;
#[path = "limiter/world.rs"]
mod world;
