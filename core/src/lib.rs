//! Tollgate's decisions: what is admitted, when, and for which rule. Pure functions over integers.
//!
//! Read in this order: [`time`], [`limit`] (one algorithm a file), [`rules`] (which limits a request meets),
//! [`lease`] (limits spent ahead of
//! time), [`invariant`] (what every engine must never break).

pub mod breaker;
pub mod invariant;
pub mod lease;
pub mod limit;
pub mod load;
pub mod rules;
pub mod sketch;
pub mod time;
