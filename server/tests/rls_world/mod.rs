//! A service over an embedded store on a clock that stands still.

use std::sync::Arc;

use tollgate_core::rules::Defaults;
use tollgate_core::time::Time;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService as _;
use tollgate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tollgate_server::adapter::headers::{LimitHeaders, ResponseHeaders, Spelled};
use tollgate_server::adapter::rls::{Metadata, RlsOptions, RlsService};
use tollgate_server::clock::ManualClock;
use tollgate_server::config::compile::compile;
use tollgate_server::config::rules::{Options, Source};
use tollgate_server::config::ruleset::Ruleset;
use tollgate_server::engine::Engine;
use tollgate_server::store::memory::{Bounds, MemoryStore, OnFull};
use tollgate_server::telemetry::metrics::{MetricOptions, Metrics};
use tonic::{Code, Request};

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    engine: Arc<Engine>,
    service: RlsService,
}

impl World {
    pub(crate) fn new(rules: &str, now: Time) -> World {
        let world = World::empty(now);
        let source = Source { name: "rules.yaml".into(), bytes: rules.as_bytes().to_vec() };
        let compiled = compile(&[source], &Options::default(), Defaults::default()).unwrap();
        let rules = Ruleset::new(compiled.matcher, world.engine.metrics());
        world.engine.use_rules(Arc::new(rules));
        world
    }

    pub(crate) fn without_rules() -> World {
        World::empty(Time::EPOCH)
    }

    fn empty(now: Time) -> World {
        let clock = Arc::new(ManualClock::at(now));
        let bounds = Bounds { max_keys: 1_000, max_bytes: 1 << 20, on_full: OnFull::Deny };
        let metrics = Metrics::new(MetricOptions {
            near_limit_ratio: 0.8,
            reference_names: false,
            stripes: 1,
            response_time_as_milliseconds: false,
        });
        let store = Arc::new(MemoryStore::new(bounds));
        let engine = Arc::new(Engine::new(store, clock.clone(), Arc::new(metrics)));
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

    /// The text of a failure, which has to be UNKNOWN.
    pub(crate) async fn fails(&self, request: RateLimitRequest) -> String {
        let status = self.service.should_rate_limit(Request::new(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        status.message().to_owned()
    }
}

pub(crate) fn descriptor(key: &str, value: &str) -> RateLimitDescriptor {
    let entry = Entry { key: key.into(), value: value.into() };
    RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() }
}

pub(crate) fn request(domain: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: domain.into(), descriptors, hits_addend: 0 }
}
