//! Circuit breakers that a fleet of clients shares (`tollgate.v1.CircuitBreakers`).
//!
//! Each circuit belongs to one server, which judges all reports on it (`circuits`, over the core's `Circuit`);
//! `members` says which. A client's stream ends at any server (`service`, `sessions`), which passes on what
//! belongs to others over one stream to each (`relay`; `peers` is its other end). When servers come or go, the
//! circuits that move are put where they belong now, with what their clients were told last, so that the new
//! owner goes on where the old one stopped. Nothing here is on the path of anybody's calls.

mod circuits;
mod console;
mod counts;
mod decode;
mod directory;
mod encode;
mod exchange;
mod fan_out;
mod history;
mod key;
mod members;
mod outbox;
mod overrides;
mod peers;
mod policy;
mod relay;
mod service;
mod sessions;
mod tls;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as wire;

use self::circuits::{Caller, Circuits, Listener};
pub use self::console::{Peer, Told};
pub use self::counts::BreakerFigures;
use self::counts::Counts;
use self::decode::{Heard, Said};
pub use self::key::Key;
pub use self::members::{Member, Members, Owner};
pub use self::peers::PeerService;
pub use self::policy::Policy;
use self::relay::Links;
pub use self::service::BreakerService;
use self::sessions::{At, Session, Sessions};
pub use self::tls::PeerTls;
use crate::admin::Writes;
use crate::clock::{Clock, Steady};
use crate::store::redis::RedisStore;
use crate::telemetry::metrics::Metrics;

/// How often circuits that nobody has taken are offered again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often circuits that are of no use any more are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// How to share circuits.
pub struct BreakerOptions {
    /// Which thresholds rule which circuit.
    pub policy: Policy,
    /// Most circuits on this server.
    pub max_circuits: usize,
    /// Most circuits that one stream may name.
    pub max_keys_per_client: usize,
    /// Who may force circuits.
    pub writes: Writes,
    /// How the other servers are called; `None`: in clear text.
    pub tls: Option<PeerTls>,
    /// What servers of one fleet show to each other; empty: there are no others.
    pub token: String,
    /// This server.
    pub me: Member,
    /// Where servers of one fleet meet; `None`: there are no others.
    pub store: Option<Arc<RedisStore>>,
}

/// All circuits of this server, its clients, and its streams to the others.
pub struct Breakers {
    circuits: Circuits,
    sessions: Sessions,
    links: Links,
    members: ArcSwap<Members>,
    me: Member,
    token: String,
    writes: Writes,
    tls: Option<PeerTls>,
    store: Option<Arc<RedisStore>>,
    max_keys: usize,
    counts: Arc<Counts>,
    clock: Steady,
    /// Some circuit of some client is with nobody.
    unsettled: AtomicBool,
    /// Which change of the forced circuits is known.
    forced: AtomicU64,
    closing: CancellationToken,
    /// Whose hot keys other servers may ask for.
    hot: OnceLock<Arc<Metrics>>,
}

/// What goes to other servers, by their names.
type Outgoing = HashMap<Arc<str>, wire::SyncRequest, RandomState>;

impl Breakers {
    /// Needs a runtime: its clock begins now.
    ///
    /// # Errors
    /// The token is no header value.
    pub fn new(options: BreakerOptions, clock: &dyn Clock) -> anyhow::Result<Arc<Breakers>> {
        let BreakerOptions { policy, max_circuits, max_keys_per_client, writes, tls, token, me, store } =
            options;
        let clock = Steady::new(clock.now());
        let counts = Arc::new(Counts::default());
        Ok(Arc::new(Breakers {
            circuits: Circuits::new(policy, max_circuits, counts.clone(), clock.now()),
            sessions: Sessions::new(clock),
            links: Links::new(&token)?,
            members: ArcSwap::from_pointee(Members::new(&me.name, std::iter::empty())),
            me,
            token,
            writes,
            tls,
            store,
            max_keys: max_keys_per_client,
            counts,
            clock,
            unsettled: AtomicBool::new(false),
            forced: AtomicU64::new(0),
            closing: CancellationToken::new(),
            hot: OnceLock::new(),
        }))
    }

    /// Everything that has to run beside the streams, for as long as it is polled.
    pub async fn keep(self: Arc<Breakers>) {
        tokio::join!(self.tick(), self.settle_and_sweep(), self.follow_directory());
    }

