//! What is counted of each rule.
//!
//! Built by hand: with 5,000 rules, observable instruments take most of the time of a page, for hashing the
//! labels of 45,000 series that are known to differ.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::family::{Title, counter, pair};
use crate::telemetry::meter::Tally;
use crate::telemetry::metrics::{Counts, Path};

type Figure = (&'static str, fn(&Tally) -> u64);

/// Series that differ in one label.
struct Group {
    title: Title<'static>,
    /// The label in which they differ.
    label: &'static str,
    figures: &'static [Figure],
}

const DECISIONS: Group = Group {
    title: Title {
        name: "tollgate_decisions_total",
        help: "decisions by rule: allowed, refused, or allowed only because the rule is in shadow",
    },
    label: "outcome",
    figures: &[
        ("allowed", |tally| tally.allowed),
        ("refused", |tally| tally.refused),
        ("shadowed", |tally| tally.shadowed),
    ],
};

const HITS: Group = Group {
    title: Title {
        name: "tollgate_hits_total",
        help: "hits by rule and kind; a hit may be of several kinds",
    },
    label: "kind",
    figures: &[
        ("total", |tally| tally.total_hits),
        ("within_limit", |tally| tally.within_limit),
        ("near_limit", |tally| tally.near_limit),
        ("over_limit", |tally| tally.over_limit),
        ("shadowed", |tally| tally.shadowed_hits),
        ("refunded", |tally| tally.refunded_hits),
    ],
};

const UNCOUNTED: Title<'_> = Title {
    name: "tollgate_uncounted_total",
    help: "decisions by rule for keys that the store had no room for",
};

/// Shows the rules that counted anything.
pub(super) struct Rules {
    counts: Arc<Counts>,
    /// What the registry knows this collector by.
    desc: Option<Desc>,
}

impl Rules {
    pub(super) fn new(counts: Arc<Counts>) -> Rules {
        let Title { name, help } = DECISIONS.title;
        let labels = ["domain", "rule", DECISIONS.label].map(ToOwned::to_owned).to_vec();
        Rules { counts, desc: Desc::new(name.to_owned(), help.to_owned(), labels, Default::default()).ok() }
    }
}

impl Collector for Rules {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let rules = self.counts.registry.rules().into_iter();
        let tallies = rules.map(|(path, counted)| (path, counted.meter.tally()));
        let tallies: Vec<(Path, Tally)> = tallies.filter(|(_, tally)| !tally.is_empty()).collect();
        let uncounted = tallies.iter().filter(|(_, tally)| tally.full > 0).map(|(path, tally)| {
            counter(vec![pair("domain", &path.domain), pair("rule", &path.rule)], tally.full)
        });
        vec![
            DECISIONS.family(&tallies),
            HITS.family(&tallies),
            UNCOUNTED.family(MetricType::COUNTER, uncounted.collect()),
        ]
    }
}

impl Group {
    fn family(&self, tallies: &[(Path, Tally)]) -> MetricFamily {
        let series = tallies.iter().flat_map(|(path, tally)| self.series(path, tally));
        self.title.family(MetricType::COUNTER, series.collect())
    }

    fn series(&self, path: &Path, tally: &Tally) -> impl Iterator<Item = Metric> {
        self.figures.iter().map(|(value, figure)| {
            let labels =
                vec![pair("domain", &path.domain), pair(self.label, value), pair("rule", &path.rule)];
            counter(labels, figure(tally))
        })
    }
}
