use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};

use super::{folder, run, tollgate};

const RULES: &str =
    "domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, requests_per_unit: 1 }\n";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a free port, and that port.
fn serve(rules: &str) -> (Server, String) {
    let rules = folder(&[("rules.yaml", rules)]);
    let ports = ["--host", "127.0.0.1", "--grpc-port", "0", "--http-port", "0", "--admin-port", "0"];
    let mut command = tollgate(&ports);
    let mut child = command.arg("--config").arg(rules.path()).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let server = Server(child);
    for line in log.lines().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("grpc=127.0.0.1:") {
            return (server, rest.chars().take_while(char::is_ascii_digit).collect());
        }
    }
    panic!("the server ended without saying where it listens");
}

#[test]
fn a_serving_server_is_healthy_by_address_and_by_settings() {
    let (_server, port) = serve(RULES);
    let (code, out, err) = run(&["health", "--addr", &format!("127.0.0.1:{port}")]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "SERVING\n", ""));
    assert_eq!(run(&["health", "--host", "127.0.0.1", "--grpc-port", &port]).0, 0);
    let by_variable = tollgate(&["health"]).env("GRPC_PORT", &port).output().unwrap();
    assert_eq!(by_variable.status.code(), Some(0), "0.0.0.0 is asked on the loopback");
}

#[test]
fn an_unknown_service_is_not_healthy() {
    let (_server, port) = serve(RULES);
    let (code, _, err) = run(&["health", "--addr", &format!("127.0.0.1:{port}"), "--service", "nobody"]);
    assert_eq!(code, 1);
    assert!(err.contains("NotFound"), "{err}");
}

#[test]
fn nobody_there_is_not_healthy() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(run(&["health", "--addr", &free.to_string()]).0, 1);
}

#[test]
fn one_who_never_answers_is_not_healthy() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (code, _, err) = run(&["health", "--addr", &address, "--timeout", "100ms"]);
    assert_eq!(code, 1);
    assert!(err.contains("no answer within 100ms"), "{err}");
}

#[test]
fn bad_arguments_are_named() {
    for (arguments, named) in [
        (&["--timeout", "soon"][..], "--timeout"),
        (&["--addr", "https://x:1"], "plain HTTP/2"),
        (&["--grpc-port", "0"], "use --addr"),
        (&["--grpc-port", "x"], "grpc.port"),
    ] {
        let (code, _, err) = run(&[&["health"], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}");
        assert!(err.contains(named), "{err}");
    }
}

#[test]
fn the_version_names_the_build() {
    let (code, out, _) = run(&["--version"]);
    assert_eq!(code, 0);
    let start = format!("tollgate {} (commit ", env!("CARGO_PKG_VERSION"));
    assert!(out.starts_with(&start) && out.contains(tollgate_server::version::COMMIT), "{out}");
}
