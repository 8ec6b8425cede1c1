//! A master, its replica, and three sentinels that watch them.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::builder::ServerBuilder;
use super::server::Server;
use super::wait::eventually;

/// The name under which sentinels know the master.
pub const MASTER_NAME: &str = "mymaster";

const SENTINELS: usize = 3;
const QUORUM: usize = 2;
const DOWN_AFTER_MILLISECONDS: u64 = 500;
const FAILOVER_TIMEOUT_MILLISECONDS: u64 = 2_000;

/// How often a sentinel reads what nodes say of themselves, and tells others of itself. By default that is 10 s and
/// 2 s, and a node that came back would be made a replica after 8 s.
const NEWS_MILLISECONDS: [&str; 2] = ["500", "200"];

/// How long any change may take on a busy machine.
const CHANGE: Duration = Duration::from_secs(30);

/// Two data nodes, of which node 0 is master at first, and three sentinels.
pub struct Sentinel {
    data: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinel {
    pub async fn start() -> Sentinel {
        Sentinel::start_with(Server::builder(), Server::builder()).await
    }

    /// Such data nodes and such sentinels; their passwords may differ. Returns when each sentinel knows the others
    /// and the replica.
    pub async fn start_with(data: ServerBuilder, sentinels: ServerBuilder) -> Sentinel {
        let master = data.clone().start().await;
        let port = master.port().to_string();
        let replica = data.argument("replicaof", &format!("127.0.0.1 {port}")).start().await;
        let linked = || async { replica.info("replication", "master_link_status").await == "up" };
        eventually(CHANGE, "the replica follows", linked).await;
        let mut starts = JoinSet::new();
        for _ in 0..SENTINELS {
            starts.spawn(sentinels.clone().sentinel(configuration(&master)).start());
        }
        let world = Sentinel { data: vec![master, replica], sentinels: starts.join_all().await };
        let [info, publish] = NEWS_MILLISECONDS;
        for sentinel in &world.sentinels {
            sentinel.command(&["SENTINEL", "DEBUG", "INFO-PERIOD", info, "PUBLISH-PERIOD", publish]).await;
        }
        world.wait_whole().await;
        world
    }

    /// A data node: 0 or 1.
    pub fn data(&self, index: usize) -> &Server {
        &self.data[index]
    }

    /// A sentinel: 0 to 2.
    pub fn sentinel(&self, index: usize) -> &Server {
        &self.sentinels[index]
    }

    /// The URLs of the sentinels.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_running())
    }

    /// The data node that all running sentinels name as master, if they agree.
    pub async fn master(&self) -> Option<usize> {
        let mut ports = Vec::new();
        for sentinel in self.running() {
            let (_, port): (String, u16) =
                sentinel.get(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]).await;
            ports.push(port);
        }
        ports.dedup();
        let [port] = ports.as_slice() else { return None };
        self.data.iter().position(|node| node.port() == *port)
    }

    /// Waits until the other node serves in place of `old`, which was killed or paused, and all running sentinels
    /// say so. Says when that was, at most some milliseconds late.
    pub async fn wait_promoted(&self, old: usize) -> Instant {
        let new = 1 - old;
        let promoted = || async {
            self.master().await == Some(new) && self.data[new].info("replication", "role").await == "master"
        };
        eventually(CHANGE, "the replica is promoted", promoted).await;
        Instant::now()
    }

    /// Waits until each running sentinel sees a master, a replica that follows it, and all other sentinels.
    pub async fn wait_whole(&self) {
        for sentinel in self.running() {
            eventually(CHANGE, "a sentinel sees everybody", || sees_everybody(sentinel)).await;
        }
    }
}

async fn sees_everybody(sentinel: &Server) -> bool {
    let text: String = sentinel.get(&["INFO", "sentinel"]).await;
    // master0:name=mymaster,status=ok,address=127.0.0.1:1,slaves=1,sentinels=3
    let whole = format!(",slaves=1,sentinels={SENTINELS}");
    let counted = text.contains("status=ok") && text.contains(&whole);
    let replicas: Vec<Vec<String>> = sentinel.get(&["SENTINEL", "REPLICAS", MASTER_NAME]).await;
    let value = |name: &str| {
        let pairs = replicas.first()?.chunks_exact(2);
        pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].clone()).next()
    };
    let follows =
        value("flags").as_deref() == Some("slave") && value("master-link-status").as_deref() == Some("ok");
    counted && follows
}

/// What each sentinel is told; it finds the rest, and keeps it in the same file.
fn configuration(master: &Server) -> Vec<String> {
    let mut lines = vec![
        format!("sentinel monitor {MASTER_NAME} 127.0.0.1 {} {QUORUM}", master.port()),
        format!("sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MILLISECONDS}"),
        format!("sentinel failover-timeout {MASTER_NAME} {FAILOVER_TIMEOUT_MILLISECONDS}"),
    ];
    if let Some(password) = master.password() {
        lines.push(format!("sentinel auth-pass {MASTER_NAME} {password}"));
    }
    lines
}
