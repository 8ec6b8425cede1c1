//! Counts what was admitted, outside the server, and judges it by `core::invariant`.

use std::collections::HashMap;
use std::time::Duration;

use tollgate_core::invariant::{Breach, Observed, surely_broken};
use tollgate_core::limit::Limit;
use tollgate_core::time::Time;

use super::wire::Call;

/// Admissions by key.
#[derive(Debug)]
pub struct Oracle {
    limit: Limit,
    /// The wall clock when the test began: windows lie on the epoch.
    begun: Duration,
    admitted: HashMap<u64, Vec<Observed>>,
}

/// A key that was admitted too often.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The key's number.
    pub key: u64,
    /// What was too much.
    pub breach: Breach,
}

/// What the oracle has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Keys that something was admitted for.
    pub keys: usize,
    /// Admissions.
    pub admitted: u64,
    /// Keys over their limit, at most a hundred of them, the first ones.
    pub findings: Vec<Finding>,
    /// How many keys are over it.
    pub broken: usize,
}

impl Oracle {
    /// Every key has `limit`.
    #[must_use]
    pub fn new(limit: Limit) -> Oracle {
        Oracle { limit, begun: Duration::ZERO, admitted: HashMap::new() }
    }

    /// Times of calls count from `wall`, which counts from the epoch.
    pub fn begin(&mut self, wall: Duration) {
        self.begun = wall;
    }

    /// A call was admitted; its answer came `received` nanoseconds from the start.
    pub fn admitted(&mut self, call: Call, received: u64) {
        let at = |nanos: u64| self.begun + Duration::from_nanos(nanos);
        let sent = Time::from_micros(micros(at(call.sent)));
        let received = Time::from_micros(micros(at(received)) + 1);
        self.admitted.entry(call.key).or_default().push(Observed { sent, received, cost: 1 });
    }

    /// Judges every key over all that these have seen, which is one history: limits hold over any interval. None if
    /// there are none.
    #[must_use]
    pub fn verdict_of(oracles: Vec<Oracle>) -> Option<Verdict> {
        oracles
            .into_iter()
            .reduce(|mut all, more| {
                for (key, seen) in more.admitted {
                    all.admitted.entry(key).or_default().extend(seen);
                }
                all
            })
            .map(|all| all.verdict())
    }

    /// Judges every key.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict { keys: self.admitted.len(), ..Verdict::default() };
        for (key, seen) in &self.admitted {
            verdict.admitted += seen.len() as u64;
            if let Some(breach) = surely_broken(&self.limit, seen) {
                verdict.findings.push(Finding { key: *key, breach });
            }
        }
        verdict.broken = verdict.findings.len();
        verdict.findings.sort_by_key(|finding| finding.key);
        verdict.findings.truncate(100);
        verdict
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
