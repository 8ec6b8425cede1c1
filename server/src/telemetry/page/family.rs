//! Building series for the page without a detour through instruments.

use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

/// What a family of series is called, and what it means.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Title<'t> {
    pub(in crate::telemetry) name: &'t str,
    pub(in crate::telemetry) help: &'t str,
}

impl Title<'_> {
    pub(in crate::telemetry) fn family(self, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        family
    }
}

pub(in crate::telemetry) fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

pub(in crate::telemetry) fn counter(labels: Vec<LabelPair>, times: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(times as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}
