//! Leases: how many were asked for, by result, and the tokens in them.

use crate::telemetry::meter::{Striped, Stripes};

/// What came of a request for a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseResult {
    /// Tokens were granted.
    Granted,
    /// A limit has none left.
    Exhausted,
    /// Its limits are not leased.
    NotLeasable,
    /// It has no limits.
    Unlimited,
}

/// What came of a lease that was given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReturnResult {
    /// It was taken.
    Returned,
    /// Too late.
    Ended,
    /// Of other descriptors, or of other rules.
    Other,
    /// It had been given back before.
    Again,
    /// No server with our key granted it.
    Unknown,
}

const LEASES: [&str; 4] = ["granted", "exhausted", "not_leasable", "unlimited"];
const RETURNS: [&str; 5] = ["returned", "ended", "other", "again", "unknown"];
/// Behind both: tokens that were granted and tokens that came back.
const TOKENS: [&str; 2] = ["granted", "returned"];
const FIRST_RETURN: usize = LEASES.len();
const FIRST_TOKEN: usize = LEASES.len() + RETURNS.len();

/// Leases by result.
#[derive(Debug)]
pub(in crate::telemetry) struct Leases(Striped<{ FIRST_TOKEN + TOKENS.len() }>);

impl Leases {
    pub(super) fn new(stripes: Stripes) -> Leases {
        Leases(Striped::new(stripes))
    }

    pub(super) fn leased(&self, result: LeaseResult, tokens: u64) {
        self.0.add(result as usize, 1);
        self.0.add(FIRST_TOKEN, tokens);
    }

    pub(super) fn returned(&self, result: ReturnResult, tokens: u64) {
        self.0.add(FIRST_RETURN + result as usize, 1);
        self.0.add(FIRST_TOKEN + 1, tokens);
    }

    /// Requests for leases by result.
    pub(in crate::telemetry) fn leases(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LEASES.into_iter().zip(self.0.sums())
    }

    /// Leases that were given back, by result.
    pub(in crate::telemetry) fn returns(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RETURNS.into_iter().zip(self.0.sums().into_iter().skip(FIRST_RETURN))
    }

    /// Tokens by what happened to them.
    pub(in crate::telemetry) fn tokens(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TOKENS.into_iter().zip(self.0.sums().into_iter().skip(FIRST_TOKEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_has_its_own_counter() {
        let leases = Leases::new(Stripes::for_threads(2));
        leases.leased(LeaseResult::Granted, 40);
        for result in [LeaseResult::Exhausted, LeaseResult::NotLeasable, LeaseResult::Unlimited] {
            leases.leased(result, 0);
        }
        leases.returned(ReturnResult::Returned, 15);
        for result in [ReturnResult::Ended, ReturnResult::Other, ReturnResult::Again, ReturnResult::Unknown] {
            leases.returned(result, 0);
        }
        assert!(leases.leases().chain(leases.returns()).all(|(_, times)| times == 1));
        assert_eq!(leases.tokens().collect::<Vec<_>>(), [("granted", 40), ("returned", 15)]);
    }
}
