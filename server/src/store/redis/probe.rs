//! Finding out when a server that failed is back, without anybody's request.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, cmd};
use tokio::time::{sleep, timeout};

use super::dial::Link;
use super::lane::{Probing, fault_of};
use super::send::Sender;
use super::shard::Shard;
use super::slots::Topology;
use super::{Target, fault};
use crate::store::Fault;

/// A connection for a probe takes at most this long, whatever others may.
const CONNECT: Duration = Duration::from_secs(2);

impl Sender {
    /// Probes `shard` until it answers, then lets requests through again. Every probe uses a new connection,
    /// since an old one may lead to a master that is none any more.
    pub(super) async fn probe(self: Arc<Sender>, shard: Arc<Shard>) {
        loop {
            sleep(shard.gate.wait()).await;
            let Some(probe) = shard.gate.probe() else { continue };
            if self.still_leads(&shard).await {
                shard.gate.close(probe, 0);
                tracing::info!(first_slot = shard.first_slot, "Redis answers again");
                return;
            }
            let epoch = self.lanes.next_epoch();
            match timeout(CONNECT, self.look(&shard)).await {
                Ok(Ok(())) => {
                    self.lanes.renew(epoch, CONNECT, &self.report).await;
                    shard.gate.close(probe, epoch);
                    tracing::info!(first_slot = shard.first_slot, "Redis answers again");
                    return;
                }
                Ok(Err(fault)) => tracing::debug!(cause = fault.name(), "a probe of Redis failed"),
                Err(_) => tracing::debug!("a probe of Redis got no answer in time"),
            }
            shard.gate.stay(probe);
            if !self.has(&shard) {
                // the cluster has other shards now; nobody asks this one any more
                return;
            }
        }
    }

    /// Whether a connection that is there reaches the master of `shard`. Only those to a cluster follow its masters
    /// by themselves; and while some node hangs, a new one takes its time.
    async fn still_leads(&self, shard: &Shard) -> bool {
        let Some(mut link) = self.lanes.current().filter(|_| self.is_cluster()) else { return false };
        self.get(&mut link, shard).await.is_ok()
    }

    fn has(&self, shard: &Arc<Shard>) -> bool {
        self.topology.load().shards().iter().any(|known| Arc::ptr_eq(known, shard))
    }

    /// Looks at a key of `shard` over a new connection.
    async fn look(&self, shard: &Shard) -> Result<(), Fault> {
        let mut probing = self.lanes.probe().await.map_err(|error| {
            self.report.connection_failed(&error);
            fault_of(&error)
        })?;
        self.refresh(&mut probing).await?;
        self.get(probing.link(), shard).await
    }

    async fn get(&self, link: &mut Link, shard: &Shard) -> Result<(), Fault> {
        let mut command = cmd("GET");
        command.arg(shard.probe.as_slice());
        let slot = super::key::slot(&shard.probe);
        let answer = timeout(self.call_timeout(), link.send(slot, command)).await;
        answer.map_err(|_| Fault::Timeout)?.map_err(|error| fault::of(&error))?;
        Ok(())
    }

    /// Asks a cluster which master has which slot.
    pub(super) async fn refresh(&self, probing: &mut Probing) -> Result<(), Fault> {
        if !matches!(self.options.access.target, Target::Cluster(_)) {
            return Ok(());
        }
        let mut command = cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = probing.any(command, self.call_timeout()).await.map_err(|error| fault::of(&error))?;
        let before = self.topology.load();
        let after = Topology::read(&answer, &before, &self.options.prefix, self.lanes.count());
        // while a master is gone some slots have none: what was known before is the best there is
        if let Some(after) = after {
            self.topology.store(Arc::new(after));
        }
        Ok(())
    }
}

impl Probing {
    /// Sends a command to any server.
    pub(super) async fn any(
        &mut self,
        command: redis::Cmd,
        patience: Duration,
    ) -> Result<redis::Value, RedisError> {
        match timeout(patience, self.link().send_any(command)).await {
            Ok(result) => result,
            Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        }
    }
}
