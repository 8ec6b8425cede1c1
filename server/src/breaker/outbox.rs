//! What waits to be sent on one stream: of each circuit only the latest, so that a slow reader costs no more
//! memory than the circuits that it named.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use futures_util::task::AtomicWaker;

/// Values by key in the order in which their keys first came.
#[derive(Debug)]
pub(super) struct Outbox<K, V> {
    waiting: Mutex<Waiting<K, V>>,
    reader: AtomicWaker,
}

#[derive(Debug)]
struct Waiting<K, V> {
    order: VecDeque<K>,
    latest: HashMap<K, V, RandomState>,
}

impl<K: Clone + Eq + Hash, V> Outbox<K, V> {
    pub(super) fn new() -> Outbox<K, V> {
        let waiting = Waiting { order: VecDeque::new(), latest: HashMap::default() };
        Outbox { waiting: Mutex::new(waiting), reader: AtomicWaker::new() }
    }

    /// Puts `value` in the place of what waits for `key`, or at the end.
    pub(super) fn put(&self, key: K, value: V) {
        let mut waiting = self.lock();
        if waiting.latest.insert(key.clone(), value).is_none() {
            waiting.order.push_back(key);
        }
        drop(waiting);
        self.reader.wake();
    }

    /// Takes back what waits for `key`.
    pub(super) fn forget(&self, key: &K) {
        let mut waiting = self.lock();
        if waiting.latest.remove(key).is_some() {
            waiting.order.retain(|known| known != key);
        }
    }

    /// The first `most` that wait, or nothing yet.
    pub(super) fn poll_take(&self, most: usize, context: &mut Context<'_>) -> Poll<Vec<(K, V)>> {
        self.reader.register(context.waker());
        let taken = self.take(most);
        if taken.is_empty() { Poll::Pending } else { Poll::Ready(taken) }
    }

    fn take(&self, most: usize) -> Vec<(K, V)> {
        let waiting = &mut *self.lock();
        let count = waiting.order.len().min(most);
        let keys = waiting.order.drain(..count);
        keys.filter_map(|key| waiting.latest.remove_entry(&key)).collect()
    }

    /// How many wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().latest.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<K, V>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn only_the_latest_of_each_key_is_kept_in_the_order_of_the_first() {
        let outbox = Outbox::new();
        for round in 0..1_000 {
            for key in ["a", "b", "c"] {
                outbox.put(key, round);
            }
        }
        assert_eq!(outbox.len(), 3);
        outbox.forget(&"b");
        assert_eq!(outbox.take(1), [("a", 999)]);
        assert_eq!(outbox.take(9), [("c", 999)]);
        assert_eq!(outbox.len(), 0);
    }

    #[tokio::test]
    async fn whoever_reads_is_woken() {
        let outbox = std::sync::Arc::new(Outbox::new());
        let read = outbox.clone();
        let reading = tokio::spawn(async move { poll_fn(|context| read.poll_take(9, context)).await });
        tokio::task::yield_now().await;
        outbox.put("a", 1);
        assert_eq!(reading.await.unwrap(), [("a", 1)]);
    }
}
