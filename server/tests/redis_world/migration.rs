//! Moving a slot from one master to another, step by step.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Value};

use super::cluster::Cluster;
use super::server::command;

/// How long one MIGRATE may take.
const MIGRATE_MILLISECONDS: &str = "5000";

/// A slot on its way: the old owner answers for the keys that it still has, and sends clients to the new one for
/// all others with ASK. A test may look at this state for as long as it likes.
pub struct Migration<'a> {
    cluster: &'a Cluster,
    /// To the old owner. Kept, since a handshake for each key would take longer than the key.
    source: MultiplexedConnection,
    pub slot: u16,
    pub from: usize,
    pub to: usize,
}

impl Cluster {
    /// Starts to move a slot to the master `to`. Panics if it is there.
    pub async fn begin_migration(&self, slot: u16, to: usize) -> Migration<'_> {
        let from = self.owner_of_slot(slot).await;
        assert_ne!(from, to, "slot {slot} is there");
        let source = self.node(from).connection().await.unwrap();
        let migration = Migration { cluster: self, source, slot, from, to };
        // in this order: the old owner must not send anyone to a node that refuses
        migration.set_slot(to, &["IMPORTING", self.id(from)]).await;
        migration.set_slot(from, &["MIGRATING", self.id(to)]).await;
        migration
    }

    /// Moves a slot and all its keys to the master `to`.
    pub async fn migrate_slot(&self, slot: u16, to: usize) {
        let migration = self.begin_migration(slot, to).await;
        migration.finish().await;
    }
}

impl Migration<'_> {
    async fn set_slot(&self, node: usize, words: &[&str]) {
        let slot = self.slot.to_string();
        let command = [&["CLUSTER", "SETSLOT", &slot], words].concat();
        self.cluster.node(node).command(&command).await;
    }

    /// Asks the old owner, also after it was started again.
    async fn ask<T: FromRedisValue>(&self, command: Cmd) -> T {
        let answer = match command.query_async(&mut self.source.clone()).await {
            Err(error) if error.is_io_error() => {
                command.query_async(&mut self.cluster.node(self.from).connection().await.unwrap()).await
            }
            answer => answer,
        };
        answer.unwrap_or_else(|error| panic!("slot {}: {error}", self.slot))
    }

    /// At most `count` of the keys that the old owner still has.
    pub async fn keys_left(&self, count: usize) -> Vec<Vec<u8>> {
        self.ask(command(&["CLUSTER", "GETKEYSINSLOT", &self.slot.to_string(), &count.to_string()])).await
    }

    /// Moves one key, and says whether it was there.
    pub async fn move_key(&self, key: &[u8]) -> bool {
        let port = self.cluster.node(self.to).port().to_string();
        let mut migrate = command(&["MIGRATE", "127.0.0.1", &port]);
        migrate.arg(key).arg(0).arg(MIGRATE_MILLISECONDS);
        if let Some(password) = self.cluster.node(self.from).password() {
            migrate.arg("AUTH").arg(password);
        }
        self.ask::<Value>(migrate).await != Value::SimpleString("NOKEY".into())
    }

    /// Moves any one key. `None` when the old owner has no more.
    pub async fn move_next(&self) -> Option<Vec<u8>> {
        let key = self.keys_left(1).await.pop()?;
        self.move_key(&key).await;
        Some(key)
    }

    /// Moves what is left, and tells all masters who the owner is.
    pub async fn finish(self) {
        while self.move_next().await.is_some() {}
        let owner = ["NODE", self.cluster.id(self.to)];
        // the new owner first: as long as it does not know, nobody must send it clients without ASK
        self.set_slot(self.to, &owner).await;
        self.set_slot(self.from, &owner).await;
        for master in self.cluster.masters().await {
            self.set_slot(master, &owner).await;
        }
    }
}
