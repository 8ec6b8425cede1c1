//! What a server is to be.

use std::fs::{read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use redis::Client;
use tempfile::TempDir;

use super::clock::SkewedClock;
use super::port::Port;
use super::server::Server;
use super::tls::Certificates;

/// How often another port is tried when a stranger took the one we had found free.
const ATTEMPTS: usize = 10;

#[derive(Clone)]
struct Tls {
    certificates: Arc<Certificates>,
    asks_client: bool,
}

/// Options of a [`Server`]; by default it keeps nothing on disk, and lets everybody in.
#[derive(Clone, Default)]
pub struct ServerBuilder {
    arguments: Vec<String>,
    password: Option<String>,
    tls: Option<Tls>,
    clock_offset: Option<i64>,
    /// Lines of a configuration file that the server may rewrite, as sentinels do.
    sentinel: Option<Vec<String>>,
}

impl ServerBuilder {
    /// An option of `redis-server` and its value, such as `("maxmemory", "2mb")`.
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// The password of the default user, which replicas and sentinels then use too. It goes into URLs as it is:
    /// letters and digits only.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// One more user, with ACL rules such as `["~rl:*", "+@all", "-@dangerous"]`.
    pub fn user(mut self, name: &str, password: &str, rules: &[&str]) -> Self {
        self.arguments.extend(["--user", name, "on"].map(str::to_owned));
        self.arguments.push(format!(">{password}"));
        self.arguments.extend(rules.iter().map(ToString::to_string));
        self
    }

    /// Speaks TLS only, and asks clients for no certificate.
    pub fn tls(mut self, certificates: &Arc<Certificates>) -> Self {
        self.tls = Some(Tls { certificates: certificates.clone(), asks_client: false });
        self
    }

    /// Speaks TLS only, and only with clients that show a certificate of the authority.
    pub fn mutual_tls(mut self, certificates: &Arc<Certificates>) -> Self {
        self.tls = Some(Tls { certificates: certificates.clone(), asks_client: true });
        self
    }

    /// Starts with a wall clock this many seconds ahead of ours, or behind if negative. Also what lets
    /// [`Server::set_clock_offset`] move it later.
    pub fn clock_offset(mut self, seconds: i64) -> Self {
        self.clock_offset = Some(seconds);
        self
    }

    pub(super) fn sentinel(mut self, lines: Vec<String>) -> Self {
        self.sentinel = Some(lines);
        self
    }

    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Starts it, and returns when it answers. Panics with its output if it does not come up.
    pub async fn start(self) -> Server {
        for _ in 0..ATTEMPTS {
            if let Some(server) = Server::try_start(Launch::new(&self), self.client_for()).await {
                return server;
            }
        }
        panic!("no port in {ATTEMPTS} attempts");
    }

    /// Makes the client of a port, with the rights of the default user.
    fn client_for(&self) -> impl Fn(u16) -> Access + use<> {
        let (password, tls) = (self.password.clone(), self.tls.clone());
        move |port| {
            let scheme = if tls.is_some() { "rediss" } else { "redis" };
            let login = password.as_ref().map(|word| format!(":{word}@")).unwrap_or_default();
            let url = format!("{scheme}://{login}127.0.0.1:{port}");
            let client = match &tls {
                Some(tls) => Client::build_with_tls(url.as_str(), tls.certificates.trusted()),
                None => Client::open(url.as_str()),
            };
            Access { scheme, url, password: password.clone(), client: client.unwrap() }
        }
    }

    fn arguments(&self, port: u16, directory: &Path) -> Vec<String> {
        let directory = directory.display().to_string();
        let fixed = ["--bind", "127.0.0.1", "--dir", &directory, "--daemonize", "no"];
        let mut all: Vec<String> = fixed.map(str::to_owned).into();
        all.extend(self.listening(port));
        if let Some(password) = &self.password {
            all.extend(["--requirepass", password].map(str::to_owned));
        }
        if let (Some(password), None) = (&self.password, &self.sentinel) {
            all.extend(["--masterauth", password].map(str::to_owned));
        }
        if self.sentinel.is_none() {
            // a test has no time for the delays that spare a production server
            let quick = ["--save", "", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
            all.extend(quick.map(str::to_owned));
        }
        all.extend(self.arguments.iter().cloned());
        all
    }

    fn listening(&self, port: u16) -> Vec<String> {
        let port = port.to_string();
        let Some(tls) = &self.tls else { return vec!["--port".into(), port] };
        let file = |path: PathBuf| path.display().to_string();
        let pairs = [
            ("port", "0".to_owned()),
            ("tls-port", port),
            ("tls-replication", "yes".to_owned()),
            ("tls-auth-clients", if tls.asks_client { "yes" } else { "no" }.to_owned()),
            ("tls-ca-cert-file", file(tls.certificates.ca())),
            ("tls-cert-file", file(tls.certificates.server_certificate())),
            ("tls-key-file", file(tls.certificates.server_key())),
        ];
        pairs.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }
}

/// How to reach a server with all rights.
pub struct Access {
    pub scheme: &'static str,
    pub url: String,
    pub password: Option<String>,
    pub client: Client,
}

/// All that it takes to start one server, again and again.
pub struct Launch {
    pub port: Port,
    pub clock: Option<SkewedClock>,
    arguments: Vec<String>,
    directory: TempDir,
}

impl Launch {
    fn new(options: &ServerBuilder) -> Launch {
        let port = Port::claim();
        let directory = tempfile::tempdir().unwrap();
        let mut arguments = options.arguments(port.number(), directory.path());
        if let Some(lines) = &options.sentinel {
            let file = directory.path().join("sentinel.conf");
            write(&file, lines.join("\n")).unwrap();
            arguments.insert(0, file.display().to_string());
            arguments.push("--sentinel".into());
        }
        let micros = options.clock_offset.map(|seconds| seconds * 1_000_000);
        let clock = micros.map(|micros| SkewedClock::new(directory.path(), micros));
        Launch { port, clock, arguments, directory }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("redis-server");
        command.args(&self.arguments);
        if let Some(clock) = &self.clock {
            clock.apply(&mut command);
        }
        command
    }

    pub fn output_file(&self) -> PathBuf {
        self.directory.path().join("output")
    }

    /// All that the server has printed since its first start.
    pub fn output(&self) -> String {
        read_to_string(self.output_file()).unwrap_or_default()
    }
}
