//! What operators see: counters, the metrics page, logs.

pub mod calls;
pub mod hot;
pub mod log;
pub mod meter;
pub mod metrics;
pub mod otlp;
pub mod page;
pub mod panics;
pub mod reference;
pub mod trace;
