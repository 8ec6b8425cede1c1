//! Connections to Redis: one server, the master that sentinels name, or a cluster.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use deadpool::managed;
use deadpool_redis::Manager as OneServer;
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind,
    TlsCertificates, TlsMode, Value, pipe,
};
use tokio::sync::Mutex;

/// Where the Redis servers are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// One server.
    Single(Place),
    /// The master that these sentinels name.
    Sentinel {
        /// What they call it.
        master: String,
        /// Where they are.
        sentinels: Vec<Place>,
        /// How to log in with them.
        login: Login,
    },
    /// A cluster that these nodes know.
    Cluster(Vec<Place>),
}

/// Where one server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// Host and port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A user and a password, each if there is one.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Login {
    /// The ACL user; `None` is `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("Login").field("user", &self.user).field("password", &password).finish()
    }
}

/// TLS to Redis; certificates and keys in PEM.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Tls {
    /// The authority that signed the servers' certificates; `None` trusts what the system trusts.
    pub authority: Option<Vec<u8>>,
    /// The client's certificate and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The certificate may be for another host; its chain is checked all the same.
    pub any_host: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("any_host", &self.any_host).finish_non_exhaustive()
    }
}

/// How to reach the data servers.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where they are.
    pub target: Target,
    /// How to log in.
    pub login: Login,
    /// The database; a cluster has only 0.
    pub database: i64,
    /// TLS, also to the sentinels.
    pub tls: Option<Tls>,
    /// Longest time for a connection to be made, greeting included.
    pub connect_timeout: Duration,
    /// Longest time for one answer.
    pub call_timeout: Duration,
}

/// Longest time to connect to one node of a cluster: the others have to wait for that.
const NODE: Duration = Duration::from_millis(500);
/// Times that one command is sent while its slot moves.
const FOLLOWED: usize = 4;

/// Makes connections.
pub(super) struct Dialer {
    to: To,
}

enum To {
    One(OneServer),
    Named(Mutex<SentinelClient>, AsyncConnectionConfig),
    Cluster(ClusterClient),
}

/// A connection that many callers use at once; clones share it.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Dialer {
    /// # Errors
    /// An address, a certificate or a key makes no sense.
    pub(super) fn new(access: &Access) -> RedisResult<Dialer> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(access.connect_timeout))
            .set_response_timeout(Some(access.call_timeout));
        let to = match &access.target {
            Target::Single(place) => To::One(OneServer::new_with_config(access.info(place)?, config)?),
            Target::Sentinel { master, sentinels, login } => {
                To::Named(Mutex::new(access.sentinel(master, sentinels, login)?), config)
            }
            Target::Cluster(seeds) => To::Cluster(access.cluster(seeds)?),
        };
        Ok(Dialer { to })
    }
}

impl managed::Manager for Dialer {
    type Type = Link;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<Link> {
        match &self.to {
            To::One(server) => server.create().await.map(Link::One),
            To::Named(client, config) => {
                let mut client = client.lock().await;
                client.get_async_connection_with_config(config).await.map(Link::One)
            }
            To::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
        }
    }

    /// A connection is given back only when it is of no use any more.
    async fn recycle(&self, _: &mut Link, _: &managed::Metrics) -> managed::RecycleResult<RedisError> {
        Err(managed::RecycleError::message("not used twice"))
    }
}

impl Link {
    /// Sends one command to the master of `slot`.
    pub(super) async fn send(&mut self, slot: u16, command: Cmd) -> RedisResult<Value> {
        let value = match self {
            Link::One(connection) => connection.send_packed_command(&command).await?,
            Link::Cluster(connection) => {
                return to_owner(connection, slot, command).await;
            }
        };
        value.extract_error()
    }

    /// Sends one command to any server.
    pub(super) async fn send_any(&mut self, command: Cmd) -> RedisResult<Value> {
        let value = match self {
            Link::One(connection) => connection.send_packed_command(&command).await?,
            Link::Cluster(connection) => {
                let node = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
                connection.route_command(command, node).await?
            }
        };
        value.extract_error()
    }

    /// Runs a transaction on the keys of one slot.
    pub(super) async fn transaction<T: FromRedisValue>(&mut self, commands: &Pipeline) -> RedisResult<T> {
        match self {
            Link::One(connection) => commands.query_async(connection).await,
            Link::Cluster(connection) => commands.query_async(connection).await,
        }
    }

    /// Sends one command to the server at an address that a cluster gave.
    pub(super) async fn send_to(&mut self, host: &str, port: u16, command: Cmd) -> RedisResult<Value> {
        let value = match self {
            Link::One(connection) => connection.send_packed_command(&command).await?,
            Link::Cluster(connection) => {
                let node = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port };
                connection.route_command(command, RoutingInfo::SingleNode(node)).await?
            }
        };
        value.extract_error()
    }
}

