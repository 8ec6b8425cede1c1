//! The metrics page as messages: the same series with the same figures, under the names of OpenTelemetry.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, exemplar, number_data_point,
};
use prometheus::proto::{self, MetricFamily, MetricType};

use super::resource::{Resource, said, scope, text};
use super::{nanos, unix_nanos};
use crate::telemetry::metrics::{BOUNDS, Metrics};
use crate::telemetry::page::{LATENCIES, Series, dotted, latencies};
use crate::telemetry::trace::Said;

/// Most points of one message: collectors take 4 MiB unless told otherwise.
const MAX_POINTS: usize = 5_000;
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// From when to when the figures are.
#[derive(Clone, Copy)]
struct Times {
    since: u64,
    now: u64,
}

/// Everything as it is now, in messages that a collector takes; counted since `since`, in nanoseconds of Unix time.
pub(super) fn messages(
    metrics: &Metrics,
    resource: &Resource,
    since: u64,
) -> Vec<ExportMetricsServiceRequest> {
    let times = Times { since, now: unix_nanos() };
    let names = dotted();
    let families = metrics.families();
    let timed = |family: &&MetricFamily| LATENCIES.iter().any(|(name, _, _)| *name == family.name());
    let shown = families.iter().filter(|family| !timed(family)).flat_map(|family| {
        let name = names.get(family.name()).copied().unwrap_or(family.name());
        let chunks = family.get_metric().chunks(MAX_POINTS);
        chunks.map(move |part| (part.len(), converted(family, part, name, times))).collect::<Vec<_>>()
    });
    let timed = metrics.counts().latencies.get().map(|all| durations(latencies(all), times));
    pack(shown.chain(timed.unwrap_or_default()), resource)
}

/// Fills messages up to [`MAX_POINTS`] each.
fn pack(
    metrics: impl Iterator<Item = (usize, Metric)>,
    resource: &Resource,
) -> Vec<ExportMetricsServiceRequest> {
    let mut messages: Vec<(usize, Vec<Metric>)> = Vec::new();
    for (points, metric) in metrics {
        match messages.last_mut() {
            Some((filled, message)) if *filled + points <= MAX_POINTS => {
                *filled += points;
                message.push(metric);
            }
            _ => messages.push((points, vec![metric])),
        }
    }
    messages.into_iter().map(|(_, metrics)| message(metrics, resource)).collect()
}

fn message(metrics: Vec<Metric>, resource: &Resource) -> ExportMetricsServiceRequest {
    let scope_metrics = ScopeMetrics { scope: Some(scope()), metrics, schema_url: String::new() };
    let resource_metrics = ResourceMetrics {
        resource: Some(resource.message()),
        scope_metrics: vec![scope_metrics],
        schema_url: String::new(),
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
}

fn converted(family: &MetricFamily, part: &[proto::Metric], name: &str, times: Times) -> Metric {
    let point = |metric: &proto::Metric, value: f64| NumberDataPoint {
        attributes: attributes(metric),
        start_time_unix_nano: times.since,
        time_unix_nano: times.now,
        value: Some(number(value)),
        ..NumberDataPoint::default()
    };
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: part.iter().map(|metric| point(metric, metric.get_counter().get_value())).collect(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: part.iter().map(|metric| histogram(metric, times)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
        _ => Data::Gauge(Gauge {
            data_points: part.iter().map(|metric| point(metric, metric.get_gauge().get_value())).collect(),
        }),
    };
    Metric {
        name: name.to_owned(),
        description: family.help().to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn attributes(metric: &proto::Metric) -> Vec<KeyValue> {
    metric.get_label().iter().map(|label| text(label.name(), label.value())).collect()
}

/// The page's figures are floats; those that count are whole.
#[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
fn number(value: f64) -> number_data_point::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        number_data_point::Value::AsInt(value as i64)
    } else {
        number_data_point::Value::AsDouble(value)
    }
}

/// A histogram of the page, whose buckets are cumulative.
fn histogram(metric: &proto::Metric, times: Times) -> HistogramDataPoint {
    let histogram = metric.get_histogram();
    let buckets = histogram.get_bucket();
    let total = histogram.get_sample_count();
    let ends = buckets.iter().map(proto::Bucket::cumulative_count).chain([total]);
    let mut below = 0;
    let bucket_counts = ends.map(|end| end.saturating_sub(std::mem::replace(&mut below, end))).collect();
    HistogramDataPoint {
        attributes: attributes(metric),
        start_time_unix_nano: times.since,
        time_unix_nano: times.now,
        count: total,
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds: buckets.iter().map(proto::Bucket::upper_bound).collect(),
        ..HistogramDataPoint::default()
    }
}

/// What was timed: with exemplars, which the page has no room for.
fn durations(all: [Vec<Series>; 3], times: Times) -> Vec<(usize, Metric)> {
    let families = LATENCIES.iter().zip(all).filter(|(_, series)| !series.is_empty());
    let metric = |((_, name, help), series): (&(&str, &str, &str), Vec<Series>)| {
        let data_points: Vec<_> = series.iter().map(|series| duration(series, times)).collect();
        let metric = Metric {
            name: (*name).to_owned(),
            description: (*help).to_owned(),
            unit: "s".to_owned(),
            data: Some(Data::Histogram(Histogram { data_points, aggregation_temporality: CUMULATIVE })),
            ..Metric::default()
        };
        (series.len(), metric)
    };
    families.map(metric).collect()
}

/// The conventions want this one as a number.
fn typed(name: &str, value: &str) -> KeyValue {
    match value.parse() {
        Ok(status) if name == "http.response.status_code" => said(name, &Said::Whole(status)),
        _ => text(name, value),
    }
}

fn duration(series: &Series, times: Times) -> HistogramDataPoint {
    let exemplars = series.reading.exemplar.map(|example| Exemplar {
        time_unix_nano: nanos(example.at),
        trace_id: example.trace.to_vec(),
        span_id: example.span.to_vec(),
        value: Some(exemplar::Value::AsDouble(example.took.as_secs_f64())),
        ..Exemplar::default()
    });
    HistogramDataPoint {
        attributes: series.attributes.iter().map(|(name, value)| typed(name, value)).collect(),
        start_time_unix_nano: times.since,
        time_unix_nano: times.now,
        count: series.reading.count(),
        sum: Some(series.reading.sum_seconds),
        bucket_counts: series.reading.buckets.to_vec(),
        explicit_bounds: BOUNDS.iter().map(|bound| *bound as f64 / 1e6).collect(),
        exemplars: exemplars.into_iter().collect(),
        ..HistogramDataPoint::default()
    }
}
