//! A Redis of its own for one test, on a Unix socket.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use redis::{Client, Connection, FromRedisValue, RedisResult, Value};
use tempfile::TempDir;

/// A `redis-server` that keeps nothing on disk and dies with its handle.
pub(crate) struct Server {
    child: Child,
    /// Read no further, but open, so that the server can go on printing.
    _output: BufReader<ChildStdout>,
    _directory: TempDir,
    client: Client,
}

impl Server {
    pub(crate) fn start() -> Server {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("redis.sock");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        while !printed.contains("ready to accept connections") {
            // it ends with the process at the latest
            assert!(output.read_line(&mut printed).unwrap() > 0, "redis-server has ended:\n{printed}");
        }
        let client = Client::open(format!("redis+unix://{}", socket.display())).unwrap();
        Server { child, _output: output, _directory: directory, client }
    }

    pub(crate) fn connect(&self) -> Connection {
        self.client.get_connection().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // both fail only if it has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one command of words.
pub(crate) fn attempt<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> RedisResult<T> {
    redis::Cmd::new().arg(words).query(connection)
}

/// The same. Panics if it fails.
pub(crate) fn command<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> T {
    attempt(connection, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The same, for commands whose answer says nothing.
pub(crate) fn order(connection: &mut Connection, words: &[&str]) {
    let _: Value = command(connection, words);
}
