//! A client whose messages are written by hand.

use std::time::Duration;

use futures_util::stream::poll_fn;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};
use tollgate_proto::tollgate::v1::circuit_breakers_client::CircuitBreakersClient;
use tollgate_proto::tollgate::v1::{
    CircuitKey, CircuitState, Claim, Directive, OutcomeDelta, Reporter, SyncRequest, SyncResponse,
};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::world::SOON;

pub type Api = CircuitBreakersClient<Channel>;

pub fn key(target: &str) -> CircuitKey {
    CircuitKey { namespace: "shop".into(), target: target.into(), ..CircuitKey::default() }
}

pub fn reporter(name: &str) -> Reporter {
    Reporter { id: name.as_bytes().to_vec(), incarnation: 1, zone: String::new() }
}

/// One client with one stream that cares for one circuit.
pub struct Client {
    pub name: String,
    pub key: CircuitKey,
    up: UnboundedSender<SyncRequest>,
    down: Streaming<SyncResponse>,
    pub last: Directive,
    sequence: u64,
}

impl Client {
    /// Opens a stream, watches `target`, and waits for its first directive.
    pub async fn open(channel: Channel, name: &str, target: &str) -> Client {
        let mut client = Client::connect(channel, name, target).await;
        client.say(SyncRequest { watch: vec![key(target)], ..Default::default() });
        client.until("a first directive", |directive| directive.epoch.is_some()).await;
        client
    }

    /// Opens a stream and says who it is.
    pub async fn connect(channel: Channel, name: &str, target: &str) -> Client {
        let (up, mut messages) = unbounded_channel();
        up.send(SyncRequest { reporter: Some(reporter(name)), ..Default::default() }).unwrap();
        let mut api = Api::new(channel);
        let down = api.sync(poll_fn(move |context| messages.poll_recv(context))).await.unwrap().into_inner();
        Client { name: name.into(), key: key(target), up, down, last: Directive::default(), sequence: 0 }
    }

    /// The same client on another connection: it says what it believes.
    pub async fn reconnect(self, channel: Channel) -> Client {
        let claim = self.claim();
        let target = self.key.target.clone();
        let fresh = Client::connect(channel, &self.name, &target).await;
        fresh.say(SyncRequest { watch: vec![key(&target)], claims: vec![claim], ..Default::default() });
        Client { last: self.last, sequence: self.sequence, ..fresh }
    }

    pub fn claim(&self) -> Claim {
        Claim {
            key: Some(self.key.clone()),
            epoch: self.last.epoch,
            state: self.last.state,
            remaining: self.last.probe_in,
            admit: self.last.admit,
            lease: self.last.lease,
            attempt: self.last.attempt,
        }
    }

    pub fn say(&self, request: SyncRequest) {
        self.up.send(request).unwrap();
    }

    /// Reports outcomes under the epoch that it knows.
    pub fn report(&mut self, success: u64, failure: u64) {
        let delta = self.delta(success, failure);
        self.say(SyncRequest { deltas: vec![delta], ..Default::default() });
    }

    pub fn delta(&mut self, success: u64, failure: u64) -> OutcomeDelta {
        self.sequence += 1;
        OutcomeDelta {
            key: Some(self.key.clone()),
            epoch: self.last.epoch,
            sequence: self.sequence,
            success,
            failure,
            ..OutcomeDelta::default()
        }
    }

    /// Reports a good probe for each permit that it holds. How many.
    pub fn probe(&mut self) -> usize {
        let permits = std::mem::take(&mut self.last.permits);
        for permit in &permits {
            let delta = OutcomeDelta { permit: permit.id.clone(), ..self.delta(1, 0) };
            self.say(SyncRequest { deltas: vec![delta], ..Default::default() });
        }
        permits.len()
    }

    /// The next message. An error or an end of the stream panics: clients must never see one.
    pub async fn next(&mut self) -> Directive {
        self.try_next(SOON).await.unwrap().unwrap_or_else(|| panic!("{}: the stream has ended", self.name))
    }

    /// The next directive, the end, or an error. Panics after `patience`.
    pub async fn try_next(&mut self, patience: Duration) -> Result<Option<Directive>, Status> {
        let message = timeout_at(Instant::now() + patience, self.down.message()).await;
        let message = message.unwrap_or_else(|_| panic!("{}: no message within {patience:?}", self.name));
        let Some(mut message) = message? else { return Ok(None) };
        let latest = message.directives.pop().unwrap();
        let epoch = |directive: &Directive| directive.epoch.map(|epoch| (epoch.incarnation, epoch.counter));
        if epoch(&latest) >= epoch(&self.last) {
            self.last = latest.clone();
        }
        Ok(Some(latest))
    }

    /// Waits until the stream has ended. Panics if that is by an error.
    pub async fn until_its_end(&mut self) {
        while self.try_next(SOON).await.unwrap().is_some() {}
    }

    /// Directives in the next message.
    pub async fn messages(&mut self) -> usize {
        self.down.message().await.unwrap().unwrap().directives.len()
    }

    /// Waits for a directive of which `wanted` holds.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Directive) -> bool) -> Directive {
        let deadline = Instant::now() + SOON;
        while !wanted(&self.last) {
            assert!(
                Instant::now() < deadline,
                "{}: not within {SOON:?}: {what}; last {:?}",
                self.name,
                self.last
            );
            self.next().await;
        }
        self.last.clone()
    }

    pub async fn until_state(&mut self, state: CircuitState) -> Directive {
        self.until(state.as_str_name(), |directive| directive.state() == state).await
    }
}

/// So many clients, each on a connection of its own.
pub async fn crowd(server: &crate::world::Tollgate, count: usize, target: &str) -> Vec<Client> {
    let mut all = Vec::new();
    for number in 0..count {
        all.push(Client::open(server.channel().await, &format!("client {number}"), target).await);
    }
    all
}

/// All of them fail until the circuit is open, and hear of it.
pub async fn fail(clients: &mut [Client]) {
    for client in clients.iter_mut() {
        client.report(0, 10);
    }
    for client in clients.iter_mut() {
        client.until_state(CircuitState::Open).await;
    }
}
