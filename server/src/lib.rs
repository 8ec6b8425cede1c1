//! The server: Envoy's rate limit service and HTTP twins over limits held in memory.
//!
//! [`run`] is the whole of it; `main.rs` only reads the command line. ARCHITECTURE.md has the map.

pub mod access;
pub mod adapter;
pub mod admin;
pub mod app;
pub mod breaker;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod engine;
pub mod fallback;
pub mod health;
pub mod overload;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod version;
pub mod xds;

pub use app::{App, Listeners, run};
