//! `tollgate.v1.CircuitBreakers` in this process, over memory: the circuits of [`tollgate_core`] behind the same
//! messages as the real server. For tests and demonstrations without a network.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tollgate_client::clock::{Clock, SystemClock};
use tollgate_core::breaker::fleet::{
    Circuit, Claim, Event, FleetConfig, FleetSettings, Report, ReporterId, Snapshot,
};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as proto;
use tollgate_proto::tollgate::v1::circuit_breakers_server::CircuitBreakersServer;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Server};

#[path = "fleet_mapping.rs"]
mod mapping;
#[path = "fleet_service.rs"]
mod service;

use mapping::Key;

type Answers = mpsc::UnboundedSender<Result<proto::SyncResponse, Status>>;

/// How often timers of circuits are looked at.
const TICK: Duration = Duration::from_millis(10);
/// Bytes that a connection holds.
const PIPE: usize = 1 << 20;

/// A server that can go and come back. Clones are the same server.
#[derive(Clone)]
pub(crate) struct FleetServer(Arc<Hub>);

struct Hub {
    config: Arc<FleetConfig>,
    /// The number of its life; 0 while it is away.
    life: watch::Sender<u64>,
    lives: AtomicU64,
    /// Times that its streams were reset.
    resets: watch::Sender<u64>,
    state: Mutex<Circuits>,
}

#[derive(Default)]
struct Circuits {
    circuits: HashMap<Key, Circuit>,
    streams: HashMap<u64, Listening>,
    last: u64,
    heard: Heard,
    /// How often the reporters of a circuit were blamed, by name.
    blamed: BTreeSet<Vec<u8>>,
    names: HashMap<ReporterId, Vec<u8>>,
    /// What reporters believed when they came.
    claims: HashMap<(ReporterId, Key), Claim>,
    lost: Lost,
}

struct Listening {
    reporter: ReporterId,
    keys: BTreeSet<Key>,
    down: Answers,
}

/// What is lost on the way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Lost {
    #[default]
    Nothing,
    /// What clients say: no circuit is kept.
    Reports,
    /// What the server says.
    Answers,
}

/// What clients have said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// Messages on streams, and unary reports.
    pub(crate) messages: u64,
    /// Deltas in them, whether new or not.
    pub(crate) deltas: u64,
    /// Claims in them.
    pub(crate) claims: u64,
    /// Permits that were asked for.
    pub(crate) asked: u64,
    /// Watches that were ended.
    pub(crate) unwatched: u64,
}

impl FleetServer {
    /// A server whose circuits are all set up so. It needs a tokio runtime, and lives as long as a handle.
    pub(crate) fn start(settings: FleetSettings) -> Result<FleetServer, Box<dyn std::error::Error>> {
        let config = Arc::new(FleetConfig::new(settings)?);
        let (life, resets) = (watch::Sender::new(1), watch::Sender::new(0));
        let hub = Hub { config, life, lives: 1.into(), resets, state: Mutex::default() };
        let server = FleetServer(Arc::new(hub));
        tokio::spawn(keep_time(Arc::downgrade(&server.0)));
        Ok(server)
    }

    /// A channel to it. It connects when it is used, as often as it breaks.
    pub(crate) fn channel(&self) -> Channel {
        let server = self.clone();
        let connect = tower::service_fn(move |_| {
            let server = server.clone();
            async move { server.accept().map(hyper_util::rt::TokioIo::new) }
        });
        Endpoint::from_static("http://fleet.test").connect_with_connector_lazy(connect)
    }

    fn accept(&self) -> std::io::Result<tokio::io::DuplexStream> {
        let life = *self.0.life.borrow();
        if life == 0 {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (mut near, server_end) = tokio::io::duplex(PIPE);
        let (mut far, client_end) = tokio::io::duplex(PIPE);
        let mut lives = self.0.life.subscribe();
        tokio::spawn(async move {
            // when the server's life is over, both ends see the connection break
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = lives.wait_for(|now| *now != life) => {}
            }
        });
        let service = CircuitBreakersServer::new(self.clone());
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server_end));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Ok(client_end)
    }

    /// The server is gone, with all that it knew.
    pub(crate) fn stop(&self) {
        self.0.life.send_replace(0);
        self.reset_streams();
        let mut state = self.0.lock();
        (state.circuits, state.streams, state.claims) = Default::default();
    }

    /// Another server takes its place; it knows nothing.
    pub(crate) fn restart(&self) {
        self.0.life.send_replace(self.0.lives.fetch_add(1, SeqCst) + 1);
    }

    /// Resets every stream, as a proxy does.
    pub(crate) fn reset_streams(&self) {
        self.0.resets.send_modify(|resets| *resets += 1);
    }

    /// Loses what is said on connections from now on, as one does that breaks soon: reset the streams afterwards.
    pub(crate) fn lose(&self, lost: Lost) {
        self.0.lock().lost = lost;
    }

    /// The circuit of `namespace` and `target`; `None` if nobody has spoken of it.
    pub(crate) fn circuit(&self, namespace: &str, target: &str) -> Option<Snapshot> {
        let key = mapping::key(namespace, target);
        self.0.lock().circuits.get(&key).map(|circuit| circuit.snapshot(SystemClock.now()))
    }

    /// What clients have said.
    pub(crate) fn heard(&self) -> Heard {
        self.0.lock().heard
    }

    /// Streams that are open.
    pub(crate) fn streams(&self) -> usize {
        self.0.lock().streams.len()
    }
}

