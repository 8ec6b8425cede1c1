//! One Redis server.

use std::sync::Mutex;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep};

use super::builder::{Access, Launch, ServerBuilder};
use super::process::Process;
use super::wait::eventually;

/// How long a server may take to come up on a busy machine.
const START: Duration = Duration::from_secs(20);

/// How long a command may take; a stopped server answers none.
const ANSWER: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);

/// Cheap beside the 10 ms that a start takes.
const PAUSE: Duration = Duration::from_millis(2);

/// A `redis-server` on a port of its own.
pub struct Server {
    launch: Launch,
    access: Access,
    process: Mutex<Option<Process>>,
}

impl Server {
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// A server as it comes: no password, no TLS, nothing kept on disk.
    pub async fn start() -> Server {
        Server::builder().start().await
    }

    /// `None` if somebody else has the port. Panics if it does not come up for another reason.
    pub(super) async fn try_start(launch: Launch, access: impl Fn(u16) -> Access) -> Option<Server> {
        let access = access(launch.port.number());
        let server = Server { launch, access, process: Mutex::new(None) };
        server.launch().await.then_some(server)
    }

    /// Whether it got its port.
    async fn launch(&self) -> bool {
        let process = Process::spawn(&mut self.launch.command(), &self.launch.output_file());
        let pid = process.pid();
        *self.process.lock().unwrap() = Some(process);
        let deadline = Instant::now() + START;
        while !self.answers_as(pid).await {
            let output = || self.launch.output();
            if self.has_ended() {
                assert!(output().contains("Failed listening on port"), "it has ended:\n{}", output());
                return false;
            }
            assert!(Instant::now() < deadline, "it does not answer:\n{}", output());
            sleep(PAUSE).await;
        }
        true
    }

    /// Whether our own process answers, and not one that took the port before it, and has read what it kept.
    async fn answers_as(&self, pid: u32) -> bool {
        let answer = self.try_command(&["INFO"]).await;
        match answer.and_then(|value| Ok(String::from_redis_value(value)?)) {
            Ok(info) => {
                let ours = field(&info, "process_id") == Some(&pid.to_string());
                ours && field(&info, "loading") != Some("1")
            }
            // it refuses us: it is there
            Err(error) => error.kind() != ErrorKind::Io,
        }
    }

    fn has_ended(&self) -> bool {
        self.process.lock().unwrap().as_mut().is_none_or(Process::has_ended)
    }

    pub fn port(&self) -> u16 {
        self.launch.port.number()
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `redis://` or `rediss://`, with the password of the default user if it has one.
    pub fn url(&self) -> String {
        self.access.url.clone()
    }

    /// The URL for another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("{}://{user}:{password}@{}", self.access.scheme, self.address())
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.access.password.as_deref()
    }

    /// The process. Panics while there is none.
    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap().as_ref().map(Process::pid).unwrap()
    }

    /// Whether there is a process, and it is not stopped.
    pub fn is_running(&self) -> bool {
        self.process.lock().unwrap().as_ref().is_some_and(|process| !process.is_stopped())
    }

    /// All that it has printed, over all its lives.
    pub fn output(&self) -> String {
        self.launch.output()
    }

    /// Kills it with SIGKILL; its connections break and its port refuses.
    pub fn kill9(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Stops it with SIGSTOP: connections stay open and are accepted, and nothing answers.
    pub async fn pause(&self) {
        self.signal("STOP");
        let stopped = || async { self.process.lock().unwrap().as_ref().is_some_and(Process::is_stopped) };
        eventually(ANSWER, "the process has stopped", stopped).await;
    }

    /// Lets it go on after [`Server::pause`].
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.process.lock().unwrap().as_ref().unwrap().signal(name);
    }

    /// Kills it if it runs, and starts it again on the same port and directory. Without `appendonly` it has
    /// forgotten everything.
    pub async fn restart(&self) {
        self.kill9();
        assert!(self.launch().await, "the port is taken:\n{}", self.output());
    }

    pub fn client(&self) -> &Client {
        &self.access.client
    }

    /// A connection of the default user with bounded waits.
    pub async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        self.access.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Runs one command on a connection of its own, so that it works in any runtime and after any accident.
    pub async fn try_command(&self, words: &[&str]) -> RedisResult<Value> {
        command(words).query_async(&mut self.connection().await?).await
    }

    /// The same. Panics if it fails.
    pub async fn command(&self, words: &[&str]) -> Value {
        self.get(words).await
    }

    /// The same, with the answer as a `T`.
    pub async fn get<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let read = |value| T::from_redis_value(value).map_err(RedisError::from);
        let answer = self.try_command(words).await.and_then(read);
        answer.unwrap_or_else(|error| panic!("{words:?} at {}: {error}", self.port()))
    }

    pub async fn config_set(&self, name: &str, value: &str) {
        self.command(&["CONFIG", "SET", name, value]).await;
    }

    /// One field of a section of INFO. Panics if it has none.
    pub async fn info(&self, section: &str, name: &str) -> String {
        let info: String = self.get(&["INFO", section]).await;
        field(&info, name).unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
    }

    /// Its wall clock: the time since 1970, as TIME tells it.
    pub async fn time(&self) -> Duration {
        let (seconds, micros): (u64, u64) = self.get(&["TIME"]).await;
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    }

    /// Moves the wall clock to `micros` ahead of ours, at once. Only for a server that was built with
    /// [`ServerBuilder::clock_offset`].
    pub fn set_clock_offset(&self, micros: i64) {
        self.launch.clock.as_ref().unwrap().set(micros);
    }
}

pub fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}

/// A field of a text of `name:value` lines.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
