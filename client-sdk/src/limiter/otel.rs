//! The client's counters as OpenTelemetry instruments.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::RateLimiterClient;
use super::metrics::{Counters, LimiterMetrics};

impl RateLimiterClient {
    /// Shows the client's counters as instruments of `meter`, read whenever they are collected:
    /// `tollgate.client.decisions` (by `source` and `allowed`), `tollgate.client.errors` (by `reason`),
    /// `tollgate.client.connects` (by `outcome`) and `tollgate.client.lease.tokens` (by `event`).
    pub fn instrument(&self, meter: &Meter) {
        let counters = &self.core.counters;
        counter(meter, "tollgate.client.decisions", counters, decisions);
        counter(meter, "tollgate.client.errors", counters, errors);
        counter(meter, "tollgate.client.connects", counters, connects);
        counter(meter, "tollgate.client.lease.tokens", counters, tokens);
    }
}

type Values = Vec<(u64, Vec<KeyValue>)>;

fn counter(
    meter: &Meter,
    name: &'static str,
    counters: &Arc<Counters>,
    values: fn(&LimiterMetrics) -> Values,
) {
    let counters = counters.clone();
    let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
        for (value, labels) in values(&counters.snapshot()) {
            observer.observe(value, &labels);
        }
    };
    // the meter keeps the instrument
    let _kept = meter.u64_observable_counter(name).with_callback(observe).build();
}

fn decisions(metrics: &LimiterMetrics) -> Values {
    let by_source = metrics.decisions.iter().flat_map(|count| {
        let labels =
            |allowed| vec![KeyValue::new("source", count.source.name()), KeyValue::new("allowed", allowed)];
        [(count.allowed, labels(true)), (count.refused, labels(false))]
    });
    by_source.collect()
}

fn errors(metrics: &LimiterMetrics) -> Values {
    metrics.errors.iter().map(|&(reason, count)| (count, vec![KeyValue::new("reason", reason)])).collect()
}

fn connects(metrics: &LimiterMetrics) -> Values {
    let (all, failed) = (metrics.connects, metrics.connect_failures);
    // the two are counted one after the other, so that for a moment there may be more failures
    outcomes("outcome", [("connected", all.saturating_sub(failed)), ("failed", failed)])
}

fn tokens(metrics: &LimiterMetrics) -> Values {
    outcomes("event", [("granted", metrics.leased_tokens), ("returned", metrics.returned_tokens)])
}

fn outcomes(label: &'static str, values: [(&'static str, u64); 2]) -> Values {
    values.into_iter().map(|(value, count)| (count, vec![KeyValue::new(label, value)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_labels() {
        let metrics = Counters::default().snapshot();
        assert_eq!(decisions(&metrics).len(), 12);
        assert_eq!(errors(&metrics).len(), metrics.errors.len());
        let failed = LimiterMetrics { connects: 3, connect_failures: 1, ..metrics };
        let values = connects(&failed);
        assert_eq!(values[0], (2, vec![KeyValue::new("outcome", "connected")]));
        assert_eq!(values[1], (1, vec![KeyValue::new("outcome", "failed")]));
    }
}