/// Sends one command to the master of `slot`, and after it if the slot is on its way.
///
/// The client would do so too, but sends `ASKING` as a command of its own: with another one between the two, on a
/// connection that many share, the command that it was for is sent back.
async fn to_owner(connection: &mut ClusterConnection, slot: u16, command: Cmd) -> RedisResult<Value> {
    let mut told = Ok(Value::Nil);
    for _ in 0..FOLLOWED {
        // the client has asked for the slots anew when it was told that one has moved
        let node = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
        let sent = connection.route_command(command.clone(), RoutingInfo::SingleNode(node)).await;
        told = sent.and_then(Value::extract_error);
        if let Some(node) = told.as_ref().err().and_then(asks) {
            let mut both = pipe();
            both.cmd("ASKING").add_command(command.clone());
            let sent = connection.route_pipeline(both, 0, 2, node).await;
            told = sent.and_then(|mut values| values.pop().unwrap_or(Value::Nil).extract_error());
        }
        if told.as_ref().err().is_none_or(|error| error.redirect_node().is_none()) {
            break;
        }
    }
    told
}

/// The server that is to be asked in place of the one that answered so.
fn asks(error: &RedisError) -> Option<SingleNodeRoutingInfo> {
    let (address, _) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    let node = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port: port.parse().ok()? };
    (error.kind() == ErrorKind::Server(ServerErrorKind::Ask)).then_some(node)
}

impl Access {
    fn tcp() -> TcpSettings {
        // a peer that vanished without a word is noticed after this long
        TcpSettings::default().set_nodelay(true).set_user_timeout(Duration::from_secs(1))
    }

    fn address(&self, place: &Place) -> ConnectionAddr {
        match place {
            Place::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Place::Tcp(host, port) if self.tls.is_none() => ConnectionAddr::Tcp(host.clone(), *port),
            Place::Tcp(host, port) => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
        }
    }

    /// The address with everything that is needed to use it.
    fn info(&self, place: &Place) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.login.password {
            settings = settings.set_password(password);
        }
        let info = self.address(place).into_connection_info()?;
        let info = info.set_redis_settings(settings).set_tcp_settings(Access::tcp());
        let Some(tls) = self.tls.as_ref().filter(|_| matches!(place, Place::Tcp(..))) else {
            return Ok(info);
        };
        // the client knows how certificates become parameters of the address
        let client = redis::Client::build_with_tls(info, tls.certificates())?;
        let info = client.get_connection_info().clone();
        let mut address = info.addr().clone();
        address.set_danger_accept_invalid_hostnames(tls.any_host);
        Ok(info.set_addr(address))
    }

    fn cluster(&self, seeds: &[Place]) -> RedisResult<ClusterClient> {
        let seeds = seeds.iter().map(|seed| self.address(seed)).collect::<Vec<_>>();
        let mut builder = ClusterClientBuilder::new(seeds)
            // a node that hangs holds up the others twice: as a known address, and as part of the cluster
            .connection_timeout((self.connect_timeout / 4).min(NODE))
            .response_timeout(self.call_timeout)
            .overall_response_timeout(Some(self.call_timeout))
            // slots that move are followed here; what else fails may have been done, and is not done twice
            .retries(0)
            .tcp_settings(Access::tcp());
        if let Some(user) = &self.login.user {
            builder = builder.username(user);
        }
        if let Some(password) = &self.login.password {
            builder = builder.password(password);
        }
        if let Some(tls) = &self.tls {
            builder = builder
                .tls(TlsMode::Secure)
                .certs(tls.certificates())
                .danger_accept_invalid_hostnames(tls.any_host);
        }
        builder.build()
    }

    fn sentinel(&self, master: &str, sentinels: &[Place], login: &Login) -> RedisResult<SentinelClient> {
        let places = sentinels.iter().map(|place| self.address(place));
        let mut builder = SentinelClientBuilder::new(places, master, SentinelServerType::Master)?
            .set_client_to_redis_db(self.database)
            .set_client_to_redis_tcp_settings(Access::tcp())
            .set_client_to_sentinel_tcp_settings(Access::tcp());
        if let Some(user) = &self.login.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.login.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &login.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if let Some(tls) = &self.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(tls.certificates())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(tls.certificates());
        }
        builder.build()
    }
}

impl Tls {
    fn certificates(&self) -> TlsCertificates {
        let client_tls = self.identity.as_ref().map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.clone(),
            client_key: key.clone(),
        });
        TlsCertificates { client_tls, root_cert: self.authority.clone() }
    }
}
