//! A cluster of three masters and three replicas.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::builder::ServerBuilder;
use super::server::Server;
use super::slots::{Member, Range, is_ok, knows, slots_seen_by};
use super::wait::eventually;

const MASTERS: usize = 3;

/// How many nodes a cluster has: masters are nodes 0 to 2 at first, and node `i + 3` is the replica of node `i`.
pub const NODES: usize = 6;

const SLOTS: usize = 16_384;

/// How long any change may take on a busy machine; a failover takes about 2 s on an idle one.
const CHANGE: Duration = Duration::from_secs(30);

/// Six servers on this machine. Slots stay within a pair of nodes unless a test moves them.
pub struct Cluster {
    nodes: Vec<Server>,
    ids: Vec<String>,
}

/// A replica that has become master.
#[derive(Clone, Copy, Debug)]
pub struct Promotion {
    pub master: usize,
    /// When we saw it, at most some milliseconds late.
    pub at: Instant,
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::start_with(Server::builder()).await
    }

    /// A cluster of such servers. Returns when every node serves and shows clients all replicas.
    pub async fn start_with(options: ServerBuilder) -> Cluster {
        let tls = options.has_tls();
        let options = options
            .argument("cluster-enabled", "yes")
            .argument("tls-cluster", if tls { "yes" } else { "no" })
            // both decide how soon a dead master is replaced
            .argument("cluster-node-timeout", "1000")
            .argument("cluster-replica-validity-factor", "0")
            // a pair stays a pair, whatever slots it has
            .argument("cluster-allow-replica-migration", "no");
        let nodes = start_all(&options, NODES).await;
        let mut ids = Vec::new();
        for node in &nodes {
            ids.push(node.get(&["CLUSTER", "MYID"]).await);
        }
        let cluster = Cluster { nodes, ids };
        cluster.introduce().await;
        cluster.pair().await;
        cluster.wait_whole().await;
        cluster
    }

    /// Deals out the slots, and makes all know all.
    async fn introduce(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            // distinct epochs from the start: no elections over equal ones
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
            if index < MASTERS {
                let first = index * SLOTS / MASTERS;
                let last = (index + 1) * SLOTS / MASTERS - 1;
                let range = [first.to_string(), last.to_string()];
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
            }
            for other in &self.nodes[..index] {
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]).await;
            }
        }
        for node in &self.nodes {
            eventually(CHANGE, "all nodes know each other", || knows(node, NODES)).await;
        }
    }

    async fn pair(&self) {
        for (node, master) in self.nodes[MASTERS..].iter().zip(&self.ids) {
            node.command(&["CLUSTER", "REPLICATE", master]).await;
        }
    }

    pub fn node(&self, index: usize) -> &Server {
        &self.nodes[index]
    }

    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    pub(super) fn id(&self, index: usize) -> &str {
        &self.ids[index]
    }

    /// The URLs of all nodes.
    pub fn seeds(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_running())
    }

    async fn members(&self) -> Vec<(usize, Member)> {
        let mut members = Vec::new();
        for (index, node) in self.running() {
            members.extend(Member::of(node).await.map(|member| (index, member)));
        }
        members
    }

    /// The hash slot of a key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        let (_, node) = self.running().next().unwrap();
        node.get(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// The running master that has the slot. Panics if there is none.
    pub async fn owner_of_slot(&self, slot: u16) -> usize {
        owner(&self.members().await, slot).unwrap_or_else(|| panic!("nobody has slot {slot}"))
    }

    /// The running master that has the key's slot. Panics if there is none.
    pub async fn owner_of(&self, key: &str) -> usize {
        self.owner_of_slot(self.slot_of(key).await).await
    }

    /// The running masters that have slots.
    pub async fn masters(&self) -> Vec<usize> {
        let members = self.members().await;
        let of = |(index, member): &(usize, Member)| {
            (member.owns_any() && owner(&members, member.first_slot()?) == Some(*index)).then_some(*index)
        };
        members.iter().filter_map(of).collect()
    }

    /// The replica of a master. Panics if its other half is none now.
    pub async fn replica_of(&self, master: usize) -> usize {
        let other = partner(master);
        let member = Member::of(&self.nodes[other]).await.unwrap();
        assert!(!member.master && member.master_id == self.ids[master], "{other} replicates another node");
        other
    }

    /// Waits until the replica of `old`, which was killed or paused, serves in its place.
    pub async fn wait_promoted(&self, old: usize) -> Promotion {
        let master = partner(old);
        let node = &self.nodes[master];
        let serves =
            || async { Member::of(node).await.is_some_and(|member| member.owns_any()) && is_ok(node).await };
        eventually(CHANGE, "the replica is promoted", serves).await;
        Promotion { master, at: Instant::now() }
    }

    /// Has a replica take over from its living master, by CLUSTER FAILOVER, without loss. Returns when it is
    /// master; other nodes learn it a moment later ([`Cluster::wait_ok`] waits for them).
    pub async fn failover(&self, replica: usize) -> Promotion {
        self.nodes[replica].command(&["CLUSTER", "FAILOVER"]).await;
        self.wait_promoted(partner(replica)).await
    }

    /// Waits until every running node serves, and all name the same nodes to clients.
    pub async fn wait_ok(&self) {
        eventually(CHANGE, "the running nodes agree and serve", || async { self.view().await.is_some() })
            .await;
    }

    /// Waits until all six nodes serve, and show clients a replica for every slot.
    pub async fn wait_whole(&self) {
        let whole = || async {
            let Some(ranges) = self.view().await else { return false };
            self.running().count() == NODES && ranges.iter().all(|(.., replicas)| replicas.len() == 1)
        };
        eventually(CHANGE, "the cluster is whole", whole).await;
    }

    /// The slots, if all running nodes serve and agree on them.
    async fn view(&self) -> Option<Vec<Range>> {
        let mut agreed = None;
        for (_, node) in self.running() {
            let seen = slots_seen_by(node).await?;
            if !is_ok(node).await || *agreed.get_or_insert_with(|| seen.clone()) != seen {
                return None;
            }
        }
        agreed
    }
}

/// The other half of a pair.
fn partner(node: usize) -> usize {
    (node + MASTERS) % NODES
}

/// Of all that claim the slot the one with the highest epoch: one that was paused may not know yet that it lost.
fn owner(members: &[(usize, Member)], slot: u16) -> Option<usize> {
    let claims = members.iter().filter(|(_, member)| member.master && member.owns(slot));
    claims.max_by_key(|(_, member)| member.epoch).map(|(index, _)| *index)
}

async fn start_all(options: &ServerBuilder, count: usize) -> Vec<Server> {
    let mut starts = JoinSet::new();
    for _ in 0..count {
        starts.spawn(options.clone().start());
    }
    starts.join_all().await
}
