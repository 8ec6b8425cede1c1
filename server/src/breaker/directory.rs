//! Who else is there, and which circuits people have forced: what the servers of one Redis know of each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::time::timeout;

use super::Breakers;
use super::key::Key;
use super::members::Member;
use super::overrides::Forced;
use crate::store::Fault;
use crate::store::redis::{RedisStore, Roll};

/// How often the list of forced circuits is compared, with news or without.
const AGAIN: Duration = Duration::from_secs(2);

impl Breakers {
    /// Follows what the other servers say of themselves, for as long as it is polled.
    pub(super) async fn follow_directory(self: &Arc<Breakers>) {
        let Some(store) = self.store.clone() else { return };
        let mut rolls = store.advertise(self.me.to_record());
        loop {
            // looked at without news too: the store may have forgotten what this server put there just now
            match timeout(AGAIN, rolls.changed()).await {
                Ok(Ok(())) => {
                    let roll = rolls.borrow_and_update().clone();
                    self.meet(&roll);
                }
                // the store has gone
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            let forced = rolls.borrow().overrides;
            if forced != self.forced.load(SeqCst) {
                // what cannot be read now is tried again
                let _tried_again = self.read_forced(&store).await;
            }
        }
    }

    fn meet(self: &Arc<Breakers>, roll: &Roll) {
        let others = roll.members.iter().filter_map(|record| Member::from_record(record));
        let others = others.filter(|member| member.name != self.me.name).collect();
        self.links.update(self, others);
        self.regroup();
    }

    /// Takes over all forced circuits from the store.
    async fn read_forced(&self, store: &RedisStore) -> Result<(), Fault> {
        let read = store.overrides().await;
        let stored = read.inspect_err(|fault| {
            tracing::warn!(cause = fault.name(), "cannot read which circuits are forced; trying again");
        })?;
        let now = self.now();
        let mut all = HashMap::default();
        for (field, value) in &stored.entries {
            match (Key::from_text(field), Forced::from_stored(value, now, stored.now)) {
                (Some(key), Some(forced)) if forced.holds(now) => drop(all.insert(key, forced)),
                (Some(_), Some(_)) => _ = store.set_override(field, |_| None).await?,
                _ => tracing::warn!(field, "a forced circuit in the store makes no sense and is left out"),
            }
        }
        let known = self.forced.load(SeqCst);
        if stored.version < known {
            self.restore_forced(store, &mut all).await?;
        }
        for key in self.circuits.overrides.replace(all) {
            self.apply_forced(&key);
        }
        self.forced.store(stored.version, SeqCst);
        Ok(())
    }

    /// The store has lost what it had: what this server knows is put back.
    async fn restore_forced(
        &self,
        store: &RedisStore,
        all: &mut HashMap<Key, Forced, foldhash::fast::RandomState>,
    ) -> Result<(), Fault> {
        let now = self.now();
        for (key, forced) in self.circuits.overrides.all(now) {
            if all.contains_key(&key) {
                continue;
            }
            tracing::warn!(circuit = %key, "the store has lost that this circuit is forced; it is put back");
            store.set_override(&key.to_text(), |stored_at| Some(forced.to_stored(now, stored_at))).await?;
            all.insert(key, forced);
        }
        Ok(())
    }

    /// Forces the circuits that this server owns now.
    pub(super) fn adopt_forced(&self) {
        for (key, _) in self.circuits.overrides.all(self.now()) {
            self.apply_forced(&key);
        }
    }

    fn apply_forced(&self, key: &Key) {
        let now = self.now();
        if self.members.load().is_mine(key) {
            let forced = self.circuits.overrides.get(key, now);
            if self.circuits.force(now, key, forced.as_ref()).is_none() {
                tracing::warn!(circuit = %key, "a circuit is forced that this server does not keep");
            }
        }
    }

    /// Makes a wish known to all servers.
    pub(super) async fn store_forced(&self, key: &Key, forced: Option<&Forced>) -> Result<(), Fault> {
        let Some(store) = &self.store else { return Ok(()) };
        let now = self.now();
        let stored = |stored_at| forced.map(|forced| forced.to_stored(now, stored_at));
        let (before, after) = store.set_override(&key.to_text(), stored).await?;
        // unless somebody else has changed something too: then all is read anew
        let _read_anew = self.forced.compare_exchange(before, after, SeqCst, SeqCst);
        Ok(())
    }
}
