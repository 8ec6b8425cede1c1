//! What is counted, followed and sent, as the settings say.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::options::unless_zero;
use crate::config::settings::{self, OtlpProtocol, Settings, TraceSampler};
use crate::telemetry::calls::Calls;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp::{self, Endpoint, Exporter, OtlpOptions, Protocol, Resource, Target};
use crate::telemetry::trace::{Sampler, TraceOptions};

/// Time for the last messages besides their own timeout.
const LEAVE: Duration = Duration::from_secs(1);

/// What watches calls, and what sends.
pub(super) struct Telemetry {
    calls: Calls,
    stop: CancellationToken,
    sending: Option<JoinHandle<()>>,
    timeout: Duration,
}

impl Telemetry {
    /// Begins to send, if there is a collector.
    pub(super) fn start(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<Telemetry> {
        let telemetry = &settings.telemetry;
        if settings.metrics.durations {
            metrics.time_calls();
        }
        metrics.log_refusals(settings.log.refusals);
        let stop = CancellationToken::new();
        let (mut tracer, mut sending) = (None, None);
        if let Some(options) = options(telemetry)? {
            let (exporter, its_tracer) = Exporter::new(options, metrics.clone());
            tracer = its_tracer;
            sending = Some(tokio::spawn(exporter.run(stop.clone())));
        }
        let calls = Calls::new(metrics.clone(), tracer);
        Ok(Telemetry { calls, stop, sending, timeout: telemetry.otlp.timeout + LEAVE })
    }

    /// What watches calls: one for each worker, so that cores share nothing for it.
    pub(super) fn calls(&self) -> Arc<Calls> {
        Arc::new(self.calls.clone())
    }

    /// Sends what is left.
    pub(super) async fn finish(&mut self) {
        self.stop.cancel();
        let Some(sending) = self.sending.take() else { return };
        if tokio::time::timeout(self.timeout, sending).await.is_err() {
            tracing::warn!("the collector did not take the last telemetry in time");
        }
    }
}

/// What to send; `None` if nothing.
fn options(telemetry: &settings::Telemetry) -> anyhow::Result<Option<OtlpOptions>> {
    let settings::Telemetry { disabled, service_name, resource_attributes, otlp, traces } = telemetry;
    if *disabled || otlp.endpoint.is_empty() {
        return Ok(None);
    }
    let attributes = otlp::pairs(resource_attributes).map_err(anyhow::Error::msg)?;
    Ok(Some(OtlpOptions {
        target: target(otlp)?,
        resource: Resource::new(service_name, &attributes),
        metrics_every: unless_zero(otlp.metrics_interval),
        traces: sampler(traces).map(|sampler| TraceOptions {
            sampler,
            queue: traces.queue as usize,
            shows_values: traces.descriptors,
        }),
    }))
}

fn sampler(traces: &settings::Traces) -> Option<Sampler> {
    Some(match traces.sampler {
        TraceSampler::AlwaysOff => return None,
        TraceSampler::AlwaysOn => Sampler::new(1.0, false),
        TraceSampler::Ratio => Sampler::new(traces.ratio, false),
        TraceSampler::ParentOrOn => Sampler::new(1.0, true),
        TraceSampler::ParentOrOff => Sampler::new(0.0, true),
        TraceSampler::ParentOrRatio => Sampler::new(traces.ratio, true),
    })
}

fn target(otlp: &settings::Otlp) -> anyhow::Result<Target> {
    let endpoint = Endpoint::read(&otlp.endpoint).map_err(anyhow::Error::msg)?;
    let protocol = match otlp.protocol {
        OtlpProtocol::Grpc => Protocol::Grpc,
        OtlpProtocol::Http => Protocol::Http,
    };
    let headers = otlp::headers(otlp.headers.reveal()).map_err(anyhow::Error::msg)?;
    let tls = if endpoint.is_secure() { Some(Arc::new(tls(&otlp.tls_ca, protocol)?)) } else { None };
    Ok(Target { endpoint, protocol, headers, timeout: otlp.timeout, tls })
}

fn tls(authorities: &str, protocol: Protocol) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if authorities.is_empty() {
        let (_, _useless) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let cannot = || format!("telemetry.otlp.tls_ca: cannot read {authorities}");
        for certificate in CertificateDer::pem_file_iter(authorities).with_context(cannot)? {
            roots.add(certificate.with_context(cannot)?).with_context(cannot)?;
        }
    }
    anyhow::ensure!(!roots.is_empty(), "telemetry.otlp.tls_ca: there are no authorities to trust");
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions()?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    let spoken: &[u8] = if protocol == Protocol::Grpc { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![spoken.to_vec()];
    Ok(config)
}
