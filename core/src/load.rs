//! What to do when there is too much: limits on concurrency, throttles, retry budgets, shedding.
//!
//! The SDK protects a target with [`concurrency`], [`throttle`], [`budget`], [`backoff`], [`ewma`] and
//! [`outlier`]; the server protects itself with [`queue`] and [`shed`]. Both read [`hint`], [`deadline`] and
//! [`criticality`]. Types on the path of every call take `&self` and count with atomics; those that sit
//! behind the caller's lock take `&mut self`. Time and randomness are arguments.

pub mod algorithm;
pub mod backoff;
pub mod budget;
pub mod concurrency;
pub mod criticality;
pub mod deadline;
pub mod ewma;
pub mod hint;
pub mod outlier;
pub mod queue;
pub mod random;
pub mod ratio;
pub mod rendezvous;
pub mod retry_throttle;
pub mod shed;
pub mod throttle;

mod rolling;

use std::fmt::Display;
use std::ops::RangeInclusive;

/// A setting is outside of its range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} {value} is out of range: {range}")]
pub struct OutOfRange {
    /// The setting, as a path inside its configuration: `window.samples`.
    pub field: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be.
    pub range: String,
}

impl OutOfRange {
    fn new(field: &'static str, value: impl Display, range: impl Into<String>) -> OutOfRange {
        OutOfRange { field, value: value.to_string(), range: range.into() }
    }
}

/// Refuses a `value` outside of `range`.
fn within<T: PartialOrd + Display>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), OutOfRange> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(OutOfRange::new(field, value, format!("{} to {}", range.start(), range.end())))
}
