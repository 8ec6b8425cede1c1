//! The metrics page, in Prometheus' text format.

mod breakers;
mod exports;
mod fallbacks;
pub(super) mod family;
mod instruments;
mod latency;
mod leases;
mod overload;
mod ports;
mod remote;
mod rules;
mod xds;

use std::sync::Arc;

use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use self::fallbacks::Fallbacks;
pub(super) use self::instruments::dotted;
use self::latency::Latency;
pub(super) use self::latency::{Series, TITLES as LATENCIES, all as latencies};
use self::rules::Rules;
use super::metrics::Counts;
use super::reference::Reference;

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Most series of one instrument: enough for any number of domains.
const MAX_SERIES: usize = 200_000;

/// The metrics page.
#[derive(Debug)]
pub struct Page {
    registry: Registry,
    /// Its instruments are read whenever the registry is.
    _provider: SdkMeterProvider,
}

impl Page {
    /// A page that shows `counts` as they are whenever it is rendered.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a new registry takes collectors with different names")]
    pub(super) fn new(counts: &Arc<Counts>) -> Page {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .expect("the registry is empty");
        let provider = SdkMeterProvider::builder().with_reader(exporter).with_view(many_series).build();
        instruments::register(&provider, counts);
        registry.register(Box::new(Rules::new(counts.clone()))).expect("the names do not overlap");
        registry.register(Box::new(Fallbacks::new(counts.clone()))).expect("the names do not overlap");
        registry.register(Box::new(Latency::new(counts.clone()))).expect("the names do not overlap");
        if counts.series.is_some() {
            let reference = Reference::new(counts.clone());
            registry.register(Box::new(reference)).expect("the names do not overlap");
        }
        Page { registry, _provider: provider }
    }

    /// Everything that the page shows, as it is now.
    #[must_use]
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// The page as it is now.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.families()).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot render metrics");
            String::new()
        })
    }
}

/// The default of 2,000 series an instrument would hide all further domains.
fn many_series(_: &Instrument) -> Option<Stream> {
    Stream::builder().with_cardinality_limit(MAX_SERIES).build().ok()
}

#[cfg(test)]
mod tests;
