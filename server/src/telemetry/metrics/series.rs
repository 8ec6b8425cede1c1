//! Series of the reference whose names come from requests: bounded, whatever is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::telemetry::meter::{RuleMeter, Striped, Stripes};

/// Most series whose name shows request values.
const MAX_SERIES: usize = 5_000;
/// Longest name that gets a series of its own.
const MAX_NAME: usize = 512;
/// Most unknown domains that are counted by name.
const MAX_DOMAINS: usize = 100;
/// Longest unknown domain that is counted by name.
const MAX_DOMAIN: usize = 255;
/// Name of all other unknown domains.
const OTHER: &str = "other";

/// A place for a limited number of things.
#[derive(Debug)]
struct Places {
    taken: AtomicUsize,
    most: usize,
}

impl Places {
    fn new(most: usize) -> Places {
        Places { taken: AtomicUsize::new(0), most }
    }

    fn take(&self) -> bool {
        self.taken.load(Relaxed) < self.most && self.taken.fetch_add(1, Relaxed) < self.most
    }
}

/// The reference's series of rules whose name shows request values, by name.
#[derive(Debug)]
pub(in crate::telemetry) struct Series {
    stripes: Stripes,
    places: Places,
    meters: DashMap<Box<str>, Arc<RuleMeter>, RandomState>,
}

impl Series {
    pub(super) fn new(stripes: Stripes) -> Series {
        Series { stripes, places: Places::new(MAX_SERIES), meters: DashMap::default() }
    }

    /// The series of `name`, which comes from configuration: there is always room.
    pub(super) fn fixed(&self, name: &str) -> Arc<RuleMeter> {
        let meter = || Arc::new(RuleMeter::new(self.stripes));
        self.meters.entry(name.into()).or_insert_with(meter).clone()
    }

    /// Lets `count` raise the series of `name`, or `valueless` if there is no room for one more.
    pub(super) fn count(&self, name: &[u8], valueless: &RuleMeter, count: impl FnOnce(&RuleMeter)) {
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME) else {
            return count(valueless);
        };
        if let Some(meter) = self.meters.get(name) {
            return count(&meter);
        }
        if self.places.take() { count(&self.fixed(name)) } else { count(valueless) }
    }

    /// Every series.
    pub(in crate::telemetry) fn all(&self) -> Vec<(Box<str>, Arc<RuleMeter>)> {
        self.meters.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }
}

/// Descriptors of domains that no file names.
#[derive(Debug)]
pub(in crate::telemetry) struct UnknownDomains {
    stripes: Stripes,
    places: Places,
    by_name: DashMap<Box<str>, Striped<1>, RandomState>,
    other: Striped<1>,
}

impl UnknownDomains {
    pub(super) fn new(stripes: Stripes) -> UnknownDomains {
        UnknownDomains {
            stripes,
            places: Places::new(MAX_DOMAINS),
            by_name: DashMap::default(),
            other: Striped::new(stripes),
        }
    }

    pub(super) fn count(&self, domain: &str, descriptors: u64) {
        if let Some(counter) = self.by_name.get(domain) {
            return counter.add(0, descriptors);
        }
        if domain.len() > MAX_DOMAIN || !self.places.take() {
            return self.other.add(0, descriptors);
        }
        let counter = self.by_name.entry(domain.into()).or_insert_with(|| Striped::new(self.stripes));
        counter.add(0, descriptors);
    }

    /// Descriptors by domain, the domains without a counter of their own as `other`.
    pub(in crate::telemetry) fn all(&self) -> Vec<(Box<str>, u64)> {
        let mut all: Vec<_> = self.by_name.iter().map(|entry| (entry.key().clone(), entry.sum(0))).collect();
        let other = self.other.sum(0);
        if other > 0 {
            all.push((OTHER.into(), other));
        }
        all.sort_unstable();
        all
    }

    /// Descriptors of all unknown domains.
    pub(in crate::telemetry) fn total(&self) -> u64 {
        self.by_name.iter().fold(self.other.sum(0), |total, entry| total.wrapping_add(entry.sum(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::meter::Count;

    fn stripes() -> Stripes {
        Stripes::for_threads(2)
    }

    fn one(meter: &RuleMeter) {
        meter.mine().add(Count::Allowed, 1);
    }

    #[test]
    fn series_are_bounded_and_the_rest_counts_without_values() {
        let series = Series::new(stripes());
        let valueless = series.fixed("d.k");
        for value in 0..MAX_SERIES + 7 {
            series.count(format!("d.k_{value}").as_bytes(), &valueless, one);
        }
        assert_eq!(series.all().len(), MAX_SERIES + 1);
        assert_eq!(valueless.tally().allowed, 7);
        series.count(b"d.k_1", &valueless, one);
        assert_eq!(series.fixed("d.k_1").tally().allowed, 2);
    }

    #[test]
    fn a_name_without_bounds_or_meaning_gets_no_series() {
        let series = Series::new(stripes());
        let valueless = series.fixed("d.k");
        series.count(&[b'x'; MAX_NAME + 1], &valueless, one);
        series.count(&[0xff], &valueless, one);
        assert_eq!((series.all().len(), valueless.tally().allowed), (1, 2));
    }

    #[test]
    fn unknown_domains_are_bounded_too() {
        let domains = UnknownDomains::new(stripes());
        for domain in 0..MAX_DOMAINS + 3 {
            domains.count(&domain.to_string(), 2);
        }
        domains.count("0", 1);
        let all = domains.all();
        assert_eq!(all.len(), MAX_DOMAINS + 1);
        assert!(all.contains(&("0".into(), 3)) && all.contains(&("other".into(), 6)));
        assert_eq!(domains.total(), 2 * (MAX_DOMAINS as u64 + 3) + 1);
    }
}
