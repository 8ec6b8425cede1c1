//! What operators see: counters, the metrics page, logs.

pub mod log;
pub mod meter;
pub mod metrics;
pub mod page;
pub mod panics;
pub mod reference;
