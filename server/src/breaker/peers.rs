//! `tollgate.v1.Peers`: what other servers ask of circuits that this one owns.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::peers_server::Peers;
use tonic::{Request, Response, Status, Streaming};

use super::Breakers;
use super::circuits::{Caller, Listener};
use super::decode::{self, Reporter, Said, invalid};
use super::exchange::{self, Exchange, Party};
use super::key::Key;
use super::outbox::Outbox;
use super::overrides::Wish;
use super::relay::HEADER;

/// Clients of one other server.
const MOST_CLIENTS: usize = 100_000;
/// Directives that go out together.
const TOGETHER: usize = 256;

/// The service.
#[derive(Clone)]
pub struct PeerService(Arc<Breakers>);

impl PeerService {
    /// The service over `breakers`.
    #[must_use]
    pub fn new(breakers: Arc<Breakers>) -> PeerService {
        PeerService(breakers)
    }

    /// Whether another server asks.
    fn permit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if self.0.closing.is_cancelled() {
            return Err(Status::unavailable("this server is about to leave"));
        }
        let sent = request.metadata().get(HEADER).map(|value| value.as_bytes()).unwrap_or_default();
        if self.0.is_peer(sent) {
            return Ok(());
        }
        Err(Status::unauthenticated(format!(
            "this needs the header {HEADER} with the fleet's token (peers.token)"
        )))
    }

    fn owned(&self, key: Key) -> Result<Key, Status> {
        if self.0.members.load().is_mine(&key) {
            return Ok(key);
        }
        Err(Status::failed_precondition(format!("{key} is not this server's")))
    }
}

#[tonic::async_trait]
impl Peers for PeerService {
    type RelayStream = exchange::Said<wire::RelayResponse>;

    async fn relay(
        &self,
        request: Request<Streaming<wire::RelayRequest>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        self.permit(&request)?;
        let party = Relaying::new(self.0.clone());
        Ok(Response::new(Box::pin(Exchange::new(request.into_inner(), party, self.0.closing.clone()))))
    }

    async fn report_own_outcomes(
        &self,
        request: Request<wire::ReportOutcomesRequest>,
    ) -> Result<Response<wire::ReportOutcomesResponse>, Status> {
        self.permit(&request)?;
        let wire::ReportOutcomesRequest { reporter, deltas, claims } = request.into_inner();
        let reporter = decode::reporter(reporter)?;
        let heard = decode::heard(wire::SyncRequest { deltas, claims, ..Default::default() })?;
        let mut directives = Vec::new();
        for (key, said) in heard.about {
            directives.extend(self.0.own_report(&self.owned(key)?, &reporter, &said));
        }
        Ok(Response::new(wire::ReportOutcomesResponse { directives }))
    }

    async fn acquire_own_probe(
        &self,
        request: Request<wire::AcquireProbeRequest>,
    ) -> Result<Response<wire::AcquireProbeResponse>, Status> {
        self.permit(&request)?;
        let wire::AcquireProbeRequest { reporter, key } = request.into_inner();
        let reporter = decode::reporter(reporter)?;
        let key = self.owned(decode::key(key.as_ref(), "key")?)?;
        Ok(Response::new(wire::AcquireProbeResponse { directive: self.0.own_probe(&key, &reporter) }))
    }

    async fn get_own_circuit(
        &self,
        request: Request<wire::GetCircuitRequest>,
    ) -> Result<Response<wire::Circuit>, Status> {
        self.permit(&request)?;
        let key = self.owned(decode::key(request.into_inner().key.as_ref(), "key")?)?;
        self.0.own_circuit(&key).map(Response::new)
    }

    async fn list_own_circuits(
        &self,
        request: Request<wire::ListCircuitsRequest>,
    ) -> Result<Response<wire::ListCircuitsResponse>, Status> {
        self.permit(&request)?;
        self.0.own_page(&request.into_inner()).map(Response::new)
    }

    async fn get_console(
        &self,
        request: Request<wire::GetConsoleRequest>,
    ) -> Result<Response<wire::GetConsoleResponse>, Status> {
        self.permit(&request)?;
        Ok(Response::new(self.0.own_console()))
    }

