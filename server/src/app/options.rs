//! What the settings mean to the parts of the server.

use std::time::Duration;

use crate::adapter::headers::{LimitHeaders, ResponseHeaders, Spelled};
use crate::adapter::rls::{Metadata, RlsOptions};
use crate::config::settings::{self, Settings};
use crate::telemetry::metrics::MetricOptions;
use crate::transport::ConnectionLimits;

pub(super) fn metric_options(settings: &Settings) -> MetricOptions {
    let metrics = &settings.metrics;
    #[expect(clippy::cast_possible_truncation, reason = "the reference computes with 32 bits")]
    let near_limit_ratio = metrics.near_limit_ratio as f32;
    MetricOptions {
        near_limit_ratio,
        reference_names: metrics.reference_names,
        stripes: worker_count(settings),
        response_time_as_milliseconds: metrics.response_time_as_milliseconds,
    }
}

pub(super) fn rls_options(settings: &Settings) -> anyhow::Result<RlsOptions> {
    let response = &settings.response;
    let spelled = |name: &settings::HeaderName| Spelled::new(name.as_str()).map_err(anyhow::Error::msg);
    let limits = if response.headers_enabled {
        Some(LimitHeaders {
            limit: spelled(&response.limit_header)?,
            remaining: spelled(&response.remaining_header)?,
            reset: spelled(&response.reset_header)?,
        })
    } else {
        None
    };
    let metadata = if response.dynamic_metadata { Metadata::On } else { Metadata::Off };
    Ok(RlsOptions { headers: ResponseHeaders { limits, retry_after: response.retry_after }, metadata })
}

pub(super) fn connection_limits(settings: &Settings) -> ConnectionLimits {
    let grpc = &settings.grpc;
    ConnectionLimits {
        max_age: unless_zero(grpc.max_connection_age),
        age_jitter_percent: grpc.max_connection_age_jitter_percent,
        age_grace: unless_zero(grpc.max_connection_age_grace),
        keepalive_interval: unless_zero(grpc.keepalive_interval),
        keepalive_timeout: grpc.keepalive_timeout,
        max_streams: grpc.max_concurrent_streams,
        max_header_bytes: grpc.max_header_bytes,
        stream_window: grpc.initial_stream_window_bytes,
        connection_window: grpc.initial_connection_window_bytes,
        head_timeout: unless_zero(settings.http.timeout),
        max_grpc: at_most(grpc.max_connections),
        max_http: at_most(settings.http.max_connections),
    }
}

/// Zero is no bound.
fn at_most(count: u32) -> Option<usize> {
    (count > 0).then_some(count as usize)
}

/// Zero switches a time off.
pub(super) fn unless_zero(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

/// As many workers as the settings say; by default one per core.
pub(super) fn worker_count(settings: &Settings) -> usize {
    match settings.grpc.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count.into(),
    }
}
