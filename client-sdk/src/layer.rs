//! The policies as tower layers.
//!
//! Of tower's own parts, `Layer` and `Service` fit; its limits do not: they wait rather than reject, and
//! reserve in `poll_ready`, so that a clone that is never called keeps a place. Its retry has no deadline and
//! no pushback, and its budget turns 60 % into 100 %.
//!
//! For all layers here: clones share one state. `call` uses the very service that was polled ready. A
//! rejection is decided in `call`, never in `poll_ready` (generated clients turn errors of `poll_ready` into
//! `UNKNOWN`); only the gate of [`breaker`] waits there, since a balancer is to go elsewhere. A rejected call
//! leaves the inner service ready. A dropped future gives everything back.
//!
//! | for | layers |
//! |---|---|
//! | clients | [`CircuitBreakerLayer`], [`ConcurrencyLimitLayer`], [`ThrottleLayer`], [`PipelineLayer`], [`RetryLayer`], [`GateLayer`] |
//! | servers | [`LoadShedLayer`], [`DeadlineLayer`] |

pub mod body;
pub mod breaker;
pub mod deadline;
pub mod guarded;
pub mod pipeline;
pub mod rate_limit;
pub mod request;
pub mod retry;
pub mod server;
pub mod shed;
pub mod watch;

pub use breaker::{CircuitBreakerLayer, GateLayer};
pub use deadline::DeadlineLayer;
pub use guarded::{ConcurrencyLimitLayer, ThrottleLayer};
pub use pipeline::{DeadlineUntil, PipelineLayer};
pub use retry::RetryLayer;
pub use shed::LoadShedLayer;
