//! One single-threaded runtime per core. A connection stays where it was put, so that its calls never
//! move between cores.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
}

#[derive(Debug)]
struct Worker {
    connections: UnboundedSender<(Accepted, Protocol)>,
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
        Ok(Workers { workers })
    }

    /// Gives a connection to the worker that has the fewest.
    pub(super) fn give(&self, accepted: Accepted, protocol: Protocol) {
        let fewest = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        let Some(worker) = fewest else { return };
        worker.open.fetch_add(1, Ordering::Relaxed);
        if worker.connections.send((accepted, protocol)).is_err() {
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
    async fn run(self, mut accepted: UnboundedReceiver<(Accepted, Protocol)>) {
        tokio::spawn((self.services.warm)());
        let tasks = TaskTracker::new();
        loop {
            let next = tokio::select! {
                next = accepted.recv() => next,
                () = self.drain.cancelled() => None,
            };
            let Some((stream, protocol)) = next else { break };
            self.spawn(&tasks, stream, protocol);
        }
        // what was accepted before the listeners closed is still served
        while let Ok((stream, protocol)) = accepted.try_recv() {
            self.spawn(&tasks, stream, protocol);
        }
        tasks.close();
        self.drain.cancelled().await;
        if tokio::time::timeout(self.grace, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "connections cut off at the end of the shutdown grace");
        }
    }

    fn spawn(&self, tasks: &TaskTracker, stream: Accepted, protocol: Protocol) {
        let counted = Open(self.open.clone());
        let (services, limits, drain) = (self.services.clone(), self.limits.clone(), self.drain.clone());
        tasks.spawn(async move {
            let _counted = counted;
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
