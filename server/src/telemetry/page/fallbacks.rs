//! Answers that were given in place of the store's, by rule and cause.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::family::{Title, counter, pair};
use crate::telemetry::metrics::Counts;

const FALLBACKS: Title<'static> = Title {
    name: "tollgate_fallbacks_total",
    help: "descriptors that the store had no answer for, by rule, by cause, and by what was answered: error, \
           allow, deny, or this server's share of the limit",
};

/// Shows the rules that were ever answered for.
pub(super) struct Fallbacks {
    counts: Arc<Counts>,
    /// What the registry knows this collector by.
    desc: Option<Desc>,
}

impl Fallbacks {
    pub(super) fn new(counts: Arc<Counts>) -> Fallbacks {
        let labels = ["domain", "rule", "cause", "answer"].map(ToOwned::to_owned).to_vec();
        let desc =
            Desc::new(FALLBACKS.name.to_owned(), FALLBACKS.help.to_owned(), labels, Default::default());
        Fallbacks { counts, desc: desc.ok() }
    }
}

impl Collector for Fallbacks {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = self.counts.fallbacks.all().into_iter().map(|fallen| {
            let labels = vec![
                pair("answer", fallen.answer),
                pair("cause", fallen.cause),
                pair("domain", &fallen.path.domain),
                pair("rule", &fallen.path.rule),
            ];
            counter(labels, fallen.times)
        });
        let series: Vec<_> = series.collect();
        if series.is_empty() { Vec::new() } else { vec![FALLBACKS.family(MetricType::COUNTER, series)] }
    }
}
