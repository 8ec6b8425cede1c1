//! One rule, a store that is asked about it, and clusters that do not crowd the machine.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tollgate_core::limit::Limit;
use tollgate_core::rules::{Answer, Charge, Matcher};
use tollgate_core::time::Span;
use tollgate_server::store::Fault;
use tollgate_server::store::redis::{Access, RedisStore, Target};

use crate::redis_world::{Cluster, Server, ServerBuilder, eventually};
use crate::store_world::{
    Asking, Domain, YEAR, access, cluster, fixed, options, redis_store, rule, single, take,
};

/// Longest wait for anything that should come soon, on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// The key of the only rule, and its domain.
pub const KEY: &str = "k";
pub const DOMAIN: &str = "faults";

/// The key of the partition, and its value: all counters of a partitioned limiter are in one slot.
pub const PARTITION: (&str, &str) = ("tenant", "acme");

/// Clusters that live at a time: six processes each.
const MOST_CLUSTERS: u32 = 2;
static CLUSTERS: Semaphore = Semaphore::const_new(MOST_CLUSTERS as usize);

/// A rule and who is asked about it. Clones share both.
#[derive(Clone)]
pub struct Limiter {
    pub store: Arc<RedisStore>,
    matcher: Arc<Matcher>,
    partition: Option<(&'static str, &'static str)>,
    patience: Span,
}

impl Limiter {
    pub fn new(store: &Arc<RedisStore>, limit: Limit) -> Limiter {
        let matcher = Arc::new(Domain::new(DOMAIN, Charge::Admitted, vec![rule(KEY, limit)]).matcher());
        Limiter { store: store.clone(), matcher, partition: None, patience: Span::MAX }
    }

    /// With all counters in one slot.
    pub fn partitioned(store: &Arc<RedisStore>, limit: Limit) -> Limiter {
        let mut domain = Domain::new(DOMAIN, Charge::AllOrNothing, vec![rule(KEY, limit)]);
        domain.partition = Some(PARTITION.0.to_owned());
        let matcher = Arc::new(domain.matcher());
        Limiter { matcher, partition: Some(PARTITION), ..Limiter::wide(store) }
    }

    /// One that never refuses in a test.
    pub fn wide(store: &Arc<RedisStore>) -> Limiter {
        Limiter::new(store, fixed(1_000_000_000, YEAR))
    }

    /// Whose callers wait this long.
    pub fn patient(self, patience: Duration) -> Limiter {
        Limiter { patience: Span::from_micros(u64::try_from(patience.as_micros()).unwrap()), ..self }
    }

    pub fn asking<'a>(&'a self, id: Option<&'a [u8]>) -> Asking<'a> {
        let asking = Asking::new(&*self.store, &self.matcher, DOMAIN);
        Asking { partition: self.partition, patience: self.patience, id, ..asking }
    }

    pub async fn take(&self, value: &str, units: u64) -> Result<Answer, Fault> {
        self.asking(None).try_ask(&[take(KEY, value, units)]).await[0]
    }

    /// The same under an id.
    pub async fn take_as(&self, id: &[u8], value: &str, units: u64) -> Result<Answer, Fault> {
        self.asking(Some(id)).try_ask(&[take(KEY, value, units)]).await[0]
    }

    /// Whether one unit is admitted. Panics at a fault.
    pub async fn pass(&self, value: &str) -> bool {
        self.take(value, 1).await.unwrap().verdict.allowed
    }

    /// Units in use. Waits for a store that is about to recover.
    pub async fn used(&self, value: &str) -> u64 {
        self.works(value).await;
        self.take(value, 0).await.unwrap().verdict.used
    }

    /// Waits until the store answers again.
    pub async fn works(&self, value: &str) {
        let answers = || async { self.take(value, 0).await.is_ok() };
        eventually(SOON, "the store answers", answers).await;
    }

    /// Waits until the store takes charges again. What that took is charged.
    pub async fn charges(&self, value: &str) {
        let charges = || async { self.take(value, 1).await.is_ok() };
        eventually(SOON, "the store takes charges", charges).await;
    }
}

/// A store on `target` with short times.
pub fn store_on(target: Target) -> Arc<RedisStore> {
    redis_store(options(access(target)))
}

pub fn store_of(server: &Server) -> Arc<RedisStore> {
    store_on(single(server.port()))
}

pub fn store_of_cluster(nodes: &Cluster) -> Arc<RedisStore> {
    store_on(of_cluster(nodes))
}

fn of_cluster(nodes: &Cluster) -> Target {
    cluster(nodes.nodes().iter().map(Server::port))
}

/// For tests in which nothing must fail: a busy machine may stand still for longer than the usual short times.
fn calm_store_on(target: Target) -> Arc<RedisStore> {
    redis_store(options(Access { call_timeout: Duration::from_secs(3), ..access(target) }))
}

pub fn calm_store_of(server: &Server) -> Arc<RedisStore> {
    calm_store_on(single(server.port()))
}

pub fn calm_store_of_cluster(nodes: &Cluster) -> Arc<RedisStore> {
    calm_store_on(of_cluster(nodes))
}

/// Waits until `replica` has all that `master` wrote.
pub async fn wait_replicated(master: &Server, replica: &Server) {
    let equal = || async {
        let written = master.info("replication", "master_repl_offset").await;
        replica.info("replication", "slave_repl_offset").await == written
    };
    eventually(SOON, "the replica has everything", equal).await;
}

/// A cluster for which there was room.
pub struct Housed {
    // dropped before the permit
    cluster: Cluster,
    _room: SemaphorePermit<'static>,
}

impl Deref for Housed {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

pub async fn start_cluster(options: ServerBuilder) -> Housed {
    start_housed(options, 1).await
}

/// The only one: for tests that judge times.
pub async fn start_only_cluster(options: ServerBuilder) -> Housed {
    start_housed(options, MOST_CLUSTERS).await
}

async fn start_housed(options: ServerBuilder, places: u32) -> Housed {
    let room = CLUSTERS.acquire_many(places).await.unwrap();
    Housed { cluster: Cluster::start_with(options).await, _room: room }
}
