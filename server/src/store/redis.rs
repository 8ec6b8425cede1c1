//! The store that many servers share: Redis, single, behind sentinels, or a cluster.
//!
//! A request becomes one group of hits for each slot that it touches; groups travel in parallel, and those of
//! one moment share a call of the script (`send`). Redis' clock rules, its script decides (`lua/`). What goes
//! wrong is a [`Fault`](super::Fault); a server that fails is left alone until a probe succeeds (`gate`, `probe`).

mod check;
mod dial;
mod fault;
mod fleet;
mod gate;
mod groups;
mod key;
mod lane;
mod probe;
mod reference;
pub mod reply;
mod report;
pub mod script;
mod send;
mod shard;
mod slots;
pub mod state;
mod together;
mod upkeep;

use std::hash::BuildHasher as _;
use std::sync::Arc;

use tollgate_core::rules::{Charge, Hit, Layout};
use tollgate_core::time::Time;

pub use self::check::{Found, Unusable};
use self::dial::Dialer;
pub use self::dial::{Access, Login, Place, Target, Tls};
pub use self::fleet::{Forced, Roll};
use self::lane::Lanes;
use self::send::Sender;
use super::{Charging, Clearing, Forgetting, Replies, Request, Store, Usage};
use crate::clock::Clock;
use crate::fallback::Servers;

/// How to use Redis.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to reach it.
    pub access: Access,
    /// What all names of ours begin with.
    pub prefix: String,
    /// Whose names and accounting.
    pub layout: Layout,
    /// Replicas that have to confirm a charge before it admits anything; 0 asks for none.
    pub wait_replicas: u32,
    /// Connections to each server, each shared by many requests; at least 1.
    pub lanes: usize,
    /// Groups of hits that may wait for one server.
    pub max_waiting: u64,
    /// With the reference's layout: up to this many seconds are added to the life of a key.
    pub expiration_jitter_secs: u64,
}

/// The store in Redis.
pub struct RedisStore {
    sender: Arc<Sender>,
    servers: Servers,
    /// A random number that tells this server from the others.
    me: u64,
    /// What it tells the others of itself.
    fleet: fleet::Fleet,
}

impl RedisStore {
    /// A store that connects when it is first asked. What it learns of other servers it tells `servers`.
    ///
    /// # Errors
    /// An address, a certificate or a key makes no sense.
    pub fn new(options: Options, clock: Arc<dyn Clock>, servers: Servers) -> anyhow::Result<RedisStore> {
        let dialer = Dialer::new(&options.access)?;
        let lanes = Lanes::new(dialer, options.lanes, options.access.connect_timeout)?;
        let sender = Arc::new(Sender::new(options, Arc::new(lanes), clock));
        // the standard library's hasher is keyed by the system's randomness
        let me = std::hash::RandomState::new().hash_one(std::process::id());
        Ok(RedisStore { sender, servers, me, fleet: fleet::Fleet::default() })
    }

    /// Whether some server of Redis was answering when last asked.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.sender.topology.load().shards().iter().any(|shard| !shard.gate.is_open())
    }

    /// Connects the calling thread's lane, so that its first request need not wait for that.
    pub async fn warm(&self) {
        let sender = &self.sender;
        let patience = sender.options.access.connect_timeout;
        // whether it works is seen by the requests
        let _linked = sender.lanes.linked(sender.lanes.mine(), 0, patience, &sender.report).await;
    }

    async fn decide(&self, request: Request<'_>) -> Replies {
        let replies = match (self.sender.options.layout, request.charge) {
            (Layout::Reference, _) => self.charge_reference(&request).await,
            (Layout::Tollgate, Charge::AllOrNothing) if request.hits.len() > 1 => {
                self.charge_together(&request).await
            }
            (Layout::Tollgate, _) => self.charge_apart(&request).await,
        };
        for reply in &replies {
            if let Err(fault) = reply {
                self.sender.report.fault(*fault);
            }
        }
        replies
    }
}

impl Store for RedisStore {
    fn charge<'a>(&'a self, request: Request<'a>) -> Charging<'a> {
        Box::pin(self.decide(request))
    }

    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], now: Time) -> Forgetting<'a> {
        Box::pin(self.forget_counters(hits, now))
    }

    fn clear(&self) -> Clearing<'_> {
        Box::pin(RedisStore::clear(self))
    }

    fn usage(&self) -> Usage {
        let topology = self.sender.topology.load();
        let shards = topology.shards();
        let mut remote = self.sender.report.remote();
        remote.waiting = shards.iter().map(|shard| shard.waiting()).sum();
        remote.open = shards.iter().filter(|shard| shard.gate.is_open()).count() as u64;
        remote.servers = self.servers.count();
        Usage { remote: Some(remote), ..Usage::default() }
    }

    fn call_times(&self) -> Option<super::times::Times> {
        Some(self.sender.report.times.read())
    }

    fn is_up(&self) -> bool {
        RedisStore::is_up(self)
    }
}
