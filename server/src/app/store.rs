//! The store that the settings ask for, and what keeps it going.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep, timeout};
use tollgate_core::rules::Layout;

use crate::clock::Clock;
use crate::config::settings::{
    self, RedisAddress, RedisAddresses, RedisAtStart, RedisLayout, RedisPlace, Settings, StoreKind,
};
use crate::fallback::{Fallback, Servers};
use crate::health::Health;
use crate::store::denied::Denied;
use crate::store::memory::{Bounds, MemoryStore, OnFull};
use crate::store::redis::{Access, Found, Login, Options, Place, RedisStore, Target, Tls, Unusable};
use crate::store::{Fault, Store};
use crate::transport::Warm;

/// Pauses between attempts to reach Redis at the start: the first, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// How often it is looked whether Redis can be reached, if health depends on that.
const LOOK: Duration = Duration::from_millis(500);

/// Longest time that the start waits for Redis before the ports open.
const MEET: Duration = Duration::from_secs(2);
/// Longest time to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// The store, and its parts that want to be driven.
pub(super) struct Stores {
    /// What requests ask.
    pub(super) store: Arc<dyn Store>,
    pub(super) fallback: Arc<Fallback>,
    memory: Option<Arc<MemoryStore>>,
    redis: Option<Arc<RedisStore>>,
    /// Redis has been seen.
    met: AtomicBool,
}

impl Stores {
    pub(super) fn build(settings: &Settings, lanes: usize, clock: &Arc<dyn Clock>) -> anyhow::Result<Stores> {
        let servers = Servers::new(settings.store.redis.replicas);
        let fallback = Arc::new(Fallback::new(servers.clone()));
        if settings.store.kind == StoreKind::Memory {
            let memory = Arc::new(MemoryStore::new(bounds(&settings.store.memory)));
            return Ok(Stores {
                store: memory.clone(),
                fallback,
                memory: Some(memory),
                redis: None,
                met: AtomicBool::new(false),
            });
        }
        let options = options(&settings.store.redis, lanes)?;
        let redis = Arc::new(RedisStore::new(options, clock.clone(), servers)?);
        let denials = settings.store.denials.max_bytes;
        let store: Arc<dyn Store> =
            if denials == 0 { redis.clone() } else { Arc::new(Denied::new(redis.clone(), denials)) };
        Ok(Stores { store, fallback, memory: None, redis: Some(redis), met: AtomicBool::new(false) })
    }

    /// What the log says of the store when the server starts.
    pub(super) fn describe(&self) -> &'static str {
        if self.redis.is_some() {
            "store: Redis; all servers that use it share the limits"
        } else {
            "store: memory; limits are per process, and other servers count on their own"
        }
    }

    /// What each worker does before its first request: connects.
    pub(super) fn warm(self: Arc<Stores>) -> Warm {
        Arc::new(move || match self.redis.clone() {
            Some(redis) => Box::pin(async move { redis.warm().await }),
            None => Box::pin(std::future::ready(())),
        })
    }

    /// Everything that has to run beside the requests, for as long as it is polled.
    pub(super) async fn keep(self: Arc<Stores>, clock: Arc<dyn Clock>) {
        tokio::join!(
            async {
                match &self.memory {
                    Some(memory) => memory.sweep_forever(&*clock).await,
                    None => self.fallback.sweep_forever(&*clock).await,
                }
            },
            async {
                if let Some(redis) = &self.redis {
                    redis.keep_up().await;
                }
            },
        );
    }

    /// The store in Redis, if it is that.
    pub(super) fn redis(&self) -> Option<Arc<RedisStore>> {
        self.redis.clone()
    }

    /// Says goodbye: the other servers need not count on this one any more.
    pub(super) async fn leave(&self) {
        if let Some(redis) = &self.redis
            && !matches!(timeout(GOODBYE, redis.leave()).await, Ok(Ok(())))
        {
            tracing::debug!("could not tell Redis that this server leaves");
        }
    }

    /// Looks whether Redis can be used. `Ok` at once unless the settings want it to be there first; then
    /// the server is not ready until it is.
    ///
    /// # Errors
    /// Redis cannot be used, and the settings refuse to start without it.
    pub(super) async fn meet(&self, settings: &settings::Redis, health: &Health) -> anyhow::Result<()> {
        let Some(redis) = &self.redis else { return Ok(()) };
        let looked = timeout(MEET, redis.check()).await;
        let slow = || Unusable::Fault(Fault::Timeout, "it does not answer".to_owned());
        match looked.unwrap_or_else(|_| Err(slow())) {
            Ok(found) => {
                self.met.store(true, Relaxed);
                welcome(&found);
            }
            Err(error @ Unusable::Version(_)) => anyhow::bail!("{error}"),
            Err(error) if settings.at_start == RedisAtStart::Refuse => anyhow::bail!("{error}"),
            Err(error) => {
                let ready = settings.at_start == RedisAtStart::Serve;
                tracing::warn!(ready, "{error}; trying again");
                health.store_reachable(ready).await;
            }
        }
        Ok(())
    }

    /// Tries until Redis can be used, then follows it if health depends on that. Returns only to give up.
    pub(super) async fn follow(&self, settings: &settings::Redis, health: &Health) -> anyhow::Error {
        let Some(redis) = &self.redis else { return std::future::pending().await };
        let began = Instant::now();
        let mut pause = FIRST;
        let found = loop {
            let error = match redis.check().await {
                Ok(found) => break found,
                Err(error @ Unusable::Version(_)) => return anyhow::anyhow!("{error}"),
                Err(error) => error,
            };
            let patience = settings.startup_timeout;
            let gives_up = settings.at_start == RedisAtStart::Wait && !patience.is_zero();
            if gives_up && began.elapsed() >= patience {
                return anyhow::anyhow!("{error} (tried for {patience:?})");
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        };
        if !self.met.swap(true, Relaxed) {
            welcome(&found);
        }
        health.store_reachable(true).await;
        if !settings.health_check {
            return std::future::pending().await;
        }
        loop {
            sleep(LOOK).await;
            health.store_reachable(redis.is_up()).await;
        }
    }
}

