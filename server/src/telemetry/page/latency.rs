//! How long calls and the store take.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::family::{Title, pair};
use crate::telemetry::metrics::{BOUNDS, Counts, Latencies, Reading};

/// The families of this file, and what they are called in OpenTelemetry.
pub(in crate::telemetry) const TITLES: [(&str, &str, &str); 3] = [
    (
        "rpc_server_call_duration_seconds",
        "rpc.server.call.duration",
        "how long gRPC calls take, by method and status",
    ),
    (
        "http_server_request_duration_seconds",
        "http.server.request.duration",
        "how long HTTP requests take, by method, route and status",
    ),
    (
        "tollgate_store_duration_seconds",
        "tollgate.store.duration",
        "how long a store that has to be waited for takes, by the first fault of its replies",
    ),
];

/// One histogram, with the names of OpenTelemetry.
pub(in crate::telemetry) struct Series {
    pub(in crate::telemetry) attributes: Vec<(&'static str, String)>,
    pub(in crate::telemetry) reading: Reading,
}

/// All histograms, in the order of [`TITLES`].
pub(in crate::telemetry) fn all(latencies: &Latencies) -> [Vec<Series>; 3] {
    let rpc = latencies.rpc().map(|(method, status, reading)| {
        let mut attributes = vec![
            ("rpc.method", method.to_owned()),
            ("rpc.response.status_code", status.to_owned()),
            ("rpc.system.name", "grpc".to_owned()),
        ];
        if status != "OK" {
            attributes.push(("error.type", status.to_owned()));
        }
        Series { attributes, reading }
    });
    let http = latencies.http().into_iter().map(|(call, reading)| {
        let attributes = vec![
            ("http.request.method", call.method.to_owned()),
            ("http.response.status_code", call.status.to_string()),
            ("http.route", call.route.to_owned()),
            ("url.scheme", "http".to_owned()),
        ];
        Series { attributes, reading }
    });
    let store = latencies
        .store()
        .map(|(result, reading)| Series { attributes: vec![("result", result.to_owned())], reading });
    [rpc.collect(), http.collect(), store.collect()]
}

/// Shows what was timed.
pub(super) struct Latency {
    counts: Arc<Counts>,
    /// What the registry knows this collector by.
    desc: Option<Desc>,
}

impl Latency {
    pub(super) fn new(counts: Arc<Counts>) -> Latency {
        let (name, _, help) = TITLES[0];
        let labels = ["rpc_method", "rpc_response_status_code"].map(ToOwned::to_owned).to_vec();
        Latency { counts, desc: Desc::new(name.to_owned(), help.to_owned(), labels, Default::default()).ok() }
    }
}

impl Collector for Latency {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(latencies) = self.counts.latencies.get() else { return Vec::new() };
        let families = TITLES.iter().zip(all(latencies)).filter(|(_, series)| !series.is_empty());
        let family = |((name, _, help), series): (&(&'static str, _, &'static str), Vec<Series>)| {
            let metrics = series.iter().map(metric).collect();
            Title { name, help }.family(MetricType::HISTOGRAM, metrics)
        };
        families.map(family).collect()
    }
}

fn metric(series: &Series) -> Metric {
    let labels = series.attributes.iter().filter(|(name, _)| *name != "error.type");
    let mut labels: Vec<LabelPair> =
        labels.map(|(name, value)| pair(&name.replace('.', "_"), value)).collect();
    labels.sort();
    let mut histogram = Histogram::default();
    histogram.set_sample_count(series.reading.count());
    histogram.set_sample_sum(series.reading.sum_seconds);
    let mut below = 0;
    let buckets = BOUNDS.iter().zip(series.reading.buckets).map(|(bound, fitting)| {
        below += fitting;
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(below);
        bucket.set_upper_bound(*bound as f64 / 1e6);
        bucket
    });
    histogram.set_bucket(buckets.collect());
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}
