//! Rules from a management server: a server as a whole, against one whose every word the test says.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test may panic, and has no outside")]

#[path = "xds/certificates.rs"]
mod certificates;
#[path = "xds/follow.rs"]
mod follow;
#[path = "xds/gateway.rs"]
mod gateway;
#[path = "xds/management.rs"]
mod management;
#[path = "xds/tls.rs"]
mod tls;
#[path = "xds/world.rs"]
mod world;
