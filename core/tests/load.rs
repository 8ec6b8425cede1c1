//! What the load algorithms promise, for random histories, and under many threads.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "load/limits.rs"]
mod limits;
#[path = "load/queues.rs"]
mod queues;
#[path = "load/routing.rs"]
mod routing;
#[path = "load/signals.rs"]
mod signals;
#[path = "load/threads.rs"]
mod threads;
