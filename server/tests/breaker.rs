//! Circuits that a fleet of clients shares, from outside: the program itself, alone and as three servers on one Redis,
//! and clients whose messages are written by hand.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test may panic, and has no outside")]

mod redis_world;

#[path = "breaker/bounds.rs"]
mod bounds;
#[path = "breaker/client.rs"]
mod client;
#[path = "breaker/fleet.rs"]
mod fleet;
#[path = "breaker/lifecycle.rs"]
mod lifecycle;
#[path = "breaker/people.rs"]
mod people;
#[path = "breaker/refusals.rs"]
mod refusals;
#[path = "breaker/secure.rs"]
mod secure;
#[path = "breaker/world.rs"]
mod world;
