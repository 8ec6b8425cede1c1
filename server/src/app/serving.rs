//! The workers, and the services that each of them has.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::options::{connection_limits, rls_options, unless_zero, worker_count};
use super::overload::beside;
use super::{Parts, breaker, native};
use crate::adapter::http::{self, Codec, HttpLimits, HttpState};
use crate::adapter::native::NativeService;
use crate::adapter::rls::RlsService;
use crate::breaker::Breakers;
use crate::config::settings::{self, Settings};
use crate::overload::Overload;
use crate::telemetry::metrics::{Authorities, Metrics};
use crate::transport::authority;
use crate::transport::{GrpcService, Guard, Listener, Protocol, Refusals, Services, Workers, accept};

/// The workers and what makes them leave.
pub(super) struct Serving {
    workers: Arc<Workers>,
    stop_accepting: CancellationToken,
    drain: CancellationToken,
}

pub(super) type Accepting = [JoinHandle<()>; 2];

impl Serving {
    pub(super) fn start(
        settings: &Settings,
        parts: &Parts,
        breakers: &Arc<Breakers>,
        (overload, guard): (&Overload, &Guard),
    ) -> anyhow::Result<Serving> {
        let drain = CancellationToken::new();
        let others = Routes::new(parts.health_service.clone())
            .add_service(native::admin(settings, &parts.engine))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let native = native::service(settings, &parts.engine);
        let others = breaker::add(others, breakers, settings.grpc.max_message_bytes as usize);
        let http = HttpOptions::of(settings)?;
        let rls = Arc::new(rls_options(settings)?);
        let authorities = watched_authorities(&parts.metrics);
        let services = || {
            let rls = RlsService::new(parts.engine.clone(), rls.clone());
            let gate = overload.gate();
            let native = native.clone().behind(gate.clone());
            let max_message_bytes = settings.grpc.max_message_bytes as usize;
            let calls = parts.telemetry.calls();
            let grpc = GrpcService::new(rls.clone(), native.clone(), max_message_bytes, others.clone());
            let grpc = grpc.watched_by(calls.clone());
            let (authorities, metrics) = (authorities.clone(), parts.metrics.clone());
            let warm = beside(&gate, parts.stores.clone().warm());
            let guard = guard.clone();
            let http = http::watched(http.routes(parts, rls, native.clone()), calls);
            Services { grpc, http, authorities, metrics, warm, guard }
        };
        let limits = connection_limits(settings);
        let workers =
            Workers::start(worker_count(settings), services, &limits, &drain, settings.shutdown.grace)?;
        Ok(Serving { workers: Arc::new(workers), stop_accepting: CancellationToken::new(), drain })
    }

    /// Connections that found no room.
    pub(super) fn refusals(&self) -> Refusals {
        self.workers.refusals()
    }

    pub(super) fn accept(&self, grpc: Listener, http: Listener) -> Accepting {
        [(grpc, Protocol::Grpc), (http, Protocol::Http)].map(|(listener, protocol)| {
            let (workers, stop) = (self.workers.clone(), self.stop_accepting.clone());
            tokio::spawn(async move { accept(listener, protocol, &workers, stop).await })
        })
    }

    /// Closes the listeners, asks every connection to end, and waits until all have.
    pub(super) async fn finish(self, accepting: Accepting) -> anyhow::Result<()> {
        self.stop_accepting.cancel();
        for task in accepting {
            task.await?;
        }
        self.drain.cancel();
        if let Some(workers) = Arc::into_inner(self.workers) {
            tokio::task::spawn_blocking(move || workers.join()).await?;
        }
        Ok(())
    }
}

struct HttpOptions {
    codec: Arc<Codec>,
    auth: Arc<settings::Auth>,
    limits: HttpLimits,
}

impl HttpOptions {
    fn of(settings: &Settings) -> anyhow::Result<HttpOptions> {
        let max_body_bytes = settings.http.max_body_bytes as usize;
        let limits = HttpLimits { max_body_bytes, timeout: unless_zero(settings.http.timeout) };
        Ok(HttpOptions { codec: Arc::new(Codec::new()?), auth: Arc::new(settings.auth.clone()), limits })
    }

    fn routes(&self, parts: &Parts, rls: RlsService, native: NativeService) -> Router {
        let state = HttpState {
            engine: parts.engine.clone(),
            rls,
            native,
            codec: self.codec.clone(),
            health: parts.health.clone(),
            timeout: self.limits.timeout,
            auth: self.auth.clone(),
        };
        http::routes(state, self.limits)
    }
}

/// The counts of the authority filters, which the metrics page shows.
fn watched_authorities(metrics: &Metrics) -> Arc<authority::Counts> {
    let counts = Arc::new(authority::Counts::default());
    let watched = counts.clone();
    metrics.watch_authorities(move || Authorities {
        mended: watched.mended.load(Relaxed),
        reencoded: watched.reencoded.load(Relaxed),
        stopped: watched.stopped.load(Relaxed),
    });
    counts
}

fn reflection<'b>() -> tonic_reflection::server::Builder<'b> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tollgate_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
