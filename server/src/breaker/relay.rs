//! To the other servers: one stream to each, which all clients of this server share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::stream::poll_fn;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tollgate_proto::tollgate::v1::peers_client::PeersClient;
use tollgate_proto::tollgate::v1::{RelayRequest, RelayResponse};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::Breakers;
use super::members::Member;
use super::tls::PeerTls;

/// The header with the fleet's token.
pub(super) const HEADER: &str = "x-tollgate-peer";
/// Messages that wait for one server; one that finds no room is lost, and sent again by the client.
const WAITING: usize = 4_096;
/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(1);
/// Signs of life that are asked for, and how long one may take: a server that hangs is lost after both.
const ALIVE: Duration = Duration::from_secs(2);
/// Pauses between attempts: the first, and the longest.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// What a server is asked with.
pub(super) type Client = PeersClient<InterceptedService<Channel, Token>>;

/// Shows the fleet's token with every call.
#[derive(Clone)]
pub(super) struct Token(MetadataValue<Ascii>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(HEADER, self.0.clone());
        Ok(request)
    }
}

/// The streams to all other servers.
pub(super) struct Links {
    /// `None`: there are no others.
    token: Option<Token>,
    links: Mutex<HashMap<String, Link, RandomState>>,
}

struct Link {
    member: Member,
    state: State,
    stop: CancellationToken,
}

/// A server that can be reached.
struct Up {
    sender: Sender<RelayRequest>,
    client: Client,
}

enum State {
    /// Not known yet whether it can be reached.
    New,
    Up(Box<Up>),
    /// It cannot be reached: it owns nothing, as far as this server can see.
    Lost,
}

impl Links {
    /// # Errors
    /// The token is no header value.
    pub(super) fn new(token: &str) -> anyhow::Result<Links> {
        let mut header: MetadataValue<Ascii> = token.parse()?;
        header.set_sensitive(true);
        let token = (!token.is_empty()).then_some(Token(header));
        Ok(Links { token, links: Mutex::default() })
    }

    /// Follows these servers and no others.
    pub(super) fn update(&self, hub: &Arc<Breakers>, members: Vec<Member>) {
        let Some(token) = &self.token else { return };
        let mut links = self.lock();
        links.retain(|_, link| {
            let stays = members.contains(&link.member);
            if !stays {
                link.stop.cancel();
            }
            stays
        });
        for member in members {
            if links.contains_key(&member.name) {
                continue;
            }
            let stop = hub.closing.child_token();
            let task = follow(hub.clone(), member.clone(), token.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(task));
            links.insert(member.name.clone(), Link { member, state: State::New, stop });
        }
    }

    /// Servers that can be reached, or of which it is not known yet.
    pub(super) fn reachable(&self) -> Vec<String> {
        let links = self.lock();
        let reachable = links.iter().filter(|(_, link)| !matches!(link.state, State::Lost));
        reachable.map(|(name, _)| name.clone()).collect()
    }

    /// All of them, in the order of their addresses.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> = self.lock().values().map(|link| link.member.clone()).collect();
        members.sort_unstable_by(|one, other| one.address.cmp(&other.address));
        members
    }

    /// How many there are, and how many of them are lost.
    pub(super) fn count(&self) -> (usize, usize) {
        let links = self.lock();
        (links.len(), links.values().filter(|link| matches!(link.state, State::Lost)).count())
    }

    /// Whether the message is on its way.
    pub(super) fn send(&self, name: &str, message: RelayRequest) -> bool {
        match self.lock().get(name).map(|link| &link.state) {
            Some(State::Up(up)) => up.sender.try_send(message).is_ok(),
            _ => false,
        }
    }

    /// Begins the stream to a server anew, so that neither side keeps anything of before.
    pub(super) fn renew(&self, name: &str) {
        if let Some(link) = self.lock().get_mut(name) {
            // the stream ends with its sender
            link.state = State::New;
        }
    }

    /// What a server can be asked with; `None` while it cannot be reached.
    pub(super) fn client(&self, name: &str) -> Option<Client> {
        match self.lock().get(name).map(|link| &link.state) {
            Some(State::Up(up)) => Some(up.client.clone()),
            _ => None,
        }
    }

    fn set(&self, member: &Member, state: State) {
        if let Some(link) = self.lock().get_mut(&member.name).filter(|link| link.member == *member) {
            link.state = state;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Link, RandomState>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the stream to one server for as long as it is polled.
async fn follow(hub: Arc<Breakers>, member: Member, token: Token) {
    let (name, address) = (member.name.as_str(), member.address.as_str());
    let (mut pause, mut was_lost) = (FIRST, false);
    loop {
        match timeout(2 * CONNECT, connect(&member, token.clone(), hub.tls.clone())).await {
            Ok(Ok((up, answers))) => {
                tracing::debug!(server = name, address, "the other server can be reached");
                let began = Instant::now();
                (pause, was_lost) = (FIRST, false);
                hub.links.set(&member, State::Up(Box::new(up)));
                hub.regroup();
                listen(&hub, name, answers).await;
                hub.links.set(&member, State::New);
                hub.unplace_all(name);
                // one that ends at once again must not be asked without a pause
                if began.elapsed() < LONGEST {
                    sleep(pause).await;
                }
                continue;
            }
            Ok(Err(error)) if !was_lost => {
                tracing::warn!(server = name, address, "the other server cannot be reached: {error:#}");
            }
            Err(_) if !was_lost => tracing::warn!(server = name, address, "the other server does not answer"),
            Ok(Err(_)) | Err(_) => {}
        }
        if !was_lost {
            was_lost = true;
            hub.links.set(&member, State::Lost);
            hub.regroup();
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn connect(
    member: &Member,
    token: Token,
    tls: Option<PeerTls>,
) -> anyhow::Result<(Up, Streaming<RelayResponse>)> {
    let endpoint = Endpoint::from_shared(format!("http://{}", member.address))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let channel = match tls {
        None => endpoint.connect().await?,
        Some(tls) => {
            let address = member.address.clone();
            let dial = tower::service_fn(move |_: http::Uri| tls.clone().connect(address.clone()));
            endpoint.connect_with_connector(dial).await?
        }
    };
    let mut client = PeersClient::with_interceptor(channel, token);
    let (sender, mut messages) = channel_of_messages();
    let answers = client.relay(poll_fn(move |context| messages.poll_recv(context))).await;
    let answers = answers.map_err(|status| match status.code() {
        tonic::Code::Unauthenticated => anyhow::anyhow!("it has another peers.token"),
        code => anyhow::anyhow!("{code:?}: {}", status.message()),
    })?;
    Ok((Up { sender, client }, answers.into_inner()))
}

fn channel_of_messages() -> (Sender<RelayRequest>, tokio::sync::mpsc::Receiver<RelayRequest>) {
    channel(WAITING)
}

/// Hears one server until its stream ends.
async fn listen(hub: &Breakers, name: &str, mut answers: Streaming<RelayResponse>) {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => hub.relayed(name, answer),
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(server = name, "its stream has ended: {}", status.message());
                return;
            }
        }
    }
}