fn welcome(found: &Found) {
    let Found { name, version, servers, eviction } = found;
    tracing::info!(name, version, servers, "Redis can be used");
    if let Some(eviction) = eviction {
        tracing::warn!("{eviction}");
    }
}

fn bounds(memory: &settings::Memory) -> Bounds {
    let on_full = match memory.on_full {
        settings::OnFull::Deny => OnFull::Deny,
        settings::OnFull::Allow => OnFull::Allow,
        settings::OnFull::Evict => OnFull::Evict,
    };
    Bounds { max_keys: memory.max_keys, max_bytes: memory.max_bytes, on_full }
}

fn options(redis: &settings::Redis, lanes: usize) -> anyhow::Result<Options> {
    Ok(Options {
        access: access(redis)?,
        prefix: redis.prefix.clone(),
        layout: layout(redis.layout),
        wait_replicas: redis.wait_replicas,
        lanes: if redis.lanes == 0 { lanes } else { redis.lanes as usize },
        max_waiting: redis.max_waiting,
        expiration_jitter_secs: redis.expiration_jitter_secs,
    })
}

/// Whose names counters have in Redis.
pub(super) fn layout(layout: RedisLayout) -> Layout {
    match layout {
        RedisLayout::Tollgate => Layout::Tollgate,
        RedisLayout::Reference => Layout::Reference,
    }
}

fn access(redis: &settings::Redis) -> anyhow::Result<Access> {
    let addresses = redis.addresses().map_err(anyhow::Error::msg)?;
    let first = match &addresses {
        RedisAddresses::Single(address) => Some(address),
        RedisAddresses::Sentinel { .. } => None,
        RedisAddresses::Cluster(seeds) => seeds.first(),
    };
    let login = first.map_or_else(|| login_of(redis.login().as_ref()), |first| login_of(Some(&first.login)));
    let database = first.map_or(redis.database, |first| first.database);
    if redis.tls_skip_hostname_verification && matches!(addresses, RedisAddresses::Sentinel { .. }) {
        anyhow::bail!("store.redis.tls_skip_hostname_verification cannot be had with sentinels");
    }
    let wants_tls = redis.tls || first.is_some_and(|first| first.tls);
    let target = match &addresses {
        RedisAddresses::Single(address) => Target::Single(place(address)),
        RedisAddresses::Cluster(seeds) => Target::Cluster(seeds.iter().map(place).collect()),
        RedisAddresses::Sentinel { master, sentinels } => Target::Sentinel {
            master: master.clone(),
            sentinels: sentinels.iter().map(place).collect(),
            login: login_of(sentinels.first().map(|sentinel| &sentinel.login)),
        },
    };
    Ok(Access {
        target,
        login,
        database: database.into(),
        tls: if wants_tls { Some(tls(redis)?) } else { None },
        connect_timeout: redis.timeout,
        call_timeout: redis.call_timeout,
    })
}

fn place(address: &RedisAddress) -> Place {
    match &address.place {
        RedisPlace::Tcp { host, port } => Place::Tcp(host.clone(), *port),
        RedisPlace::Unix(path) => Place::Unix(path.clone()),
    }
}

fn login_of(login: Option<&settings::RedisLogin>) -> Login {
    login.map_or_else(Login::default, |login| Login {
        user: login.user.clone(),
        password: login.password.as_ref().map(|password| password.reveal().to_owned()),
    })
}

fn tls(redis: &settings::Redis) -> anyhow::Result<Tls> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let authority = redis.tls_ca.as_deref().map(read).transpose()?;
    let certificate = redis.tls_cert.as_deref().map(read).transpose()?;
    let key = redis.tls_key.as_deref().map(read).transpose()?;
    Ok(Tls { authority, identity: certificate.zip(key), any_host: redis.tls_skip_hostname_verification })
}
