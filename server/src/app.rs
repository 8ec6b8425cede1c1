//! Wiring: one function per part, in the order in which they are needed.

mod breaker;
mod listeners;
mod native;
mod options;
mod overload;
mod security;
mod serving;
mod store;
mod telemetry;
mod xds;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use tollgate_core::rules::Defaults;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

pub use self::listeners::Listeners;
use self::options::{metric_options, worker_count};
use self::security::Security;
use self::serving::Serving;
use self::store::Stores;
use self::telemetry::Telemetry;
use crate::admin::{self, Admin, Console, ConsoleSources, Writes};
use crate::breaker::Breakers;
use crate::clock::{Clock, SystemClock};
use crate::config::location::Location;
use crate::config::settings::{Effective, RulesSource, Settings};
use crate::config::watch::{ConfigState, Loader};
use crate::engine::Engine;
use crate::health::Health;
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::panics;

type GrpcHealth = HealthServer<HealthService>;

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
    panics::watch();
    let settings = effective.settings.clone();
    let security = Security::of(&settings)?;
    let mut parts = Parts::build(&effective, clock)?;
    let background = CancellationToken::new();
    parts.stores.meet(&settings.store.redis, &parts.health).await?;
    let redis = parts.stores.redis();
    let breakers = breaker::build(&settings, redis, &listeners.grpc, &*parts.clock).await?;
    parts.metrics.watch_breakers({
        let breakers = breakers.clone();
        move || breakers.figures()
    });
    parts.load_rules(&background, &settings, reload).await?;
    spawn(&background, breakers.clone().keep());

    let overload = overload::watched(&settings, &parts)?;
    spawn(&background, overload::spare(settings.overload, overload.clone(), breakers.clone()));
    let serving = Serving::start(&settings, &parts, &breakers, (&overload, &security.guard))?;
    security.watch(&background, &parts.metrics, serving.refusals());
    tracing::info!("{}", parts.stores.describe());
    listeners::announce(&settings, &listeners)?;
    let writes = Writes::with(settings.admin.token.reveal());
    breakers.tell_hot_keys(parts.metrics.clone());
    let console = parts.console(&effective, &breakers)?;
    spawn(&background, console.clone().keep());
    let admin = admin::routes(parts.admin(log, writes, &breakers, console));
    security.serve_admin(&settings, &background, listeners.admin, admin);
    if let Some(listener) = listeners.metrics {
        let page = admin::metrics_routes(parts.metrics.clone(), &settings.metrics.prometheus_path);
        security.serve_metrics(&settings, &background, listener, page);
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
    parts.telemetry.finish().await;
    background.cancel();
    parts.stores.leave().await;
    tracing::info!("all calls finished");
    Ok(())
}

/// What every port needs.
struct Parts {
    loader: Loader,
    metrics: Arc<Metrics>,
    telemetry: Telemetry,
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
        let telemetry = Telemetry::start(settings, &metrics)?;
        let stores = Arc::new(Stores::build(settings, worker_count(settings), &clock)?);
        metrics.watch_store(stores.store.clone());
        let (store, fallback) = (stores.store.clone(), stores.fallback.clone());
        let engine = Arc::new(Engine::new(store, fallback, clock.clone(), metrics.clone()));
        let reporter = HealthReporter::new();
        let health_service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let health = Health::new(settings.rules.require_for_health, reporter);
        let health = Arc::new(health.wanting_rules(xds::holds_back(settings)));
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
        Ok(Parts { loader, metrics, telemetry, stores, engine, health, health_service, state, clock })
    }

    /// Loads the rules once, then keeps them and the store fresh in the background.
    async fn load_rules(
        &self,
        background: &CancellationToken,
        settings: &Settings,
        reload: Receiver<()>,
    ) -> anyhow::Result<()> {
        if settings.rules.source == RulesSource::Xds {
            self.health.report().await;
            spawn(background, xds::client(settings, self)?.follow(reload));
        } else {
            let loaded = self.loader.load().await;
            self.health.report().await;
            spawn(background, self.loader.clone().watch(loaded, reload));
        }
        spawn(background, self.stores.clone().keep(self.clock.clone()));
        Ok(())
    }

    fn console(&self, effective: &Effective, breakers: &Arc<Breakers>) -> anyhow::Result<Arc<Console>> {
        let sources = ConsoleSources {
            engine: self.engine.clone(),
            metrics: self.metrics.clone(),
            config: self.state.clone(),
            store: self.stores.store.clone(),
            breakers: breakers.clone(),
        };
        Console::new(sources, effective)
    }

    fn admin(
        &self,
        log: LogHandle,
        writes: Writes,
        breakers: &Arc<Breakers>,
        console: Arc<Console>,
    ) -> Admin {
        let breakers = breakers.clone();
        Admin {
            circuits: Arc::new(move || breakers.page()),
            engine: self.engine.clone(),
            metrics: self.metrics.clone(),
            config: self.state.clone(),
            log,
            console,
            store: self.stores.store.clone(),
            writes,
        }
    }
}

/// Runs `work` until it ends or `until` is cancelled. If it panics, whatever it did is not done any more, and that is
/// said; the panic itself is logged and counted where it happens.
fn spawn(until: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let until = until.clone();
    let name = std::any::type_name_of_val(&work);
    let work = tokio::spawn(async move { until.run_until_cancelled(work).await });
    tokio::spawn(async move {
        if work.await.is_err_and(|error| error.is_panic()) {
            tracing::error!(task = name, "a background task has panicked and does not run any more");
        }
    });
}
