//! Where the Redis servers are: the forms of `store.redis.url`, and how to log in. No error here shows any part of
//! an address, since a mistyped one may have its password anywhere.

use std::fs;
use std::path::PathBuf;

use super::super::secret::Secret;
use super::super::text::Host;
use super::{Flaw, Redis, RedisKind, RedisSocket};

const URL: &str = "store.redis.url";
const AUTH: &str = "store.redis.auth";

/// The port of `redis://` and `rediss://` without one.
const PORT: u16 = 6_379;
const MAX_DATABASE: u8 = 15;

/// Where the Redis servers are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RedisAddresses {
    /// One server.
    Single(RedisAddress),
    /// The master that sentinels name.
    Sentinel {
        /// What they call it.
        master: String,
        /// Where they are, and how to log in with them; all with the same login and the same TLS, which is the
        /// master's too. [`Redis::login`] is for the master, and so is [`Redis::database`].
        sentinels: Vec<RedisAddress>,
    },
    /// Some nodes of a cluster; all with the same login and the same TLS.
    Cluster(Vec<RedisAddress>),
}

/// One server, and how to use it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisAddress {
    /// Where it listens.
    pub place: RedisPlace,
    /// Whether to speak TLS; never over a Unix socket.
    pub tls: bool,
    /// How to log in.
    pub login: RedisLogin,
    /// Number of the database, 0 to 15; 0 for sentinels and clusters.
    pub database: u8,
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RedisPlace {
    /// A TCP port.
    Tcp {
        /// IP address without brackets, or name.
        host: String,
        /// Port, not 0.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// How to log in; a user never comes without a password.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RedisLogin {
    /// The ACL user; `None` is Redis' own default.
    pub user: Option<String>,
    /// The password; `None` logs in nobody.
    pub password: Option<Secret>,
}

impl RedisAddresses {
    /// Whether TLS is spoken.
    #[must_use]
    pub fn uses_tls(&self) -> bool {
        match self {
            RedisAddresses::Single(address) => address.tls,
            RedisAddresses::Sentinel { sentinels: addresses, .. } | RedisAddresses::Cluster(addresses) => {
                addresses.iter().any(|address| address.tls)
            }
        }
    }
}

impl Redis {
    /// The addresses that `url` states: `host:port`, `redis://[user[:password]@]host[:port][/database]`,
    /// `rediss://…` (with TLS), `unix:///path` or a path. A cluster takes a list of some nodes with commas between
    /// them; with `kind = "sentinel"` the list begins with the name of the master. Reads `auth_file`.
    ///
    /// # Errors
    ///
    /// What is wrong with them, by setting and without any secret.
    pub fn addresses(&self) -> Result<RedisAddresses, String> {
        self.stated_addresses().map_err(|flaw| flaw.why)
    }

    /// The login that `auth` or `auth_file` states. None too if the file cannot be read, which
    /// [`Redis::addresses`] reports.
    #[must_use]
    pub fn login(&self) -> Option<RedisLogin> {
        self.own_login().ok().filter(|login| *login != RedisLogin::default())
    }

    pub(super) fn stated_addresses(&self) -> Result<RedisAddresses, Flaw> {
        if self.url.is_empty() {
            let why =
                "the store redis has no address: set store.redis.url (REDIS_URL), or store.kind = \"memory\"";
            return Err(Flaw::new("store.kind", why));
        }
        let login = self.own_login()?;
        match self.kind {
            RedisKind::Single => self.single(login),
            RedisKind::Sentinel => self.sentinel(),
            RedisKind::Cluster => self.cluster(&login),
        }
    }

    /// The database that the URL of a single server names.
    pub(in super::super) fn database_of_url(&self) -> Option<u8> {
        let is_single = self.kind == RedisKind::Single && !self.url.is_empty();
        is_single.then(|| Stated::read(self.url.reveal(), self.socket).ok()?.database).flatten()
    }

    /// Whether an address begins with `rediss://`: then TLS is meant for all of them.
    pub(in super::super) fn url_asks_for_tls(&self) -> bool {
        let url = self.url.reveal();
        let asks = |item: &str| Stated::read(item.trim(), self.socket).is_ok_and(|stated| stated.tls);
        match self.kind {
            RedisKind::Single => asks(url),
            RedisKind::Sentinel | RedisKind::Cluster => url.split(',').any(asks),
        }
    }

    /// The login that `auth` or `auth_file` states; none if neither is set.
    fn own_login(&self) -> Result<RedisLogin, Flaw> {
        const FILE: &str = "store.redis.auth_file";
        let Some(file) = &self.auth_file else {
            return RedisLogin::of_auth(self.auth.reveal())
                .map_err(|why| Flaw::new(AUTH, format!("{AUTH}: {why}")));
        };
        if !self.auth.is_empty() {
            return Err(Flaw::new(
                FILE,
                "store.redis.auth and store.redis.auth_file are both set: unset one",
            ));
        }
        let refuse = |why: &str| Flaw::new(FILE, format!("{FILE}: {}: {why}", file.display()));
        let text = fs::read_to_string(file).map_err(|error| refuse(&error.to_string()))?;
        match text.trim() {
            "" => Err(refuse("is empty")),
            text => RedisLogin::of_auth(text).map_err(refuse),
        }
    }

    fn single(&self, login: RedisLogin) -> Result<RedisAddresses, Flaw> {
        let flaw = |why: &str| {
            let hint = match self.url.reveal().contains(',') {
                true => "; a list needs store.redis.kind = \"cluster\" or \"sentinel\"",
                false => "",
            };
            Flaw::new(URL, format!("{URL} {why}{hint}"))
        };
        let stated = Stated::read(self.url.reveal(), self.socket).map_err(flaw)?;
        if stated.database.is_some_and(|database| database != self.database) {
            let why = format!("{URL} names another database than store.redis.database = {}", self.database);
            return Err(Flaw::new(URL, why));
        }
        Ok(RedisAddresses::Single(self.address(stated, login, AUTH, self.database)?))
    }

    fn cluster(&self, login: &RedisLogin) -> Result<RedisAddresses, Flaw> {
        if self.database != 0 {
            let why = format!(
                "a cluster has no other database than 0, and store.redis.database = {}",
                self.database
            );
            return Err(Flaw::new("store.redis.database", why));
        }
        self.list(self.url.reveal(), login, AUTH).map(RedisAddresses::Cluster)
    }

    fn sentinel(&self) -> Result<RedisAddresses, Flaw> {
        const SENTINEL_AUTH: &str = "store.redis.sentinel_auth";
        let needed = || {
            Flaw::new(URL, format!("{URL} has to be the master's name and its sentinels: master,host:port,…"))
        };
        let (master, sentinels) = self.url.reveal().split_once(',').ok_or_else(needed)?;
        let master = master.trim();
        // the characters that a sentinel takes for a name; an address here means that the name was left out
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if master.is_empty() || !master.bytes().all(is_legal) {
            return Err(needed());
        }
        let of_sentinels = RedisLogin::of_auth(self.sentinel_auth.reveal())
            .map_err(|why| Flaw::new(SENTINEL_AUTH, format!("{SENTINEL_AUTH}: {why}")))?;
        let sentinels = self.list(sentinels, &of_sentinels, SENTINEL_AUTH)?;
        Ok(RedisAddresses::Sentinel { master: master.to_owned(), sentinels })
    }

    /// Addresses of servers that stand together.
    fn list(&self, text: &str, login: &RedisLogin, auth: &'static str) -> Result<Vec<RedisAddress>, Flaw> {
        let mut addresses: Vec<RedisAddress> = Vec::new();
        for (place, item) in text.split(',').enumerate() {
            let flaw = |why: &str| Flaw::new(URL, format!("{URL}: address {} {why}", place + 1));
            let stated = Stated::read(item.trim(), self.socket).map_err(flaw)?;
            if let RedisPlace::Unix(_) = stated.place {
                return Err(flaw(
                    "is a Unix socket; a cluster or sentinels are reached over TCP (store.redis.socket)",
                ));
            }
            if stated.database.is_some_and(|database| database != 0) {
                return Err(flaw("has a database, which a cluster or a sentinel has not"));
            }
            let address = self.address(stated, login.clone(), auth, 0)?;
            if addresses.first().is_some_and(|first| first.login != address.login) {
                return Err(flaw("differs from the first one in its user or password"));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// What an address states, together with what the other settings say.
    fn address(
        &self,
        stated: Stated,
        own: RedisLogin,
        auth: &'static str,
        database: u8,
    ) -> Result<RedisAddress, Flaw> {
        let Stated { place, login, .. } = stated;
        if self.tls && matches!(place, RedisPlace::Unix(_)) {
            return Err(Flaw::new(
                "store.redis.tls",
                "there is no TLS over a Unix socket: unset store.redis.tls",
            ));
        }
        let empty = RedisLogin::default();
        if login != empty && own != empty && login != own {
            let why = format!("{URL} names another user or password than {auth}: leave one of them out");
            return Err(Flaw::new(URL, why));
        }
        let login = if login == empty { own } else { login };
        let tls = self.tls || self.url_asks_for_tls();
        Ok(RedisAddress { place, tls, login, database })
    }
}

impl RedisLogin {
    /// `password` or `user:password`, split at the first colon; empty text is no login.
    fn of_auth(text: &str) -> Result<RedisLogin, &'static str> {
        match text.split_once(':') {
            Some((user, password)) => RedisLogin::new(user.to_owned(), password.to_owned()),
            None => RedisLogin::new(String::new(), text.to_owned()),
        }
    }

    fn new(user: String, password: String) -> Result<RedisLogin, &'static str> {
        if !user.is_empty() && password.is_empty() {
            return Err("has a user without a password");
        }
        let user = Some(user).filter(|user| !user.is_empty());
        let password = Some(Secret::from(password)).filter(|password| !password.is_empty());
        Ok(RedisLogin { user, password })
    }
}

/// What one address says by itself.
struct Stated {
    place: RedisPlace,
    tls: bool,
    login: RedisLogin,
    database: Option<u8>,
}

impl Stated {
    fn read(text: &str, socket: RedisSocket) -> Result<Stated, &'static str> {
        match text.split_once("://") {
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "redis" => Stated::of_url(rest, false),
                "rediss" => Stated::of_url(rest, true),
                "unix" if !rest.starts_with('/') => {
                    Err("needs an absolute path, as in unix:///run/redis.sock")
                }
                "unix" if rest.contains(['?', '#']) => Err(QUERY),
                "unix" => Ok(Stated::bare(RedisPlace::Unix(rest.into()))),
                _ => Err("has a scheme that is none of redis, rediss and unix"),
            },
            None => Stated::without_scheme(text, socket).map(Stated::bare),
        }
    }

    fn bare(place: RedisPlace) -> Stated {
        Stated { place, tls: false, login: RedisLogin::default(), database: None }
    }

    fn without_scheme(text: &str, socket: RedisSocket) -> Result<RedisPlace, &'static str> {
        let is_path = match socket {
            RedisSocket::Unix => true,
            RedisSocket::Tcp => false,
            RedisSocket::Auto => text.starts_with(['/', '.']),
        };
        match text {
            "" => Err("is empty"),
            path if is_path => Ok(RedisPlace::Unix(path.into())),
            _ => endpoint(text, None),
        }
    }

    /// What follows `redis://`. The *last* `@` ends the login: a password may hold one.
    fn of_url(rest: &str, tls: bool) -> Result<Stated, &'static str> {
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        if rest.contains(['?', '#']) {
            return Err(QUERY);
        }
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let login = RedisLogin::new(decoded(user)?, decoded(password)?)?;
        let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { None } else { Some(number(database)?) };
        Ok(Stated { place: endpoint(server, Some(PORT))?, tls, login, database })
    }
}

