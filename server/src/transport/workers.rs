//! One single-threaded runtime per core. A connection stays where it was put, so that its calls never
//! move between cores.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, ConnectionLimits, Services};
use super::listen::{Accepted, Protocol};

/// The threads that serve connections.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    grpc: Arc<Cap>,
    http: Arc<Cap>,
}

/// How many connections of one port there may be.
#[derive(Debug)]
struct Cap {
    most: usize,
    open: AtomicUsize,
    refused: AtomicU64,
}

/// A connection in the count of its port, until it is dropped.
#[derive(Debug)]
struct Place(Arc<Cap>);

impl Cap {
    fn new(most: Option<usize>) -> Arc<Cap> {
        Arc::new(Cap {
            most: most.unwrap_or(usize::MAX),
            open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Room for one more; `None`, counted, if there is none. Only the port's own accepting adds to the count.
    fn take(self: &Arc<Cap>) -> Option<Place> {
        if self.open.load(Ordering::Relaxed) >= self.most {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Place(self.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections that were closed at once because their port had as many as it may.
#[derive(Clone, Debug)]
pub struct Refusals {
    grpc: Arc<Cap>,
    http: Arc<Cap>,
}

impl Refusals {
    /// Those of the gRPC port.
    #[must_use]
    pub fn grpc(&self) -> u64 {
        self.grpc.refused.load(Ordering::Relaxed)
    }

    /// Those of the HTTP port.
    #[must_use]
    pub fn http(&self) -> u64 {
        self.http.refused.load(Ordering::Relaxed)
    }
}

/// An accepted connection on its way to its worker.
type Given = (Accepted, Protocol, Place);

#[derive(Debug)]
struct Worker {
    connections: UnboundedSender<Given>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts `count` workers. `services` is called once on each, so that nothing on the path of a call is
    /// shared between cores that need not be. They leave when `drain` is cancelled and their connections
    /// have ended, at the latest `grace` after it.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub fn start(
        count: usize,
        services: impl Fn() -> Services,
        limits: &ConnectionLimits,
        drain: &CancellationToken,
        grace: Duration,
    ) -> io::Result<Workers> {
        let start = |number| Worker::start(number, services(), limits.clone(), drain.clone(), grace);
        let workers = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Workers { workers, grpc: Cap::new(limits.max_grpc), http: Cap::new(limits.max_http) })
    }

    /// What was refused.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        Refusals { grpc: self.grpc.clone(), http: self.http.clone() }
    }

    /// Gives a connection to the worker that has the fewest. One too many is closed: a caller that is told so at
    /// once can go elsewhere, one that is left in the backlog cannot.
    pub(super) fn give(&self, accepted: Accepted, protocol: Protocol) {
        let cap = match protocol {
            Protocol::Grpc => &self.grpc,
            Protocol::Http => &self.http,
        };
        let Some(place) = cap.take() else { return };
        let fewest = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        let Some(worker) = fewest else { return };
        worker.open.fetch_add(1, Ordering::Relaxed);
        if worker.connections.send((accepted, protocol, place)).is_err() {
            worker.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.workers.iter().map(|worker| worker.open.load(Ordering::Relaxed)).sum()
    }

    /// Waits until every worker has left. Blocks.
    pub fn join(self) {
        for worker in self.workers {
            drop(worker.connections);
            if worker.thread.join().is_err() {
                tracing::error!("a worker thread has panicked");
            }
        }
    }
}

impl Worker {
    fn start(
        number: usize,
        services: Services,
        limits: ConnectionLimits,
        drain: CancellationToken,
        grace: Duration,
    ) -> io::Result<Worker> {
        let (connections, accepted) = unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = Work { services, limits, drain, grace, open: open.clone() };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || runtime.block_on(work.run(accepted)))?;
        Ok(Worker { connections, open, thread })
    }
}

struct Work {
    services: Services,
    limits: ConnectionLimits,
    drain: CancellationToken,
    grace: Duration,
    open: Arc<AtomicUsize>,
}

impl Work {
    async fn run(self, mut accepted: UnboundedReceiver<Given>) {
        tokio::spawn((self.services.warm)());
        let tasks = TaskTracker::new();
        loop {
            let next = tokio::select! {
                next = accepted.recv() => next,
                () = self.drain.cancelled() => None,
            };
            let Some(given) = next else { break };
            self.spawn(&tasks, given);
        }
        // what was accepted before the listeners closed is still served
        while let Ok(given) = accepted.try_recv() {
            self.spawn(&tasks, given);
        }
        tasks.close();
        self.drain.cancelled().await;
        if tokio::time::timeout(self.grace, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "connections cut off at the end of the shutdown grace");
        }
    }

    fn spawn(&self, tasks: &TaskTracker, (stream, protocol, place): Given) {
        let counted = Open(self.open.clone());
        let (services, limits, drain) = (self.services.clone(), self.limits.clone(), self.drain.clone());
        tasks.spawn(async move {
            let _counted = (counted, place);
            match stream.into_tokio() {
                Ok(stream) => connection::serve(stream, protocol, services, &limits, drain).await,
                Err(error) => tracing::debug!(%error, "connection lost before it was served"),
            }
        });
    }
}

/// A connection in the count, until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
