//! The load test: open loop, so that a slow server meets the load that was meant, not the load that it allows.
//!
//! [`Scenario`] says what; [`drive`] asks, from one thread that reads and writes sockets itself; [`measure`]
//! collects; [`oracle`] counts what was admitted outside the server and judges it by `core::invariant`; [`report`]
//! shows it.
//!
//! Latency counts from the instant at which a question was *meant* to leave (Gil Tene, "How NOT to measure
//! latency", 2015): what waits because the server is slow has waited.

pub mod arrivals;
pub mod clock;
pub mod drive;
pub mod keys;
pub mod measure;
pub mod message;
pub mod oracle;
pub mod report;
pub mod scenario;
pub mod usage;
pub mod wire;

pub use self::scenario::Scenario;