const QUERY: &str = "has a part after ? or #, which is not supported: use the settings of store.redis";

fn number(database: &str) -> Result<u8, &'static str> {
    let number = database.parse().ok().filter(|number| *number <= MAX_DATABASE);
    number.filter(|_| !database.starts_with('+')).ok_or("has a database that is no number from 0 to 15")
}

/// `host:port` or `[address]:port`; the port may be left out if there is a usual one.
fn endpoint(text: &str, usual: Option<u16>) -> Result<RedisPlace, &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !is_bracketed {
        return Err(
            "has an IPv6 address without brackets, or is none of host:port, a path and a redis:// URL",
        );
    }
    if host.is_empty() || (is_bracketed && !host.contains(':')) {
        return Err("has no host");
    }
    let no_host = |_| "has a host that is neither an IP address nor a host name";
    let host = Host::try_from(host.to_owned()).map_err(no_host)?.as_str().to_owned();
    let port = match port {
        Some(port) if port.starts_with('+') => None,
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None => Some(usual.ok_or("has no port")?),
    };
    Ok(RedisPlace::Tcp { host, port: port.ok_or("has a port that is no number from 1 to 65535")? })
}

/// Without the percent signs of URLs; one that begins no byte stands for itself.
fn decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let encoded = (*first == b'%').then(|| after.get(..2).and_then(byte)).flatten();
        bytes.push(encoded.unwrap_or(*first));
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).map_err(|_| "has a user or a password that is not UTF-8")
}

/// The byte that two hexadecimal digits stand for.
fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match digits {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}
