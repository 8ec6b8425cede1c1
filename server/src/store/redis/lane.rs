//! A lane: one connection that the requests of one thread share, and that is made anew when it is of no use.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use deadpool::Runtime;
use deadpool::managed::{Object, Pool, PoolError, Timeouts};
use futures_util::future::join_all;
use redis::RedisError;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::dial::{Dialer, Link};
use super::fault;
use super::report::Report;
use crate::store::Fault;

/// All lanes of a store, and the pool that makes their connections.
pub(super) struct Lanes {
    pool: Pool<Dialer>,
    lanes: Box<[Lane]>,
    /// The number of the newest round of connections.
    epoch: AtomicU64,
}

#[derive(Default)]
struct Lane {
    linked: ArcSwapOption<Linked>,
    /// Why the last attempt to connect brought nothing.
    refused: ArcSwapOption<Fault>,
    /// Somebody has asked for a connection.
    used: AtomicBool,
    connecting: AtomicBool,
    connected: Notify,
}

/// A connection in use.
pub(super) struct Linked {
    pub(super) link: Link,
    epoch: u64,
    /// Keeps its place in the pool for as long as the connection is in use.
    _place: Object<Dialer>,
}

impl Lanes {
    /// `count` lanes, at least one.
    ///
    /// # Errors
    /// The pool cannot be built.
    pub(super) fn new(dialer: Dialer, count: usize, connect_timeout: Duration) -> anyhow::Result<Lanes> {
        let count = count.max(1);
        let timeouts = Timeouts { create: Some(connect_timeout), wait: Some(connect_timeout), recycle: None };
        // a lane may hold its old connection while it makes a new one, and probes need one too
        let pool = Pool::builder(dialer)
            .max_size(2 * count + 2)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Lanes { pool, lanes: (0..count).map(|_| Lane::default()).collect(), epoch: AtomicU64::new(0) })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The lane of the calling thread.
    pub(super) fn mine(&self) -> usize {
        seat() % self.lanes.len()
    }

    /// A connection of the newest epoch for a lane, within `patience`. Only the first caller makes it.
    pub(super) async fn linked(
        self: &Arc<Lanes>,
        lane: usize,
        needs: u64,
        patience: Duration,
        report: &Arc<Report>,
    ) -> Result<Arc<Linked>, Fault> {
        if let Some(linked) = self.usable(lane, needs) {
            return Ok(linked);
        }
        self.lanes[lane].used.store(true, Relaxed);
        timeout(patience, self.wait(lane, needs, report)).await.unwrap_or(Err(Fault::Unreachable))
    }

    /// Waits for one attempt to connect that began no earlier than this call, or for an earlier one that
    /// brought what is needed.
    async fn wait(
        self: &Arc<Lanes>,
        lane: usize,
        needs: u64,
        report: &Arc<Report>,
    ) -> Result<Arc<Linked>, Fault> {
        for _attempt in 0..2 {
            // registered before the look, so that no notice is missed
            let connected = self.lanes[lane].connected.notified();
            if let Some(linked) = self.usable(lane, needs) {
                return Ok(linked);
            }
            let mine = !self.lanes[lane].connecting.swap(true, SeqCst);
            if mine {
                tokio::spawn(self.clone().connect(lane, report.clone()));
            }
            connected.await;
            if mine {
                break;
            }
        }
        let refused = || self.lanes[lane].refused.load_full().map_or(Fault::Unreachable, |fault| *fault);
        self.usable(lane, needs).ok_or_else(refused)
    }

    fn usable(&self, lane: usize, needs: u64) -> Option<Arc<Linked>> {
        self.lanes[lane].linked.load_full().filter(|linked| linked.epoch >= needs)
    }

    async fn connect(self: Arc<Lanes>, lane: usize, report: Arc<Report>) {
        let made = self.make().await;
        let error = made.as_ref().err();
        error.inspect(|error| report.connection_failed(error));
        self.lanes[lane].refused.store(error.map(fault_of).map(Arc::new));
        if let Ok(linked) = made {
            self.lanes[lane].linked.store(Some(Arc::new(linked)));
        }
        self.lanes[lane].connecting.store(false, SeqCst);
        self.lanes[lane].connected.notify_waiters();
    }

    /// A new connection of the newest epoch.
    async fn make(&self) -> Result<Linked, ConnectError> {
        let epoch = self.epoch.load(SeqCst);
        let place = self.pool.get().await?;
        Ok(Linked { link: Link::clone(&place), epoch, _place: place })
    }

    /// A new connection for a probe, of an epoch of its own.
    pub(super) async fn probe(&self) -> Result<Probing, ConnectError> {
        let linked = self.make().await?;
        Ok(Probing { linked })
    }

    /// Begins a new epoch: connections made from now on belong to it.
    pub(super) fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, SeqCst) + 1
    }

    /// A connection that some lane has.
    pub(super) fn current(&self) -> Option<Link> {
        self.lanes.iter().find_map(|lane| lane.linked.load().as_ref().map(|linked| linked.link.clone()))
    }

    /// Gives every lane that is in use a connection of `epoch`, within `patience`: whoever is let through again
    /// shall not have to wait for that, nor take the time that it takes for one more failure.
    pub(super) async fn renew(self: &Arc<Lanes>, epoch: u64, patience: Duration, report: &Arc<Report>) {
        let used = (0..self.count()).filter(|&lane| self.lanes[lane].used.load(Relaxed));
        join_all(used.map(|lane| self.linked(lane, epoch, patience, report))).await;
    }

    /// `linked` is of no use any more.
    pub(super) fn drop_link(&self, lane: usize, linked: &Arc<Linked>) {
        let current = self.lanes[lane].linked.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, linked)) {
            self.lanes[lane].linked.compare_and_swap(&current, None);
        }
    }
}

/// A connection that nobody else uses.
pub(super) struct Probing {
    linked: Linked,
}

impl Probing {
    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.linked.link
    }
}

/// Why a connection cannot be made.
pub(super) type ConnectError = PoolError<RedisError>;

/// The fault behind it.
pub(super) fn fault_of(error: &ConnectError) -> Fault {
    match error {
        PoolError::Backend(error) => fault::of(error),
        _ => Fault::Unreachable,
    }
}

/// The number of this thread: threads are numbered in the order in which they first ask.
fn seat() -> usize {
    static SEATS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SEAT: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SEAT.with(|seat| {
        let taken = seat.get().unwrap_or_else(|| SEATS.fetch_add(1, Relaxed));
        seat.set(Some(taken));
        taken
    })
}
