//! The program from outside: exit codes, what it prints, how it starts and stops.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const GOOD: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: minute, requests_per_unit: 5, name: per_user }
  - key: path
    value: /export*
    share_threshold: true
    rate_limit: { unit: second, requests_per_unit: 5, algorithm: leaky_bucket, queue: 2 }
";
const BAD: &str = "domain: shop\ndescriptors:\n  - key: a\n    rate_limit: { unit: eon }\n  - value: b\n";

fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = tollgate(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn folder(rules: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    folder
}

fn path(folder: &tempfile::TempDir) -> &str {
    folder.path().to_str().unwrap()
}

#[test]
fn check_passes_good_rules() {
    let (code, out, err) = run(&["check", path(&folder(GOOD))]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "1 files, 1 domains, 2 rules, 0 warnings\nall rate limit configs ok\n");
}

#[test]
fn check_names_every_error_with_its_place() {
    let (code, _, err) = run(&["check", path(&folder(BAD))]);
    assert_eq!(code, 1);
    assert!(err.contains("rules.yaml:4:25: invalid rate limit unit 'eon'"), "{err}");
    assert!(err.contains("rules.yaml:5:5: descriptor has empty key"), "{err}");
    assert!(err.ends_with("error loading rate limit configs: 2 errors\n"), "{err}");
}

#[test]
fn check_warns_and_strict_makes_it_an_error() {
    let rules = "domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, requests_per_unit: 1, shadow_mode: true }\n";
    let folder = folder(rules);
    let (code, _, err) = run(&["check", path(&folder)]);
    assert_eq!(code, 0);
    assert!(err.contains("'shadow_mode' has no effect in rate_limit"), "{err}");
    let (code, _, _) = run(&["check", "--strict", path(&folder)]);
    assert_eq!(code, 1);
}

#[test]
fn check_of_a_folder_that_is_none_is_bad_input() {
    let (code, _, err) = run(&["check", "/nowhere/at/all"]);
    assert_eq!(code, 2);
    assert!(err.contains("cannot read the rules folder /nowhere/at/all"), "{err}");
}

#[test]
fn explain_walks_level_by_level() {
    let folder = folder(GOOD);
    let (code, out, _) = run(&["explain", path(&folder), "--domain", "shop", "path=/export/1"]);
    assert_eq!(code, 0);
    assert!(out.contains("path_/export*, the first pattern in the file that fits"), "{out}");
    assert!(out.contains("share one counter") && out.contains("leaky_bucket, capacity 3"), "{out}");
    let (_, out, _) = run(&["explain", path(&folder), "--domain", "shop", "user=ann", "extra=x"]);
    assert!(out.contains("extra=x: nothing fits") && out.contains("no limit"), "{out}");
    let (_, out, _) = run(&["explain", path(&folder), "--domain", "nobody", "user=ann"]);
    assert!(out.contains("the domain has no rules"), "{out}");
}

#[test]
fn config_names_the_origin_of_every_value_and_no_secret() {
    let output = tollgate(&["config", "--grpc-port", "7", "--set", "admin.token=hunter2"])
        .env("PORT", "9")
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("grpc.port = 7   # flag --grpc-port"), "{out}");
    assert!(out.contains("http.port = 9   # env PORT"), "{out}");
    assert!(out.contains("admin.port = 6070   # default"), "{out}");
    assert!(!out.contains("hunter2") && out.contains("admin.token = \"***\""), "{out}");
}

#[test]
fn settings_that_cannot_be_honoured_refuse_the_start_all_at_once() {
    let output = tollgate(&["--config", "/tmp"])
        .envs([
            ("PORT", "x"),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("REDIS_URL", "localhost:6379"),
            ("REDIS_PERSECOND", "true"),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8(output.stderr).unwrap();
    for named in ["PORT", "GRPC_SERVER_USE_TLS", "REDIS_PERSECOND"] {
        assert!(err.contains(named), "{named}: {err}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = folder(GOOD);
    let arguments = ["--config", path(&folder), "--host", "127.0.0.1", "--grpc-port", &port];
    let (code, _, err) = run(&[&arguments[..], &["--http-port", "0", "--admin-port", "0"]].concat());
    assert_eq!(code, 1);
    assert!(err.contains(&format!("cannot listen on 127.0.0.1:{port} for gRPC")), "{err}");
}

/// A server that is ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server on free ports and reads its log up to the line that holds `until`.
fn serve(rules: &Path, until: &str) -> (Server, Vec<String>) {
    let ports = ["--host", "127.0.0.1", "--grpc-port", "0", "--http-port", "0", "--admin-port", "0"];
    let mut command = tollgate(&ports);
    let mut child = command.arg("--config").arg(rules).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        lines.push(line);
        if lines.last().is_some_and(|line| line.contains(until)) {
            break;
        }
    }
    (Server(child), lines)
}

#[test]
fn a_server_says_where_it_listens_and_how_to_try_it() {
    let folder = folder(GOOD);
    let (_server, lines) = serve(folder.path(), "try: curl");
    let log = lines.join("\n");
    assert!(log.contains("limits are per process"), "{log}");
    assert!(log.contains("grpc=127.0.0.1:") && log.contains("admin=127.0.0.1:"), "{log}");
}

#[test]
fn a_server_with_bad_rules_starts_and_names_every_error() {
    let folder = folder(BAD);
    let (_server, lines) = serve(folder.path(), "try: curl");
    let log = lines.join("\n");
    assert!(
        log.contains("invalid rate limit unit 'eon'") && log.contains("descriptor has empty key"),
        "{log}"
    );
    assert!(log.contains("error loading new configuration: there are no rules"), "{log}");
}

#[test]
fn sigterm_ends_a_server_with_code_0() {
    let folder = folder(GOOD);
    let (mut server, _) = serve(folder.path(), "try: curl");
    let pid = server.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}
