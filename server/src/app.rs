//! Wiring: one function per part, in the order in which they are needed.

mod breaker;
mod native;
mod store;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tollgate_core::rules::Defaults;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use self::store::Stores;
use crate::adapter::headers::{LimitHeaders, ResponseHeaders, Spelled};
use crate::adapter::http::{self, Codec, HttpLimits, HttpState};
use crate::adapter::native::NativeService;
use crate::adapter::rls::{Metadata, RlsOptions, RlsService};
use crate::admin::{self, Admin, Writes};
use crate::breaker::Breakers;
use crate::clock::{Clock, SystemClock};
use crate::config::location::Location;
use crate::config::settings::{self, Effective, Settings};
use crate::config::watch::{ConfigState, Loader};
use crate::engine::Engine;
use crate::health::Health;
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::{Authorities, MetricOptions, Metrics};
use crate::transport::authority;
use crate::transport::{Bound, ConnectionLimits, GrpcService, Listener, Protocol, Services, Workers, accept};

type GrpcHealth = HealthServer<HealthService>;

/// The sockets of a server, bound before anything else starts.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC
    pub grpc: Listener,
    /// HTTP
    pub http: Listener,
    /// Admin
    pub admin: Listener,
    /// A second place for the metrics page, if it is wanted.
    pub metrics: Option<Listener>,
}

/// What a test or an embedder gives to a server besides its settings.
pub struct App {
    /// The settings in effect.
    pub effective: Effective,
    /// The sockets.
    pub listeners: Listeners,
    /// The clock that rules every key.
    pub clock: Arc<dyn Clock>,
    /// Changes the log level at run time.
    pub log: LogHandle,
    /// Each message loads the rules again.
    pub reload: Receiver<()>,
}

impl Listeners {
    /// Binds every socket that the settings ask for.
    ///
    /// # Errors
    /// One cannot be bound; the message says which and why.
    pub async fn bind(settings: &Settings) -> anyhow::Result<Listeners> {
        let grpc = match &settings.grpc.uds {
            Some(path) => named(Listener::unix(path).await, "gRPC", &path.display().to_string())?,
            None => tcp("gRPC", &settings.grpc.host.with_port(settings.grpc.port)).await?,
        };
        let http = tcp("HTTP", &settings.http.host.with_port(settings.http.port)).await?;
        let admin = tcp("admin", &settings.admin.host.with_port(settings.admin.port)).await?;
        let metrics = match settings.metrics.prometheus_addr.listen() {
            None => None,
            Some((host, port)) => Some(tcp("metrics", &host.with_port(port)).await?),
        };
        Ok(Listeners { grpc, http, admin, metrics })
    }
}

async fn tcp(what: &str, address: &str) -> anyhow::Result<Listener> {
    named(Listener::tcp(address).await, what, address)
}

fn named(bound: io::Result<Listener>, what: &str, address: &str) -> anyhow::Result<Listener> {
    bound.map_err(|error| anyhow::anyhow!("cannot listen on {address} for {what}: {error}"))
}

impl App {
    /// An app on the machine's clock.
    #[must_use]
    pub fn new(effective: Effective, listeners: Listeners, log: LogHandle, reload: Receiver<()>) -> App {
        App { effective, listeners, clock: Arc::new(SystemClock), log, reload }
    }
}

/// Serves until `shutdown` completes, then drains and returns.
///
/// # Errors
/// What is needed at the start cannot be had. Once it serves, it does not fail.
pub async fn run(app: App, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let App { effective, listeners, clock, log, reload } = app;
    let settings = effective.settings.clone();
    let parts = Parts::build(&effective, clock)?;
    let background = CancellationToken::new();
    parts.stores.meet(&settings.store.redis, &parts.health).await?;
    let redis = parts.stores.redis();
    let breakers = breaker::build(&settings, redis, &listeners.grpc, &*parts.clock).await?;
    parts.metrics.watch_breakers({
        let breakers = breakers.clone();
        move || breakers.figures()
    });
    parts.load_rules(&background, reload).await;
    spawn(&background, breakers.clone().keep());

    let serving = Serving::start(&settings, &parts, &breakers)?;
    tracing::info!("{}", parts.stores.describe());
    announce(&settings, &listeners)?;
    let writes = Writes::with(settings.admin.token.reveal());
    let admin = admin::routes(parts.admin(log, writes, &breakers));
    spawn_web(&background, listeners.admin, admin)?;
    if let Some(listener) = listeners.metrics {
        let page = admin::metrics_routes(parts.metrics.clone(), &settings.metrics.prometheus_path);
        spawn_web(&background, listener, page)?;
    }
    let accepting = serving.accept(listeners.grpc, listeners.http);

    tokio::select! {
        () = shutdown => {}
        error = parts.stores.follow(&settings.store.redis, &parts.health) => return Err(error),
    }
    tracing::info!(delay = ?settings.shutdown.drain_delay, "shutting down: no longer ready");
    parts.health.drain().await;
    tokio::time::sleep(settings.shutdown.drain_delay).await;
    parts.health.end_watches().await;
    breakers.close();
    serving.finish(accepting).await?;
    background.cancel();
    parts.stores.leave().await;
    tracing::info!("all calls finished");
    Ok(())
}

