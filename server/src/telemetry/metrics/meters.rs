//! Which counters belong to which rule, over all reloads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tollgate_core::rules::{Matcher, Rule};

use super::event::Event;
use super::naming;
use super::series::Series;
use crate::telemetry::meter::{RuleMeter, Striped, Stripes};

/// Most rules that are gone and whose counts are still on the page.
const MAX_RETIRED: usize = 10_000;
/// Path of the limits that came with requests, below their domain.
const OVERRIDE: &str = "override";

/// The counters of one set of rules, ready for the hot path.
#[derive(Debug)]
pub struct Meters {
    /// By [`Rule::id`].
    rules: Box<[Metered]>,
    domains: HashMap<Arc<str>, Arc<DomainMeter>, RandomState>,
}

/// The counters of one rule.
#[derive(Debug)]
pub(super) struct Metered {
    pub(super) meter: Arc<RuleMeter>,
    /// Where the reference's series go whose number is at its bound; only for a rule whose reference name
    /// shows request values.
    pub(super) valueless: Option<Arc<RuleMeter>>,
}

/// What is counted of one domain.
#[derive(Debug)]
struct DomainMeter {
    /// All limits that came with requests.
    overrides: Arc<RuleMeter>,
    /// By [`Missed`].
    missed: Striped<2>,
}

/// Descriptors of a known domain that met no limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Missed {
    /// No rule matches.
    Unmatched,
    /// Another rule of the request replaces theirs.
    Replaced,
}

impl Meters {
    /// The counters of a configured rule.
    #[inline]
    pub(super) fn rule(&self, id: usize) -> Option<&Metered> {
        self.rules.get(id)
    }

    /// Counts what a limit of the request itself did.
    pub(super) fn overridden(&self, domain: &str, event: Event) {
        if let Some(domain) = self.domains.get(domain) {
            event.count(&domain.overrides);
        }
    }

    /// Counts a descriptor that met no limit.
    pub(super) fn missed(&self, domain: &str, missed: Missed) {
        if let Some(domain) = self.domains.get(domain) {
            domain.missed.add(missed as usize, 1);
        }
    }

    /// Rules that are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// All counters that there are: those of the rules in force, and of rules that are gone.
#[derive(Debug)]
pub(in crate::telemetry) struct Registry {
    stripes: Stripes,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    rules: HashMap<Path, Counted, RandomState>,
    domains: HashMap<Arc<str>, Arc<DomainMeter>, RandomState>,
}

/// A rule, by its domain and its path below that.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(in crate::telemetry) struct Path {
    pub(in crate::telemetry) domain: Arc<str>,
    pub(in crate::telemetry) rule: Arc<str>,
}

/// A rule's counters and their name with the reference.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Counted {
    pub(in crate::telemetry) meter: Arc<RuleMeter>,
    /// `None` if the reference counts the rule under names with request values.
    pub(in crate::telemetry) reference: Option<Arc<str>>,
}

/// Whether the reference's names are served.
pub(super) type Names<'s> = Option<&'s Series>;

impl Registry {
    pub(super) fn new(stripes: Stripes) -> Registry {
        Registry { stripes, known: Mutex::default() }
    }

    /// The counters for the rules of `matcher`. A rule that was there before keeps its counts.
    pub(super) fn meters(&self, matcher: &Matcher, names: Names<'_>) -> Meters {
        let mut known = self.lock();
        let rules = matcher.rules().iter().map(|rule| known.meter(rule, names, self.stripes)).collect();
        let domains =
            matcher.domains().into_iter().map(|domain| known.domain(domain, self.stripes)).collect();
        let meters = Meters { rules, domains };
        known.forget_retired();
        meters
    }

    /// Every rule that ever counted something or is in force, with its counters.
    pub(in crate::telemetry) fn rules(&self) -> Vec<(Path, Counted)> {
        let known = self.lock();
        known.rules.iter().map(|(path, counted)| (path.clone(), counted.clone())).collect()
    }

    /// Per domain: descriptors that no rule matched, and descriptors whose rule was replaced.
    pub(in crate::telemetry) fn missed(&self) -> Vec<(Arc<str>, [u64; 2])> {
        let known = self.lock();
        known.domains.iter().map(|(name, domain)| (name.clone(), domain.missed.sums())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn meter(&mut self, rule: &Rule, names: Names<'_>, stripes: Stripes) -> Metered {
        let (domain, path) = naming::domain_and_path(rule);
        let path = Path { domain: domain.into(), rule: path.into() };
        let series = names.filter(|_| naming::shows_values(&rule.metric));
        let name: Arc<str> = naming::without_values(rule).into();
        let valueless = series.map(|series| series.fixed(&name));
        let reference = valueless.is_none().then_some(name);
        Metered { meter: self.counted(path, reference, stripes), valueless }
    }

    fn counted(&mut self, path: Path, reference: Option<Arc<str>>, stripes: Stripes) -> Arc<RuleMeter> {
        match self.rules.entry(path) {
            Entry::Occupied(mut there) => {
                there.get_mut().reference = reference;
                there.get().meter.clone()
            }
            Entry::Vacant(place) => {
                let meter = Arc::new(RuleMeter::new(stripes));
                place.insert(Counted { meter: meter.clone(), reference });
                meter
            }
        }
    }

    fn domain(&mut self, name: &str, stripes: Stripes) -> (Arc<str>, Arc<DomainMeter>) {
        if let Some((name, domain)) = self.domains.get_key_value(name) {
            return (name.clone(), domain.clone());
        }
        let name: Arc<str> = name.into();
        let path = Path { domain: name.clone(), rule: OVERRIDE.into() };
        let mut reference = format!("{name}.{OVERRIDE}").into_bytes();
        naming::mend(&mut reference);
        let reference = String::from_utf8_lossy(&reference).into();
        let overrides = self.counted(path, Some(reference), stripes);
        let domain = Arc::new(DomainMeter { overrides, missed: Striped::new(stripes) });
        self.domains.insert(name.clone(), domain.clone());
        (name, domain)
    }

    /// Drops the counters that nobody can raise any more: those that counted nothing, and if there are too
    /// many, all of them. Only [`Meters`] and this map hold counters.
    fn forget_retired(&mut self) {
        self.domains.retain(|_, domain| !domain.is_retired() || domain.missed.sums() != [0, 0]);
        self.rules.retain(|_, counted| !counted.is_retired() || !counted.meter.tally().is_empty());
        let domains = self.domains.values().filter(|domain| domain.is_retired()).count();
        let rules = self.rules.values().filter(|counted| counted.is_retired()).count();
        if rules + domains > MAX_RETIRED {
            self.domains.retain(|_, domain| !domain.is_retired());
            self.rules.retain(|_, counted| !counted.is_retired());
        }
    }
}

impl Counted {
    fn is_retired(&self) -> bool {
        Arc::strong_count(&self.meter) == 1
    }
}

impl DomainMeter {
    fn is_retired(self: &Arc<DomainMeter>) -> bool {
        Arc::strong_count(self) == 1
    }
}
