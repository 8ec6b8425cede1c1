//! What the console reads of the counters.

use std::sync::Arc;

use super::{Answered, ErrorKind, Metrics};
use crate::telemetry::meter::Tally;

/// Requests since the start, by what they were answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// They may go on.
    pub allowed: u64,
    /// Refused.
    pub refused: u64,
    /// Without an answer, since the store had none.
    pub store_errors: u64,
    /// Without an answer for another reason.
    pub other_errors: u64,
    /// Let pass only by the global shadow mode; in `allowed` too.
    pub shadowed: u64,
}

/// What one rule has counted since the start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleUse {
    /// Its domain.
    pub domain: Arc<str>,
    /// Its path below that.
    pub rule: Arc<str>,
    /// The counts.
    pub tally: Tally,
}

/// How often one rule was answered for in one way because of one fault, since the start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FallenBack {
    /// The rule's domain.
    pub domain: Arc<str>,
    /// Its path below that.
    pub rule: Arc<str>,
    /// What was wrong with the store.
    pub cause: &'static str,
    /// What was answered: error, allow, deny or share.
    pub answer: &'static str,
    /// How often.
    pub times: u64,
}

impl Metrics {
    /// All requests by what they were answered.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { shadowed: self.counts.shadowed.sum(0), ..Totals::default() };
        for requested in self.counts.requests.all() {
            let count = match requested.answered {
                Answered::Ok => &mut totals.allowed,
                Answered::OverLimit => &mut totals.refused,
                Answered::Error(ErrorKind::Store) => &mut totals.store_errors,
                Answered::Error(_) => &mut totals.other_errors,
            };
            *count = count.wrapping_add(requested.times);
        }
        totals
    }

    /// Every rule that is in force or ever counted something. With many rules this takes milliseconds.
    #[must_use]
    pub fn rule_uses(&self) -> Vec<RuleUse> {
        let rules = self.counts.registry.rules().into_iter();
        let uses = rules.map(|(path, counted)| RuleUse {
            domain: path.domain,
            rule: path.rule,
            tally: counted.meter.tally(),
        });
        uses.collect()
    }

    /// Every fallback there ever was, by rule, cause and answer.
    #[must_use]
    pub fn fallen_back(&self) -> Vec<FallenBack> {
        let all = self.counts.fallbacks.all().into_iter();
        let fallen = all.map(|fallen| FallenBack {
            domain: fallen.path.domain,
            rule: fallen.path.rule,
            cause: fallen.cause,
            answer: fallen.answer,
            times: fallen.times,
        });
        fallen.collect()
    }
}
