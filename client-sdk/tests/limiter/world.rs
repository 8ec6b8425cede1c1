//! Limits, and a wire that can be cut.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tollgate_client::limiter::{LeaseMode, RateLimiterClient, RateLimiterClientBuilder, Request};
use tollgate_client::testing::{InProcessLimiter, ServedLimiter};
use tollgate_core::limit::{FixedWindow, LeakyBucket, Limit, Rate, Refused, TokenBucket, Window};
use tollgate_core::time::Span;

pub(crate) fn bucket(rate: u64, burst: u64) -> Limit {
    Limit::TokenBucket(TokenBucket::new(Rate::new(rate, Span::SECOND).unwrap(), burst).unwrap())
}

pub(crate) fn window(limit: u64, span: Span) -> Limit {
    Limit::FixedWindow(FixedWindow::new(limit, Window::Epoch(span), Refused::Free).unwrap())
}

pub(crate) fn queue(rate: u64, length: u64) -> Limit {
    Limit::LeakyBucket(LeakyBucket::new(Rate::new(rate, Span::SECOND).unwrap(), length).unwrap())
}

/// A limiter with one limit for each tenant of the shop.
pub(crate) fn limiter(limit: Limit) -> InProcessLimiter {
    InProcessLimiter::builder().limit("shop", &["tenant"], limit).build().unwrap()
}

/// A limiter that never refuses in a test.
pub(crate) fn generous() -> InProcessLimiter {
    limiter(bucket(10_000_000, 10_000_000))
}

pub(crate) fn client(target: impl Into<String>) -> RateLimiterClientBuilder {
    RateLimiterClient::builder(target).domain("shop").deadline(Duration::from_secs(2)).lease(LeaseMode::Off)
}

pub(crate) fn acme() -> Request {
    Request::of([("tenant", "acme")])
}

/// Waits until `condition` holds, for at most 20 s.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// A wire to a limiter that can be cut, and joined again at the same address.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    to: SocketAddr,
    connects: Arc<AtomicU64>,
    cut: Mutex<CancellationToken>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Wire {
    pub(crate) async fn to(served: &ServedLimiter) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire {
            address: listener.local_addr().unwrap(),
            to: served.address(),
            connects: Arc::default(),
            cut: Mutex::default(),
            task: Mutex::default(),
        };
        wire.run(listener);
        wire
    }

    fn run(&self, listener: TcpListener) {
        let (connects, to, cut) = (self.connects.clone(), self.to, self.cut.lock().unwrap().clone());
        let accepting = async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = cut.cancelled() => return,
                };
                connects.fetch_add(1, SeqCst);
                tokio::spawn(carry(accepted.unwrap().0, to, cut.clone()));
            }
        };
        *self.task.lock().unwrap() = Some(tokio::spawn(accepting));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connects(&self) -> u64 {
        self.connects.load(SeqCst)
    }

    /// Cuts what is connected and closes the port.
    pub(crate) async fn cut(&self) {
        self.cut.lock().unwrap().cancel();
        let task = self.task.lock().unwrap().take();
        if let Some(task) = task {
            task.await.unwrap();
        }
    }

    /// Opens the port again.
    pub(crate) async fn join(&self) {
        *self.cut.lock().unwrap() = CancellationToken::new();
        self.run(bind(self.address).await);
    }

    /// Cuts what is connected; new connections are carried.
    pub(crate) async fn reset(&self) {
        self.cut().await;
        self.join().await;
    }
}

/// The port may still be in use for a moment.
pub(crate) async fn bind(address: SocketAddr) -> TcpListener {
    for _ in 0..1_000 {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the port stays in use");
}

async fn carry(mut from: TcpStream, to: SocketAddr, cut: CancellationToken) {
    let Ok(mut to) = TcpStream::connect(to).await else { return };
    from.set_nodelay(true).unwrap();
    to.set_nodelay(true).unwrap();
    tokio::select! {
        // either end may close
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        () = cut.cancelled() => {}
    }
}

/// `addresses` as a client is given them.
pub(crate) fn target(addresses: impl IntoIterator<Item = SocketAddr>) -> String {
    let list: Vec<String> = addresses.into_iter().map(|address| address.to_string()).collect();
    format!("static:{}", list.join(","))
}
