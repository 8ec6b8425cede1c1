//! Who may connect and what callers may do, from outside: the program itself with certificates made on the spot, and
//! clients that keep to the rules or do not.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test may panic, and has no outside")]

#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/floods.rs"]
mod floods;
#[path = "tls/handshakes.rs"]
mod handshakes;
#[path = "tls/identities.rs"]
mod identities;
#[path = "tls/operators.rs"]
mod operators;
#[path = "tls/rotation.rs"]
mod rotation;
#[path = "tls/slow.rs"]
mod slow;
#[path = "tls/world.rs"]
mod world;
