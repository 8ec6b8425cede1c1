//! A TCP proxy whose behaviour can be changed while it runs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::port::Port;
use super::wait::eventually;

const REACTION: Duration = Duration::from_secs(5);
const CHUNK: usize = 16 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    /// Each chunk arrives this much later than it came.
    After(Duration),
    /// Requests go through, replies are withheld.
    Swallow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
}

/// Stands in front of one server. It starts as if it were not there. Lives in the runtime that starts it, and ends
/// with its handle, together with its connections.
pub struct Proxy {
    port: Port,
    target: SocketAddr,
    traffic: watch::Sender<Traffic>,
    door: watch::Sender<Door>,
    door_is: watch::Receiver<Door>,
    /// Changes when all connections are to close.
    cut: watch::Sender<u64>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    /// The open connections, by their number in the order of their coming, from 1.
    open: Mutex<BTreeSet<u64>>,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Proxy {
    /// In front of `port` on 127.0.0.1.
    pub async fn start(port: u16) -> Proxy {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (traffic, traffic_is) = watch::channel(Traffic::After(Duration::ZERO));
        let (door, door_wanted) = watch::channel(Door::Open);
        let (door_done, door_is) = watch::channel(Door::Closed);
        let (cut, cut_is) = watch::channel(0);
        let counters = Arc::new(Counters::default());
        let port = Port::claim();
        let link = Link { target, traffic: traffic_is, cut: cut_is, counters: counters.clone() };
        let gate = Gate { port: port.number(), wanted: door_wanted, done: door_done, link };
        let mut tasks = JoinSet::new();
        tasks.spawn(gate.keep());
        let proxy = Proxy { port, target, traffic, door, door_is, cut, counters, _tasks: tasks };
        proxy.move_door(Door::Open).await;
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The URL of the server behind it, with this address instead.
    pub fn url_instead_of(&self, url: &str) -> String {
        url.replace(&self.target.to_string(), &self.address())
    }

    /// Passes everything on at once, also what was withheld.
    pub fn pass(&self) {
        self.delay(Duration::ZERO);
    }

    /// Holds each chunk for `one_way`, in both directions: a round trip takes twice as long.
    pub fn delay(&self, one_way: Duration) {
        self.traffic.send_replace(Traffic::After(one_way));
    }

    /// Lets requests through and withholds replies, until [`Proxy::pass`] delivers them late or
    /// [`Proxy::close_all`] loses them.
    pub fn swallow(&self) {
        self.traffic.send_replace(Traffic::Swallow);
    }

    /// Closes every connection, on both sides; new ones are taken.
    pub async fn close_all(&self) {
        // clients may come back at once: wait for the connections of before only
        let last = self.accepted();
        self.cut.send_modify(|cuts| *cuts += 1);
        let closed = || async { self.counters.open.lock().unwrap().range(..=last).next().is_none() };
        eventually(REACTION, "all connections are closed", closed).await;
    }

    /// Refuses new connections; open ones go on.
    pub async fn refuse(&self) {
        self.move_door(Door::Closed).await;
    }

    /// Takes connections again, after [`Proxy::refuse`].
    pub async fn accept(&self) {
        self.move_door(Door::Open).await;
    }

    async fn move_door(&self, door: Door) {
        self.door.send_replace(door);
        let moved = || async { *self.door_is.borrow() == door };
        eventually(REACTION, "the door has moved", moved).await;
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.counters.open.lock().unwrap().len()
    }

    /// Bytes handed to the server so far.
    pub fn bytes_to_server(&self) -> u64 {
        self.counters.to_server.load(Ordering::SeqCst)
    }

    /// Bytes handed to clients so far.
    pub fn bytes_to_client(&self) -> u64 {
        self.counters.to_client.load(Ordering::SeqCst)
    }
}

/// Listens while the door is to be open.
struct Gate {
    port: u16,
    wanted: watch::Receiver<Door>,
    done: watch::Sender<Door>,
    link: Link,
}

impl Gate {
    async fn keep(mut self) {
        let mut connections = JoinSet::new();
        loop {
            if *self.wanted.borrow_and_update() == Door::Open {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
                self.done.send_replace(Door::Open);
                self.take(listener, &mut connections).await;
            }
            self.done.send_replace(Door::Closed);
            if self.wanted.wait_for(|door| *door == Door::Open).await.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, listener: TcpListener, connections: &mut JoinSet<()>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.wanted.wait_for(|door| *door == Door::Closed) => return,
            };
            if let Ok((stream, _)) = accepted {
                // ready to be cut before it is counted: `close_all` waits for all that it sees
                let mut link = self.link.clone();
                link.cut.mark_unchanged();
                let guest = Guest::new(link.counters.clone());
                connections.spawn(link.carry(stream, guest));
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// Counts one connection for as long as it lives.
struct Guest {
    number: u64,
    counters: Arc<Counters>,
}

impl Guest {
    fn new(counters: Arc<Counters>) -> Guest {
        let mut open = counters.open.lock().unwrap();
        let number = counters.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        open.insert(number);
        drop(open);
        Guest { number, counters }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.counters.open.lock().unwrap().remove(&self.number);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// What a connection needs to know.
#[derive(Clone)]
struct Link {
    target: SocketAddr,
    traffic: watch::Receiver<Traffic>,
    cut: watch::Receiver<u64>,
    counters: Arc<Counters>,
}

impl Link {
    async fn carry(self, client: TcpStream, guest: Guest) {
        let mut cut = self.cut.clone();
        tokio::select! {
            () = self.both_ways(client) => {}
            _ = cut.changed() => {}
        }
        drop(guest);
    }

    async fn both_ways(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.target).await else { return };
        // the proxy adds no delay of its own
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_out, client_in) = client.into_split();
        let (server_out, server_in) = server.into_split();
        // when one side ends the other one does
        tokio::select! {
            () = self.one_way(client_out, server_in, Direction::ToServer) => {}
            () = self.one_way(server_out, client_in, Direction::ToClient) => {}
        }
    }

    async fn one_way(&self, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, direction: Direction) {
        let (chunks, queue) = mpsc::unbounded_channel();
        tokio::join!(read(from, chunks), self.write(queue, to, direction));
    }

    async fn write(
        &self,
        mut queue: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
        mut to: impl AsyncWrite + Unpin,
        direction: Direction,
    ) {
        let mut traffic = self.traffic.clone();
        let counter = match direction {
            Direction::ToServer => &self.counters.to_server,
            Direction::ToClient => &self.counters.to_client,
        };
        while let Some((came, bytes)) = queue.recv().await {
            due(&mut traffic, came, direction).await;
            // before it is written: whoever has the bytes may look at the counter
            counter.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

async fn read(mut from: impl AsyncRead + Unpin, chunks: mpsc::UnboundedSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if chunks.send((Instant::now(), buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}

/// Waits until a chunk that came at `came` may go on, by the rule that holds then.
async fn due(traffic: &mut watch::Receiver<Traffic>, came: Instant, direction: Direction) {
    loop {
        let now = *traffic.borrow_and_update();
        let until = match now {
            Traffic::After(delay) => Some(came + delay),
            Traffic::Swallow => (direction == Direction::ToServer).then_some(came),
        };
        tokio::select! {
            () = sleep_until(until.unwrap_or(came)), if until.is_some() => return,
            // a proxy that is gone closes its connections: nothing more to wait for
            changed = traffic.changed() => if changed.is_err() { return },
        }
    }
}
