//! What settings imply for others that nobody set. `tollgate config` shows it, with the origin of what implies it.

use super::origin::Origins;
use super::redis::RedisLayout;
use super::store::{Denials, Store, StoreKind};

/// Fills in what follows from the settings of the store.
pub(super) fn fill(store: &mut Store, origins: &mut Origins) {
    if !store.redis.url.is_empty() && implies("store.redis.url", "store.kind", origins) {
        store.kind = StoreKind::Redis;
    }
    if let Some(database) = store.redis.database_of_url()
        && implies("store.redis.url", "store.redis.database", origins)
    {
        store.redis.database = database;
    }
    // the scheme decides, whatever else is said
    if !store.redis.tls && store.redis.url_asks_for_tls() {
        store.redis.tls = true;
        origins.set("store.redis.tls", origins.of("store.redis.url").clone());
    }
    if store.redis.layout == RedisLayout::Reference {
        like_the_reference(store, origins);
    }
    // as the reference raises it
    if store.denials.max_bytes > 0 {
        store.denials.max_bytes = store.denials.max_bytes.max(Denials::LEAST_BYTES);
    }
}

/// The reference has no prefix and no cache unless it is told otherwise.
fn like_the_reference(store: &mut Store, origins: &mut Origins) {
    if implies("store.redis.layout", "store.redis.prefix", origins) {
        store.redis.prefix.clear();
    }
    if implies("store.redis.layout", "store.denials.max_bytes", origins) {
        store.denials.max_bytes = 0;
    }
}

/// Whether nobody set `key`; then whoever set `cause` has set it too.
fn implies(cause: &str, key: &str, origins: &mut Origins) -> bool {
    let is_free = !origins.is_set(key);
    if is_free {
        origins.set(key, origins.of(cause).clone());
    }
    is_free
}
