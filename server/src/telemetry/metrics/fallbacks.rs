//! Answers that were given in place of the store's, by rule and cause.

use std::array;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use tollgate_core::rules::{Answer, By, Hit, Rule};

use super::Path;
use super::naming;
use crate::store::Fault;

/// Most rules whose fallbacks are counted by name.
const MAX_RULES: usize = 10_000;
/// Name of all further ones.
const OTHER: &str = "other";

/// What was answered instead.
const ANSWERS: [&str; 4] = ["error", "allow", "deny", "share"];
const CAUSES: usize = Fault::ALL.len();

/// Fallbacks by rule, cause and answer.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Fallbacks {
    /// By [`Rule::path`].
    rules: DashMap<Box<str>, FallenBack, RandomState>,
    known: AtomicUsize,
}

#[derive(Debug)]
struct FallenBack {
    path: Path,
    counts: [[AtomicU64; ANSWERS.len()]; CAUSES],
}

/// How often one rule was answered for in one way because of one fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::telemetry) struct Fallen {
    pub(in crate::telemetry) path: Path,
    pub(in crate::telemetry) cause: &'static str,
    pub(in crate::telemetry) answer: &'static str,
    pub(in crate::telemetry) times: u64,
}

impl Fallbacks {
    /// Counts what became of a hit that met `fault`.
    pub(super) fn count(&self, hit: &Hit<'_>, fault: Fault, reply: Option<&Answer>) {
        let answer = match reply {
            None => 0,
            Some(Answer { by: By::Share, .. }) => 3,
            Some(answer) if answer.verdict.allowed => 1,
            Some(_) => 2,
        };
        let raise = |rule: &FallenBack| rule.counts[fault as usize][answer].fetch_add(1, Relaxed);
        if let Some(rule) = self.rules.get(&*hit.rule.path) {
            raise(&rule);
            return;
        }
        let room = self.known.load(Relaxed) < MAX_RULES && self.known.fetch_add(1, Relaxed) < MAX_RULES;
        let path = if room { path_of(&hit.rule) } else { Path { domain: OTHER.into(), rule: OTHER.into() } };
        let name = if room { hit.rule.path.clone() } else { OTHER.into() };
        raise(&self.rules.entry(name).or_insert_with(|| FallenBack::new(path)));
    }

    /// Everything that was counted.
    pub(in crate::telemetry) fn all(&self) -> Vec<Fallen> {
        let mut all = Vec::new();
        for rule in &self.rules {
            for (fault, counts) in Fault::ALL.into_iter().zip(&rule.counts) {
                let fallen = ANSWERS.into_iter().zip(counts).map(|(answer, times)| Fallen {
                    path: rule.path.clone(),
                    cause: fault.name(),
                    answer,
                    times: times.load(Relaxed),
                });
                all.extend(fallen.filter(|fallen| fallen.times > 0));
            }
        }
        all
    }
}

impl FallenBack {
    fn new(path: Path) -> FallenBack {
        FallenBack { path, counts: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))) }
    }
}

fn path_of(rule: &Rule) -> Path {
    let (domain, path) = naming::domain_and_path(rule);
    Path { domain: domain.into(), rule: path.into() }
}