/// What every port needs.
struct Parts {
    loader: Loader,
    metrics: Arc<Metrics>,
    stores: Arc<Stores>,
    engine: Arc<Engine>,
    health: Arc<Health>,
    health_service: GrpcHealth,
    state: Arc<ConfigState>,
    clock: Arc<dyn Clock>,
}

impl Parts {
    fn build(effective: &Effective, clock: Arc<dyn Clock>) -> anyhow::Result<Parts> {
        let settings = &effective.settings;
        let location = Location::of(effective).map_err(anyhow::Error::msg)?;
        let metrics = Arc::new(Metrics::new(metric_options(settings)));
        let stores = Arc::new(Stores::build(settings, worker_count(settings), &clock)?);
        metrics.watch_store(stores.store.clone());
        let (store, fallback) = (stores.store.clone(), stores.fallback.clone());
        let engine = Arc::new(Engine::new(store, fallback, clock.clone(), metrics.clone()));
        let reporter = HealthReporter::new();
        let health_service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let health = Arc::new(Health::new(settings.rules.require_for_health, reporter));
        let state = Arc::new(ConfigState::default());
        let defaults = Defaults {
            shadow: settings.mode.shadow,
            alternative: settings.mode.quota,
            layout: store::layout(settings.store.redis.layout),
        };
        let loader = Loader {
            location,
            defaults,
            engine: engine.clone(),
            health: health.clone(),
            state: state.clone(),
            clock: clock.clone(),
        };
        Ok(Parts { loader, metrics, stores, engine, health, health_service, state, clock })
    }

    /// Loads the rules once, then keeps them and the store fresh in the background.
    async fn load_rules(&self, background: &CancellationToken, reload: Receiver<()>) {
        let loaded = self.loader.load().await;
        self.health.report().await;
        spawn(background, self.loader.clone().watch(loaded, reload));
        spawn(background, self.stores.clone().keep(self.clock.clone()));
    }

    fn admin(&self, log: LogHandle, writes: Writes, breakers: &Arc<Breakers>) -> Admin {
        let breakers = breakers.clone();
        Admin {
            circuits: Arc::new(move || breakers.page()),
            engine: self.engine.clone(),
            metrics: self.metrics.clone(),
            config: self.state.clone(),
            log,
            store: self.stores.store.clone(),
            writes,
        }
    }
}

/// The workers and what makes them leave.
struct Serving {
    workers: Arc<Workers>,
    stop_accepting: CancellationToken,
    drain: CancellationToken,
}

type Accepting = [JoinHandle<()>; 2];

impl Serving {
    fn start(settings: &Settings, parts: &Parts, breakers: &Arc<Breakers>) -> anyhow::Result<Serving> {
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
            let max_message_bytes = settings.grpc.max_message_bytes as usize;
            let grpc = GrpcService::new(rls.clone(), native.clone(), max_message_bytes, others.clone());
            let (authorities, metrics) = (authorities.clone(), parts.metrics.clone());
            let warm = parts.stores.clone().warm();
            Services { grpc, http: http.routes(parts, rls, native.clone()), authorities, metrics, warm }
        };
        let limits = connection_limits(settings);
        let workers =
            Workers::start(worker_count(settings), services, &limits, &drain, settings.shutdown.grace)?;
        Ok(Serving { workers: Arc::new(workers), stop_accepting: CancellationToken::new(), drain })
    }

    fn accept(&self, grpc: Listener, http: Listener) -> Accepting {
        [(grpc, Protocol::Grpc), (http, Protocol::Http)].map(|(listener, protocol)| {
            let (workers, stop) = (self.workers.clone(), self.stop_accepting.clone());
            tokio::spawn(async move { accept(listener, protocol, &workers, stop).await })
        })
    }

    /// Closes the listeners, asks every connection to end, and waits until all have.
    async fn finish(self, accepting: Accepting) -> anyhow::Result<()> {
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

fn spawn(until: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let until = until.clone();
    tokio::spawn(async move { until.run_until_cancelled(work).await });
}

fn spawn_web(until: &CancellationToken, listener: Listener, routes: Router) -> anyhow::Result<()> {
    let Listener::Tcp(listener) = listener else { anyhow::bail!("the admin port has to be a TCP port") };
    spawn(until, async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the admin port has failed");
        }
    });
    Ok(())
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

fn metric_options(settings: &Settings) -> MetricOptions {
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

fn rls_options(settings: &Settings) -> anyhow::Result<RlsOptions> {
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

fn connection_limits(settings: &Settings) -> ConnectionLimits {
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
    }
}

/// Zero switches a time off.
fn unless_zero(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

/// As many workers as the settings say; by default one per core.
fn worker_count(settings: &Settings) -> usize {
    match settings.grpc.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count.into(),
    }
}

/// Says where the server listens, and how to try it.
fn announce(settings: &Settings, listeners: &Listeners) -> io::Result<()> {
    let (grpc, http, admin) = (listeners.grpc.bound()?, listeners.http.bound()?, listeners.admin.bound()?);
    let workers = worker_count(settings);
    tracing::info!(%grpc, %http, %admin, workers, "listening");
    if let Bound::Tcp(http) = http {
        let port = http.port();
        let body = r#"{"domain":"example","descriptors":[{"entries":[{"key":"user","value":"ann"}]}]}"#;
        tracing::info!("try: curl -s localhost:{port}/json -d '{body}'");
    }
    Ok(())
}
