//! A server that grants leases, and short ways to ask it.

use std::sync::Arc;

use tollgate_core::rules::Defaults;
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as wire;
use tollgate_server::adapter::native::{Leases, NativeService, NotDecided};
use tollgate_server::clock::ManualClock;
use tollgate_server::config::compile::compile;
use tollgate_server::config::rules::{Options, Source};
use tollgate_server::config::ruleset::Ruleset;
use tollgate_server::engine::Engine;
use tollgate_server::store::Store;
use tollgate_server::telemetry::metrics::Api;

use crate::rls_world::{World, memory};

/// What servers of one fleet know.
pub(crate) const SECRET: &str = "a secret of all servers";
/// 30 s after the beginning of a minute.
pub(crate) const NOW: Time = Time::from_micros(1_789_000_050_000_000);

pub(crate) struct Lessor {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) leases: Leases,
    pub(crate) native: NativeService,
}

impl Lessor {
    pub(crate) fn new(rules: &str) -> Lessor {
        Lessor::over(memory(), rules)
    }

    pub(crate) fn over(store: Arc<dyn Store>, rules: &str) -> Lessor {
        let World { clock, engine, .. } = World::over(store, rules, NOW);
        let leases = Leases::new(engine.clone(), Leases::shared_key(SECRET));
        let native = NativeService::new(engine.clone(), leases.clone());
        Lessor { engine, clock, leases, native }
    }

    /// The same server after it was started again, or another one, with a key.
    pub(crate) fn beside(&self, key: [u8; 32]) -> Leases {
        Leases::new(self.engine.clone(), key)
    }

    pub(crate) fn load(&self, rules: &str, defaults: Defaults) {
        let source = Source { name: "rules.yaml".into(), bytes: rules.as_bytes().to_vec() };
        let compiled = compile(&[source], &Options::default(), defaults).unwrap();
        self.engine.use_rules(Arc::new(Ruleset::new(compiled.matcher, self.engine.metrics())));
    }

    pub(crate) async fn lease(&self, keys: &[&str], tokens: u64) -> wire::LeaseResponse {
        self.leases.lease(&request(keys, tokens), None).await.unwrap()
    }

    pub(crate) async fn give_back(&self, keys: &[&str], lease: &[u8], unspent: u64) -> u64 {
        give_back(&self.leases, keys, lease, unspent).await
    }

    /// Whether requests of `cost` are admitted.
    pub(crate) async fn check(&self, keys: &[&str], cost: u64) -> bool {
        self.ask(keys, cost).await.allowed
    }

    /// Units that requests could take now.
    pub(crate) async fn remaining(&self, key: &str) -> u64 {
        self.ask(&[key], 0).await.limits[0].remaining
    }

    async fn ask(&self, keys: &[&str], cost: u64) -> wire::CheckResponse {
        let request = wire::CheckRequest {
            domain: "d".into(),
            descriptors: descriptors(keys),
            cost: Some(cost),
            ..wire::CheckRequest::default()
        };
        self.native.answer(&request, None, Api::Check).await.unwrap()
    }
}

pub(crate) fn request(keys: &[&str], tokens: u64) -> wire::LeaseRequest {
    let descriptors = descriptors(keys);
    wire::LeaseRequest { domain: "d".into(), descriptors, tokens, ..wire::LeaseRequest::default() }
}

fn descriptors(keys: &[&str]) -> Vec<wire::Descriptor> {
    let descriptor = |key: &&str| {
        let entry = wire::Entry { key: (*key).into(), value: "v".into() };
        wire::Descriptor { entries: vec![entry], cost: None }
    };
    keys.iter().map(descriptor).collect()
}

pub(crate) async fn try_give_back(
    leases: &Leases,
    keys: &[&str],
    lease: &[u8],
    unspent: u64,
) -> Result<u64, NotDecided> {
    let request = wire::ReturnLeaseRequest {
        domain: "d".into(),
        descriptors: descriptors(keys),
        lease: Some(wire::LeaseReturn { lease: lease.to_vec(), unspent }),
    };
    Ok(leases.return_lease(&request, None).await?.returned)
}

pub(crate) async fn give_back(leases: &Leases, keys: &[&str], lease: &[u8], unspent: u64) -> u64 {
    try_give_back(leases, keys, lease, unspent).await.unwrap()
}

pub(crate) fn span(wire: Option<prost_types::Duration>) -> Option<Span> {
    let wire = wire?;
    let micros =
        u64::try_from(wire.seconds).unwrap() * 1_000_000 + u64::try_from(wire.nanos).unwrap() / 1_000;
    Some(Span::from_micros(micros))
}
