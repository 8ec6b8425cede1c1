//! The ways in: each adapter decodes a request, lets the engine decide, and encodes the decision.

mod bounded;
pub mod headers;
pub mod http;
pub mod native;
pub mod rls;

use std::fmt;

use tollgate_core::limit::LimitError;

use crate::engine::Undecided;

/// Why a request cannot be decided. The texts of the first three are the reference's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// The request names no domain.
    EmptyDomain,
    /// The request has no descriptors.
    NoDescriptors,
    /// No set of rules has been loaded yet.
    NoRules,
    /// More descriptors, or entries of all of them, than one request may have.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The most.
        most: usize,
    },
    /// The caller has no identity to which the domain is bound.
    Forbidden {
        /// The domain.
        domain: String,
    },
    /// A limit in the request has a unit that is none.
    Unit {
        /// Which descriptor.
        descriptor: usize,
        /// The number on the wire.
        unit: i32,
    },
    /// A limit in the request has a window of no length.
    Multiplier {
        /// Which descriptor.
        descriptor: usize,
    },
    /// A limit in the request cannot be built.
    Limit {
        /// Which descriptor.
        descriptor: usize,
        /// Why not.
        error: LimitError,
    },
    /// The store could not be asked.
    Undecided(Undecided),
    /// A cost of `2^63` or more.
    Hits {
        /// Which descriptor.
        descriptor: usize,
        /// The cost.
        hits: u64,
    },
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::EmptyDomain => f.write_str("rate limit domain must not be empty"),
            Invalid::NoDescriptors => f.write_str("rate limit descriptor list must not be empty"),
            Invalid::NoRules => f.write_str("no rate limit configuration loaded"),
            Invalid::TooMany { what: "descriptors", found, most } => {
                write!(f, "rate limit descriptor list has {found} items, more than {most}")
            }
            Invalid::TooMany { what, found, most } => {
                write!(f, "rate limit descriptor list has {found} {what}, more than {most}")
            }
            Invalid::Forbidden { domain } => {
                write!(f, "domain {domain:?} is not bound to an identity of this caller")
            }
            Invalid::Unit { descriptor, unit } => {
                write!(f, "invalid rate limit unit {unit} in the limit of descriptor {descriptor}")
            }
            Invalid::Multiplier { descriptor } => {
                write!(f, "unit_multiplier must not be 0 in the limit of descriptor {descriptor}")
            }
            Invalid::Limit { descriptor, error } => {
                write!(f, "invalid limit of descriptor {descriptor}: {error}")
            }
            Invalid::Undecided(undecided) => undecided.fmt(f),
            Invalid::Hits { descriptor, hits } => {
                write!(
                    f,
                    "hits_addend {hits} of descriptor {descriptor} is out of range: 0 to 9223372036854775807"
                )
            }
        }
    }
}

impl std::error::Error for Invalid {}
