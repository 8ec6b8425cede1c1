//! Where the state of every key lives.

pub mod memory;

use std::future::Future;
use std::pin::Pin;

use smallvec::SmallVec;
use tollgate_core::rules::{Answer, Charge, Hit};
use tollgate_core::time::Time;

/// One answer per hit, in the order of the hits.
pub type Answers = SmallVec<[Answer; 2]>;

/// Answers that may take a round trip.
pub type Charging<'a> = Pin<Box<dyn Future<Output = Answers> + Send + 'a>>;

/// Where state lives. Each hit is read, decided and written as one indivisible step; with
/// [`Charge::AllOrNothing`] all hits of the call are.
pub trait Store: Send + Sync + 'static {
    /// Charges `hits`, all at the instant `now`.
    fn charge<'a>(&'a self, charge: Charge, hits: &'a [Hit<'a>], now: Time) -> Charging<'a>;

    /// How full the store is.
    fn usage(&self) -> Usage;
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Live keys.
    pub keys: u64,
    /// Bytes that they take, by the store's own estimate.
    pub bytes: u64,
    /// Times that a new key found no room since the start, by what was answered.
    pub full: Full,
    /// States dropped because they equalled fresh ones.
    pub swept: u64,
}

/// How often the store was full, by answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Full {
    /// The new key was refused.
    pub denied: u64,
    /// The new key was admitted without being counted.
    pub allowed: u64,
    /// Used keys were dropped to make room.
    pub evicted: u64,
}
