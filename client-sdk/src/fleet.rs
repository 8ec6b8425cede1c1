//! Circuit breakers that the whole fleet shares.
//!
//! A [`FleetClient`] keeps one stream to the server: counts of outcomes go up, directives come down. Breakers
//! join it with a [`FleetCircuit`], and obey the stricter of the fleet's circuit and their own judgement (see
//! [`tollgate_core::breaker::fleet`] for the rules). No call ever waits for the server: what a call may do is
//! in memory, and holds for the lease that the server gave. Without a lease the local breakers rule alone.
//!
//! ```
//! use std::time::Duration;
//! use tollgate_client::CircuitBreaker;
//! use tollgate_client::fleet::{FleetCircuit, FleetClient};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tollgate_client::ConfigError> {
//! let fleet = FleetClient::builder("http://tollgate:8081").zone("eu-1a").connect_lazy()?;
//! let circuit = FleetCircuit::of(&fleet).key("shop", "payments");
//! let breaker = CircuitBreaker::builder("payments").fleet(circuit.clone()).build()?;
//! let answer = breaker.call(async { Ok::<_, std::io::Error>(7) }).await;
//! assert!(answer.is_ok(), "the server is away: the local breaker rules alone");
//! assert!(circuit.snapshot().is_some_and(|seen| !seen.is_led()));
//! # Ok(())
//! # }
//! ```
//!
//! # The background task
//!
//! Each client has one task. It ends when the client's handles and the breakers that joined it are dropped; it
//! keeps none of them alive. What a dropped breaker had not reported yet (of at most one report interval) is
//! not reported.
//!
//! # Which transport
//!
//! [`FleetTransport::Stream`] by default. [`FleetTransport::Unary`] is for proxies that cannot stream: a client
//! without calls then learns of a change with its first report, within 50 ms after its first failure.

mod book;
mod builder;
mod circuit;
mod client;
mod gate;
mod key;
mod link;
mod stats;
mod stream;
mod unary;
mod wire;

pub use builder::{FleetClientBuilder, FleetTransport};
pub use circuit::{FleetCircuit, FleetSnapshot, OwnerView};
pub use client::FleetClient;
pub use key::FleetKey;
pub use stats::FleetStats;

/// Circuits of one client, at most.
pub const MAX_CIRCUITS: usize = 10_000;
