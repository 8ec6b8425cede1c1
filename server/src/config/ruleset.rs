//! A set of rules in force: the compiled matcher and what is counted for each rule.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::rules::Matcher;

use crate::telemetry::metrics::{Meters, Metrics};

/// One loaded set of rules; never changes.
#[derive(Debug)]
pub struct Ruleset {
    matcher: Matcher,
    meters: Meters,
    generation: u64,
}

impl Ruleset {
    /// Puts the counts of `metrics` beside the rules of `matcher`.
    #[must_use]
    pub fn new(matcher: Matcher, metrics: &Metrics) -> Ruleset {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let meters = metrics.meters(&matcher);
        Ruleset { matcher, meters, generation: GENERATION.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// The rules.
    #[must_use]
    pub const fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// The counts, by rule.
    #[must_use]
    pub const fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Grows with every set that is loaded in this process.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}
