//! A service over an embedded store on a clock that stands still.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses what it needs of it, and may panic")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;

use tollgate_core::rules::Defaults;
use tollgate_core::time::Time;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService as _;
use tollgate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tollgate_server::adapter::headers::{LimitHeaders, ResponseHeaders, Spelled};
use tollgate_server::adapter::http::{Codec, HttpLimits, HttpState, routes};
use tollgate_server::adapter::native::{Leases, NativeService};
use tollgate_server::adapter::rls::{Metadata, RlsOptions, RlsService};
use tollgate_server::clock::ManualClock;
use tollgate_server::config::compile::compile;
use tollgate_server::config::rules::{Options, Source};
use tollgate_server::config::ruleset::Ruleset;
use tollgate_server::config::settings::Auth;
use tollgate_server::engine::Engine;
use tollgate_server::fallback::{Fallback, Servers};
use tollgate_server::health::Health;
use tollgate_server::store::Store;
use tollgate_server::store::memory::{Bounds, MemoryStore, OnFull};
use tollgate_server::telemetry::metrics::{MetricOptions, Metrics};
use tonic::{Code, Request};
use tonic_health::server::HealthReporter;

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: Arc<Engine>,
    service: RlsService,
}

impl World {
    pub(crate) fn new(rules: &str, now: Time) -> World {
        World::over(memory(), rules, now)
    }

    /// A world whose counters are in `store`.
    pub(crate) fn over(store: Arc<dyn Store>, rules: &str, now: Time) -> World {
        let world = World::empty(store, now);
        let source = Source { name: "rules.yaml".into(), bytes: rules.as_bytes().to_vec() };
        let compiled = compile(&[source], &Options::default(), Defaults::default()).unwrap();
        let rules = Ruleset::new(compiled.matcher, world.engine.metrics());
        world.engine.use_rules(Arc::new(rules));
        world
    }

    pub(crate) fn without_rules() -> World {
        World::empty(memory(), Time::EPOCH)
    }

    fn empty(store: Arc<dyn Store>, now: Time) -> World {
        let clock = Arc::new(ManualClock::at(now));
        let metrics = Metrics::new(MetricOptions {
            near_limit_ratio: 0.8,
            reference_names: false,
            stripes: 1,
            response_time_as_milliseconds: false,
        });
        let engine = Arc::new(Engine::new(
            store,
            Arc::new(Fallback::new(Servers::new(1))),
            clock.clone(),
            Arc::new(metrics),
        ));
        let service = RlsService::new(engine.clone(), Arc::new(RlsOptions::default()));
        World { clock, engine, service }
    }

    fn with(self, options: RlsOptions) -> World {
        let service = RlsService::new(self.engine.clone(), Arc::new(options));
        World { service, ..self }
    }

    pub(crate) fn with_headers(self) -> World {
        let spelled = |name: &str| Spelled::new(name).unwrap();
        let limits = LimitHeaders {
            limit: spelled("RateLimit-Limit"),
            remaining: spelled("RateLimit-Remaining"),
            reset: spelled("RateLimit-Reset"),
        };
        let headers = ResponseHeaders { limits: Some(limits), retry_after: true };
        self.with(RlsOptions { headers, metadata: Metadata::Off })
    }

    pub(crate) fn with_metadata(self) -> World {
        self.with(RlsOptions { metadata: Metadata::On, ..RlsOptions::default() })
    }

    pub(crate) async fn asks(&self, request: RateLimitRequest) -> RateLimitResponse {
        self.service.should_rate_limit(Request::new(request)).await.unwrap().into_inner()
    }

    /// As [`World::asks`], with a deadline on the wire.
    pub(crate) async fn asks_within(
        &self,
        request: RateLimitRequest,
        deadline: Option<Duration>,
    ) -> RateLimitResponse {
        let mut request = Request::new(request);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        self.service.should_rate_limit(request).await.unwrap().into_inner()
    }

    /// The metrics page.
    pub(crate) fn page(&self) -> String {
        self.engine.metrics().render()
    }

    /// The routes of the HTTP port.
    pub(crate) fn http(self) -> Router {
        let health = Health::new(false, HealthReporter::new());
        if let Some(rules) = self.engine.rules().as_ref() {
            let domains = rules.matcher().domains().len();
            health.rules_loaded(domains > 0).now_or_never().unwrap();
        }
        let leases = Leases::new(self.engine.clone(), Leases::own_key());
        let native = NativeService::new(self.engine.clone(), leases);
        let state = HttpState {
            engine: self.engine,
            rls: self.service,
            native,
            codec: Arc::new(Codec::new().unwrap()),
            health: Arc::new(health),
            timeout: Some(Duration::from_secs(10)),
            auth: Arc::new(Auth::default()),
        };
        routes(state, HttpLimits { max_body_bytes: 65_536, timeout: Some(Duration::from_secs(10)) })
    }

    /// The text of a failure, which has to be UNKNOWN.
    pub(crate) async fn fails(&self, request: RateLimitRequest) -> String {
        let status = self.service.should_rate_limit(Request::new(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        status.message().to_owned()
    }
}

pub(crate) fn memory() -> Arc<dyn Store> {
    let bounds = Bounds { max_keys: 1_000, max_bytes: 1 << 20, on_full: OnFull::Deny };
    Arc::new(MemoryStore::new(bounds))
}

pub(crate) fn descriptor(key: &str, value: &str) -> RateLimitDescriptor {
    let entry = Entry { key: key.into(), value: value.into() };
    RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() }
}

pub(crate) fn request(domain: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: domain.into(), descriptors, hits_addend: 0 }
}