    async fn set_own_override(
        &self,
        request: Request<wire::SetOverrideRequest>,
    ) -> Result<Response<wire::Circuit>, Status> {
        self.permit(&request)?;
        let wire::SetOverrideRequest { key, r#override } = request.into_inner();
        let key = self.owned(decode::key(key.as_ref(), "key")?)?;
        let wish = Wish::read(r#override, self.0.now())?;
        self.0.own_override(&key, &wish).map(Response::new)
    }
}

/// What is said to a client of the other server about a circuit.
enum Word {
    Told(Box<wire::Directive>),
    NotMine,
}

/// The clients of one other server.
struct Relaying {
    hub: Arc<Breakers>,
    clients: HashMap<u64, Client, RandomState>,
    out: Arc<Outbox<(u64, Key), Word>>,
    ready: VecDeque<wire::RelayResponse>,
}

struct Client {
    reporter: Reporter,
    /// Unique on this server.
    number: u64,
    keys: HashSet<Key, RandomState>,
    listener: Arc<dyn Listener>,
}

/// The ear of one client.
struct Ear {
    client: u64,
    out: Arc<Outbox<(u64, Key), Word>>,
}

impl Listener for Ear {
    fn told(&self, key: &Key, directive: wire::Directive) {
        self.out.put((self.client, key.clone()), Word::Told(Box::new(directive)));
    }

    fn lost(&self, key: &Key) {
        self.out.put((self.client, key.clone()), Word::NotMine);
    }
}

impl Relaying {
    fn new(hub: Arc<Breakers>) -> Relaying {
        Relaying { hub, clients: HashMap::default(), out: Arc::new(Outbox::new()), ready: VecDeque::new() }
    }

    fn gone(&mut self, client: u64) {
        let Some(Client { number, keys, .. }) = self.clients.remove(&client) else { return };
        for key in keys {
            self.hub.circuits.unlisten(self.hub.now(), &key, number);
            self.out.forget(&(client, key));
        }
    }

    fn meet(&mut self, client: u64, reporter: Option<wire::Reporter>) -> Result<(), Status> {
        if self.clients.contains_key(&client) {
            return Ok(());
        }
        if self.clients.len() >= MOST_CLIENTS {
            return Err(Status::resource_exhausted(format!(
                "more than {MOST_CLIENTS} clients on one stream"
            )));
        }
        let listener = Arc::new(Ear { client, out: self.out.clone() });
        let number = self.hub.sessions.number();
        let reporter = decode::reporter(reporter)?;
        self.clients.insert(client, Client { reporter, number, keys: HashSet::default(), listener });
        Ok(())
    }

    fn hear_of(&mut self, client: u64, key: Key, said: &[Said]) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        if !self.hub.members.load().is_mine(&key) {
            self.out.put((client, key), Word::NotMine);
            return;
        }
        if known.keys.len() >= self.hub.max_keys && !known.keys.contains(&key) {
            self.hub.counts.full();
            return;
        }
        let listens = Some((known.number, &known.listener));
        let told =
            self.hub.circuits.hear(self.hub.now(), &key, Caller { reporter: &known.reporter, listens }, said);
        if let Some(directive) = told {
            self.out.put((client, key.clone()), Word::Told(Box::new(directive)));
        }
        known.keys.insert(key);
    }

    fn unwatch(&mut self, client: u64, key: Key) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        if known.keys.remove(&key) {
            self.hub.circuits.unlisten(self.hub.now(), &key, known.number);
        }
        self.out.forget(&(client, key));
    }
}

impl Party for Relaying {
    type Up = wire::RelayRequest;
    type Down = wire::RelayResponse;

    fn hear(&mut self, message: wire::RelayRequest) -> Result<(), Status> {
        let wire::RelayRequest { client, request, gone } = message;
        if gone {
            self.gone(client);
            return Ok(());
        }
        let mut request = request.ok_or_else(|| invalid("request is missing"))?;
        self.meet(client, request.reporter.take())?;
        let heard = decode::heard(request)?;
        for (key, said) in heard.about {
            self.hear_of(client, key, &said);
        }
        for key in heard.unwatch {
            self.unwatch(client, key);
        }
        Ok(())
    }

    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<wire::RelayResponse> {
        if let Some(ready) = self.ready.pop_front() {
            return Poll::Ready(ready);
        }
        let Poll::Ready(words) = self.out.poll_take(TOGETHER, context) else { return Poll::Pending };
        for ((client, key), word) in words {
            if self.ready.back().is_none_or(|last| last.client != client) {
                let response = Some(wire::SyncResponse::default());
                self.ready.push_back(wire::RelayResponse { client, response, not_mine: Vec::new() });
            }
            let Some(last) = self.ready.back_mut() else { continue };
            match word {
                Word::Told(directive) => last.response.get_or_insert_default().directives.push(*directive),
                Word::NotMine => {
                    last.not_mine.push(key.to_wire());
                    self.clients.get_mut(&client).map(|known| known.keys.remove(&key));
                }
            }
        }
        self.ready.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        let clients: Vec<u64> = self.clients.keys().copied().collect();
        clients.into_iter().for_each(|client| self.gone(client));
    }
}
