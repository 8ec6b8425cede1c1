//! Telemetry as an operator meets it: a whole server, a collector, and what arrives there.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "telemetry/collector.rs"]
mod collector;
#[path = "telemetry/failures.rs"]
mod failures;
#[path = "telemetry/metrics.rs"]
mod metrics;
#[path = "telemetry/traces.rs"]
mod traces;
#[path = "telemetry/variables.rs"]
mod variables;
#[path = "telemetry/world.rs"]
mod world;