    /// Ends all streams, those of clients without an error: they go on with another server.
    pub fn close(&self) {
        self.closing.cancel();
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    /// Whether another server of the fleet shows this.
    fn is_peer(&self, sent: &[u8]) -> bool {
        crate::admin::same(sent, self.token.as_bytes())
    }

    /// One timer for all circuits.
    async fn tick(&self) {
        loop {
            let next = self.circuits.tick(self.now());
            let due = async {
                match next {
                    Some(next) => sleep_until(self.clock.instant(next)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.circuits.earlier() => {}
            }
        }
    }

    async fn settle_and_sweep(&self) {
        let mut beats = interval(AGAIN);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            let now = beats.tick().await;
            if self.unsettled.swap(false, Relaxed) {
                self.settle();
            }
            if now - swept >= SWEEP {
                swept = now;
                self.circuits.sweep(self.now());
            }
        }
    }

    /// Takes what a client says, and passes on what is others'.
    fn hear(&self, session: &Arc<Session>, heard: Heard) {
        let deltas = heard.about.iter().flat_map(|(_, said)| said);
        self.counts.reported(deltas.filter(|said| matches!(said, Said::Happened(..))).count());
        let members = self.members.load();
        let mut outgoing = Outgoing::default();
        for (key, said) in heard.about {
            self.route(session, &members, (key, said), &mut outgoing);
        }
        for key in heard.unwatch {
            if let Some(at) = session.forget(&key) {
                self.depart(session, &key, &at, &mut outgoing);
            }
        }
        self.send(session, outgoing);
    }

    /// Brings what a client says of one circuit to its owner.
    fn route(
        &self,
        session: &Arc<Session>,
        members: &Members,
        (key, mut said): (Key, SmallVec<[Said; 2]>),
        outgoing: &mut Outgoing,
    ) {
        let at = At::owner(members.owner(&key));
        let Some(placed) = session.place(&key, &at, self.max_keys) else { return self.counts.full() };
        if let Some(from) = &placed.from {
            self.depart(session, &key, from, outgoing);
        }
        let claims = said.iter().any(|said| matches!(said, Said::Believes(..)));
        if let Some(claim) = placed.claim.filter(|_| !claims)
            // we wrote it ourselves: it makes sense
            && let Ok(said_before) = decode::believes(claim)
        {
            said.insert(0, said_before);
        }
        match at {
            At::Peer(name) => add(outgoing.entry(name).or_default(), &key, said, placed.from.is_some()),
            At::Me | At::Nobody => {
                let listener: Arc<dyn Listener> = session.clone();
                let caller =
                    Caller { reporter: &session.reporter, listens: Some((session.number, &listener)) };
                if let Some(directive) = self.circuits.hear(self.now(), &key, caller, &said) {
                    session.told(&key, directive);
                }
            }
        }
    }

    /// The client does not ask `at` about the circuit any more.
    fn depart(&self, session: &Session, key: &Key, at: &At, outgoing: &mut Outgoing) {
        match at {
            At::Nobody => {}
            At::Me => self.circuits.unlisten(self.now(), key, session.number),
            At::Peer(name) => outgoing.entry(name.clone()).or_default().unwatch.push(key.to_wire()),
        }
    }

    fn send(&self, session: &Session, outgoing: Outgoing) {
        for (name, mut request) in outgoing {
            self.counts.relayed();
            request.reporter = Some(session.reporter.wire.clone());
            let keys = named(&request);
            let message = wire::RelayRequest { client: session.number, request: Some(request), gone: false };
            if self.links.send(&name, message) {
                continue;
            }
            self.counts.undelivered();
            let at = At::Peer(name);
            keys.iter().for_each(|key| session.unplace(key, &at));
            self.unsettled.store(true, Relaxed);
        }
    }

    /// A client has gone.
    fn end(&self, session: &Session) {
        self.sessions.end(session.number);
        let mut peers: Vec<Arc<str>> = Vec::new();
        for (key, at) in session.take_places() {
            match at {
                At::Nobody => {}
                At::Me => self.circuits.unlisten(self.now(), &key, session.number),
                At::Peer(name) => peers.push(name),
            }
        }
        peers.sort_unstable();
        peers.dedup();
        for name in peers {
            let gone = wire::RelayRequest { client: session.number, request: None, gone: true };
            if !self.links.send(&name, gone) {
                // that it has gone must not be lost
                self.links.renew(&name);
            }
        }
    }

    /// Puts every circuit of every client where it belongs.
    fn settle(&self) {
        let members = self.members.load();
        for session in self.sessions.all() {
            let mut outgoing = Outgoing::default();
            for key in session.misplaced(&members) {
                self.route(&session, &members, (key, SmallVec::from_iter([Said::Watches])), &mut outgoing);
            }
            self.send(&session, outgoing);
        }
    }

    /// Other servers can be reached than before, or are there.
    fn regroup(&self) {
        let reachable = self.links.reachable();
        let members = Members::new(&self.me.name, reachable.iter().map(String::as_str));
        if **self.members.load() != members {
            let names: Vec<&str> = members.others().collect();
            tracing::info!(
                others = names.len(),
                "circuits are shared with other servers: {}",
                names.join(" ")
            );
            let members = Arc::new(members);
            self.members.store(members.clone());
            self.circuits.release(self.now(), |key| members.is_mine(key));
            self.adopt_forced();
        }
        self.settle();
    }

    /// A server that cannot be reached has no circuits of ours.
    fn unplace_all(&self, name: &str) {
        let at = At::Peer(name.into());
        self.sessions.all().iter().for_each(|session| session.unplace_all(&at));
        self.unsettled.store(true, Relaxed);
    }

    /// Takes what another server says to a client of ours.
    fn relayed(&self, name: &str, answer: wire::RelayResponse) {
        let Some(session) = self.sessions.get(answer.client) else { return };
        let at = At::Peer(name.into());
        for key in answer.not_mine.iter().filter_map(|key| Key::read(key).ok()) {
            session.unplace(&key, &at);
            self.unsettled.store(true, Relaxed);
        }
        for directive in answer.response.unwrap_or_default().directives {
            let key = directive.key.as_ref().and_then(|key| Key::read(key).ok());
            if let Some(key) = key.filter(|key| session.is_at(key, &at)) {
                session.told(&key, directive);
            }
        }
    }

    /// Asks clients to report no more often than `floor` (up to a third of their lease); zero ends it.
    pub fn set_report_floor(&self, floor: Span) {
        self.circuits.set_report_floor(floor);
    }

    /// The first thousand circuits of this server, for people.
    #[must_use]
    pub fn page(&self) -> serde_json::Value {
        let page = circuits::Page { size: 1_000, ..circuits::Page::default() };
        let circuits = self.circuits.list(self.now(), &page, &self.me.address);
        serde_json::json!({
            "owner": self.me.address,
            "others": self.members.load().others().collect::<Vec<_>>(),
            "circuits": circuits.iter().map(encode::page).collect::<Vec<_>>(),
            "of": self.circuits.len(),
        })
    }

    /// What metrics show.
    #[must_use]
    pub fn figures(&self) -> BreakerFigures {
        let sums = self.circuits.sums();
        let (peers, peers_lost) = self.links.count();
        let states = encode::STATES.iter().zip(sums.states).map(|((_, name), count)| (*name, count));
        BreakerFigures {
            states: states.collect(),
            listening: sums.listening,
            peers: peers as u64,
            peers_lost: peers_lost as u64,
            ..self.counts.figures(sums.counted)
        }
    }
}

/// Adds what is said of one circuit to what goes to its owner.
fn add(request: &mut wire::SyncRequest, key: &Key, said: SmallVec<[Said; 2]>, is_new: bool) {
    for said in said {
        match said {
            Said::Happened(_, delta) => request.deltas.push(delta),
            Said::Believes(_, claim) => request.claims.push(claim),
            Said::Watches => request.watch.push(key.to_wire()),
        }
    }
    if is_new && !request.watch.last().is_some_and(|last| *last == key.to_wire()) {
        request.watch.push(key.to_wire());
    }
}

/// The circuits that somebody wants to hear of.
fn named(request: &wire::SyncRequest) -> Vec<Key> {
    let deltas = request.deltas.iter().filter_map(|delta| delta.key.as_ref());
    let claims = request.claims.iter().filter_map(|claim| claim.key.as_ref());
    let all = deltas.chain(claims).chain(&request.watch);
    all.filter_map(|key| Key::read(key).ok()).collect()
}
