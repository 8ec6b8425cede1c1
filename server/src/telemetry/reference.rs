//! The reference's series, by its names, for dashboards and alerts that know no others.
//!
//! As with the reference, a series appears once it is not zero.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::meter::Tally;
use super::metrics::{Answered, Api, Counts, ErrorKind};
use super::page::family::{Title, counter, pair};

/// Labels of a rule's series: the beginning of its name with the reference, split at its dots.
const LABELS: [&str; 3] = ["domain", "key1", "key2"];
/// The only gRPC method that is counted.
const METHOD: (&str, &str) = ("grpc_method", "ShouldRateLimit");

type Figure = (&'static str, fn(&Tally) -> u64);

const OF_A_RULE: [Figure; 6] = [
    ("ratelimit_service_rate_limit_total_hits", |tally| tally.total_hits),
    ("ratelimit_service_rate_limit_over_limit", |tally| tally.over_limit),
    ("ratelimit_service_rate_limit_near_limit", |tally| tally.near_limit),
    ("ratelimit_service_rate_limit_within_limit", |tally| tally.within_limit),
    ("ratelimit_service_rate_limit_shadow_mode", |tally| tally.shadowed_hits),
    ("ratelimit_service_rate_limit_total_negative_hits", |tally| tally.refunded_hits),
];

/// Shows counters under the reference's names.
pub(super) struct Reference {
    counts: Arc<Counts>,
    /// What the registry knows this collector by.
    desc: Option<Desc>,
}

impl Reference {
    pub(super) fn new(counts: Arc<Counts>) -> Reference {
        let (name, help) = (OF_A_RULE[0].0.to_owned(), "hits".to_owned());
        let desc = Desc::new(name, help, LABELS.map(Into::into).to_vec(), Default::default()).ok();
        Reference { counts, desc }
    }

    /// What each series of a rule has counted, by the beginning of its name: rules whose names begin alike
    /// share a series.
    fn tallies(&self) -> BTreeMap<String, Tally> {
        let rules = self.counts.registry.rules().into_iter();
        let rules =
            rules.filter_map(|(_, counted)| Some((String::from(&*counted.reference?), counted.meter)));
        let series = self.counts.series.iter().flat_map(|series| series.all());
        let series = series.map(|(name, meter)| (String::from(name), meter));
        let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
        for (name, meter) in rules.chain(series) {
            let tally = tallies.entry(name).or_default();
            *tally = tally.plus(&meter.tally());
        }
        tallies
    }

    fn of_rules(&self) -> impl Iterator<Item = MetricFamily> {
        let tallies = self.tallies();
        OF_A_RULE.into_iter().map(move |(name, figure)| {
            let series = tallies.iter().map(|(name, tally)| (labels_of(name), figure(tally)));
            counters(name, series)
        })
    }

    fn of_requests(&self) -> [MetricFamily; 2] {
        let (mut requests, mut service, mut store) = (0, 0, 0);
        for requested in self.counts.requests.all() {
            let times = requested.times;
            requests += if requested.api == Api::Rls { times } else { 0 };
            match requested.answered {
                Answered::Error(ErrorKind::Service) if matches!(requested.api, Api::Rls | Api::Json) => {
                    service += times;
                }
                Answered::Error(ErrorKind::Store) if matches!(requested.api, Api::Rls | Api::Json) => {
                    store += times;
                }
                _ => {}
            }
        }
        let errors = [("redis_error", store), ("service_error", service)];
        let errors = errors.map(|(kind, times)| (vec![pair("err_type", kind)], times));
        [
            counters("ratelimit_service_should_rate_limit_error", errors),
            counters("ratelimit_service_total_requests", [(vec![pair(METHOD.0, METHOD.1)], requests)]),
        ]
    }

    fn response_time(&self) -> MetricFamily {
        let told = self.counts.durations.histogram();
        let mut histogram = prometheus::proto::Histogram::default();
        histogram.set_sample_count(told.count);
        histogram.set_sample_sum(told.sum);
        histogram.set_bucket(told.buckets.into_iter().map(bucket).collect());
        let mut metric = Metric::from_label(vec![pair(METHOD.0, METHOD.1)]);
        metric.set_histogram(histogram);
        let metrics = if told.count > 0 { vec![metric] } else { Vec::new() };
        family("ratelimit_service_response_time_seconds", MetricType::HISTOGRAM, metrics)
    }

    fn of_the_service(&self) -> [MetricFamily; 3] {
        let single = |name: &str, times: u64| counters(name, [(Vec::new(), times)]);
        let loads = &self.counts.loads;
        [
            single("ratelimit_service_config_load_success", loads.good.load(Relaxed)),
            single("ratelimit_service_config_load_error", loads.bad.load(Relaxed)),
            single("ratelimit_service_global_shadow_mode", self.counts.shadowed.sum(0)),
        ]
    }

    /// The reference has no label for the domain here: it is part of the name.
    fn of_unknown_domains(&self) -> Vec<MetricFamily> {
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        for (domain, times) in self.counts.unknown_domains.all() {
            let name = format!("ratelimit_service_rate_limit_{}_domain_not_found", escaped(&domain));
            *by_name.entry(name).or_default() += times;
        }
        by_name.into_iter().map(|(name, times)| counters(&name, [(Vec::new(), times)])).collect()
    }
}

impl Collector for Reference {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families: Vec<MetricFamily> = self.of_rules().collect();
        families.extend(self.of_requests());
        families.push(self.response_time());
        families.extend(self.of_the_service());
        families.extend(self.of_unknown_domains());
        families.extend(memory(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()));
        families
    }
}

fn labels_of(name: &str) -> Vec<LabelPair> {
    name.split('.').zip(LABELS).map(|(value, label)| pair(label, value)).collect()
}

fn bucket((bound, count): (f64, u64)) -> Bucket {
    let mut bucket = Bucket::default();
    bucket.set_upper_bound(bound);
    bucket.set_cumulative_count(count);
    bucket
}

/// A family of the counters that are not zero.
fn counters(name: &str, series: impl IntoIterator<Item = (Vec<LabelPair>, u64)>) -> MetricFamily {
    let series = series.into_iter().filter(|(_, times)| *times > 0);
    family(name, MetricType::COUNTER, series.map(|(labels, times)| counter(labels, times)).collect())
}

fn family(name: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    Title { name, help: "as envoyproxy/ratelimit counts it" }.family(kind, metrics)
}

/// A name as the statsd exporter writes it: anything but letters, digits and `_` becomes `_`.
fn escaped(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

/// The memory of this process by `/proc/self/status`; nothing where there is no such file.
fn memory(status: &str) -> impl Iterator<Item = MetricFamily> {
    let names = [("VmRSS:", "process_resident_memory_bytes"), ("VmSize:", "process_virtual_memory_bytes")];
    names.into_iter().filter_map(|(field, name)| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        let mut gauge = Gauge::default();
        gauge.set_value((kib * 1024) as f64);
        let title = Title { name, help: "memory of this process" };
        Some(title.family(MetricType::GAUGE, vec![Metric::from_gauge(gauge)]))
    })
}

#[cfg(test)]
mod tests;