/// Does what is due, until the server is dropped.
async fn keep_time(hub: std::sync::Weak<Hub>) {
    let mut renewed = SystemClock.now();
    loop {
        tokio::time::sleep(TICK).await;
        let Some(hub) = hub.upgrade() else { return };
        let now = SystemClock.now();
        let quarter = Span::from_micros(hub.config.settings().lease.as_micros() / 4);
        let renew = now - renewed >= quarter;
        if renew {
            renewed = now;
        }
        hub.lock().tick(now, renew);
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Circuits> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The circuit of `key`, made if need be: a later life asks first what its clients believe.
    fn circuit<'a>(&self, state: &'a mut Circuits, key: &Key, now: Time) -> &'a mut Circuit {
        let life = self.lives.load(SeqCst);
        let make = if life > 1 { Circuit::adopting } else { Circuit::new };
        state.circuits.entry(key.clone()).or_insert_with(|| make(self.config.clone(), life, 7 + life, now))
    }

    /// Takes what a reporter says; the answers are to be sent to it.
    fn hear(
        &self,
        from: &proto::Reporter,
        said: &proto::SyncRequest,
    ) -> Result<Vec<proto::Directive>, Status> {
        let (now, reporter) = (SystemClock.now(), mapping::reporter(from));
        let mut state = self.lock();
        if state.lost == Lost::Reports {
            return Ok(Vec::new());
        }
        state.names.insert(reporter, from.id.clone());
        state.heard.messages += 1;
        state.heard.deltas += said.deltas.len() as u64;
        state.heard.claims += said.claims.len() as u64;
        let mut about = BTreeSet::new();
        for claim in &said.claims {
            let (key, claim) = mapping::claim(claim)?;
            state.claims.insert((reporter, key.clone()), claim);
            let events = self.circuit(&mut state, &key, now).adopt(now, &[(reporter, claim)]);
            state.spread(&key, now, &events);
            about.insert(key);
        }
        for delta in &said.deltas {
            let (key, mut delta) = mapping::delta(delta)?;
            // the core takes a delta without a claim for the claim that nothing is wrong
            delta.claim = state.claims.get(&(reporter, key.clone())).copied();
            let report = Report { reporter, incarnation: from.incarnation, delta };
            let events = self.circuit(&mut state, &key, now).report(now, &report);
            state.spread(&key, now, &events);
            about.insert(key);
        }
        for key in said.watch.iter().map(mapping::key_of) {
            self.circuit(&mut state, &key, now);
            about.insert(key);
        }
        Ok(about.iter().filter_map(|key| state.directive(key, reporter, now)).collect())
    }

    fn ask(&self, asked: &proto::AcquireProbeRequest) -> Result<Option<proto::Directive>, Status> {
        let from = asked.reporter.as_ref().ok_or_else(|| Status::invalid_argument("reporter is missing"))?;
        let key = mapping::key_of(asked.key.as_ref().unwrap_or(&proto::CircuitKey::default()));
        let (now, reporter) = (SystemClock.now(), mapping::reporter(from));
        let mut state = self.lock();
        state.heard.asked += 1;
        let permit = self.circuit(&mut state, &key, now).acquire_probe(now, reporter);
        let directive = state.directive(&key, reporter, now);
        Ok(directive
            .map(|told| proto::Directive { permits: permit.iter().map(mapping::permit).collect(), ..told }))
    }
}

impl Circuits {
    fn directive(&mut self, key: &Key, reporter: ReporterId, now: Time) -> Option<proto::Directive> {
        let told = self.circuits.get_mut(key)?.directive_for(now, reporter)?;
        Some(mapping::directive(key, &told))
    }

    /// Tells those who listen what has happened.
    fn spread(&mut self, key: &Key, now: Time, events: &[Event]) {
        for event in events {
            if let Event::LocalFault { reporter, .. } = event {
                self.blamed.extend(self.names.get(reporter).cloned());
            }
        }
        if !events.is_empty() {
            self.tell(key, now);
        }
    }

    fn send(&self, down: &Answers, directives: Vec<proto::Directive>) {
        if self.lost != Lost::Answers && !directives.is_empty() {
            // the client may have gone
            let _gone = down.send(Ok(proto::SyncResponse { directives }));
        }
    }

    fn tell(&mut self, key: &Key, now: Time) {
        let Circuits { circuits, streams, lost, .. } = self;
        let Some(circuit) = circuits.get_mut(key) else { return };
        for stream in streams.values().filter(|stream| stream.keys.contains(key)) {
            let told = circuit.directive_for(now, stream.reporter);
            let directives: Vec<_> = told.iter().map(|told| mapping::directive(key, told)).collect();
            if *lost != Lost::Answers && !directives.is_empty() {
                // the client may have gone
                let _gone = stream.down.send(Ok(proto::SyncResponse { directives }));
            }
        }
    }

    fn tick(&mut self, now: Time, renew: bool) {
        let due = |circuit: &Circuit| renew || circuit.next_wake().is_some_and(|wake| wake <= now);
        let due: Vec<Key> =
            self.circuits.iter().filter(|(_, circuit)| due(circuit)).map(|(key, _)| key.clone()).collect();
        for key in due {
            let events = self.circuits.get_mut(&key).map(|circuit| circuit.tick(now)).unwrap_or_default();
            self.spread(&key, now, &events);
            if renew {
                self.tell(&key, now);
            }
        }
    }
}

impl Circuits {
    fn subscribe(&mut self, number: u64, from: &proto::Reporter, said: &proto::SyncRequest, down: &Answers) {
        let listening = self.streams.entry(number).or_insert_with(|| Listening {
            reporter: mapping::reporter(from),
            keys: BTreeSet::new(),
            down: down.clone(),
        });
        listening.keys.extend(said.watch.iter().map(mapping::key_of));
        for key in said.unwatch.iter().map(mapping::key_of) {
            listening.keys.remove(&key);
            self.heard.unwatched += 1;
        }
    }
}
