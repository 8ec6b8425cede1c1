//! Versions, authorities, names, and who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::certificates::{Authority, Files, client};
use crate::world::{SOON, Tollgate, clear, connects_and_asks, dial, http, set, try_http};

#[tokio::test]
async fn both_versions_are_spoken_on_every_port() {
    let files = Files::new();
    let settings = ["GRPC", "HTTP", "ADMIN"].map(|section| files.settings(section)).concat();
    let server = Tollgate::start(&settings);
    for (version, negotiated) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = client(&[&files.authority.pem], None, &[version]);
        let stream = dial(server.grpc, config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(negotiated));
        connects_and_asks(server.grpc, &config).await.unwrap();
        let health = dial(server.http, config.clone()).await.unwrap();
        assert_eq!(http(health, "GET /healthcheck", "", "").await, (200, "OK".to_owned()));
        let metrics = dial(server.admin, config).await.unwrap();
        let (status, page) = http(metrics, "GET /metrics", "", "").await;
        assert_eq!(status, 200);
        assert!(page.contains("tollgate_tls_handshakes_total{port=\"grpc\",result=\"ok\"}"), "{page}");
    }
    for port in [server.http, server.admin] {
        let stream = TcpStream::connect(port).await.unwrap();
        assert!(try_http(stream, "GET /", "", "").await.is_err(), "clear text is not served");
    }
}

#[tokio::test]
async fn the_oldest_version_is_a_setting() {
    let files = Files::new();
    let mut settings = files.settings("GRPC");
    settings.push(set("GRPC__TLS__MIN_VERSION", "1.3"));
    let server = Tollgate::start(&settings);
    let speaks = async |version| {
        let config = client(&[&files.authority.pem], None, &[version]);
        connects_and_asks(server.grpc, &config).await.is_ok()
    };
    assert!(speaks(&TLS13).await);
    assert!(!speaks(&TLS12).await);
}

#[tokio::test]
async fn what_is_spoken_inside_need_not_be_said_but_must_not_be_something_else() {
    let files = Files::new();
    let server = Tollgate::start(&files.settings("GRPC"));
    let saying = |alpn: &[&[u8]]| {
        let mut config = ClientConfig::clone(&files.client());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        dial(server.grpc, Arc::new(config))
    };
    let silent = saying(&[]).await.unwrap();
    assert_eq!(silent.get_ref().1.alpn_protocol(), None);
    let both = saying(&[b"http/1.1", b"h2"]).await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(saying(&[b"http/1.1"]).await.is_err());
}

#[tokio::test]
async fn a_caller_needs_a_certificate_of_the_authority_with_an_allowed_name() {
    let files = Files::new();
    let mut settings = files.mutual("GRPC", "required");
    let names = r#"["envoy.example", "*.mesh.example", "spiffe://mesh/ns/*", "envoy.corp.example"]"#;
    settings.push(set("GRPC__TLS__ALLOWED_NAMES", names));
    let server = Tollgate::start(&settings);
    let comes =
        async |names: &[&str]| connects_and_asks(server.grpc, &files.client_named(names)).await.is_ok();
    assert!(comes(&["envoy.example"]).await);
    assert!(comes(&["other.example", "a.b.mesh.example"]).await, "one name of several is enough");
    assert!(comes(&["spiffe://mesh/ns/shop"]).await);
    assert!(comes(&["*.corp.example"]).await, "a wildcard of the certificate stands for the allowed host");
    assert!(!comes(&["evil.example"]).await);
    assert!(!comes(&["mesh.example"]).await);
    assert!(!comes(&["spiffe://mesh/other"]).await);
    assert!(!comes(&[]).await, "a certificate without names");
    assert!(connects_and_asks(server.grpc, &files.client()).await.is_err(), "no certificate");
    let stranger = Authority::new("Somebody else").signs(&["envoy.example"]);
    let stranger = client(&[&files.authority.pem], Some(&stranger), crate::certificates::BOTH);
    assert!(connects_and_asks(server.grpc, &stranger).await.is_err(), "another authority");
    assert_eq!(server.metric("tollgate_tls_handshakes_total{port=\"grpc\",result=\"ok\"}").await, 4);
    assert!(server.metric("tollgate_tls_handshakes_total{port=\"grpc\",result=\"failed\"}").await >= 6);
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_bad() {
    let files = Files::new();
    let server = Tollgate::start(&files.mutual("GRPC", "optional"));
    connects_and_asks(server.grpc, &files.client()).await.unwrap();
    connects_and_asks(server.grpc, &files.client_named(&["x"])).await.unwrap();
    let stranger = Authority::new("Somebody else").signs(&["x"]);
    let stranger = client(&[&files.authority.pem], Some(&stranger), crate::certificates::BOTH);
    assert!(connects_and_asks(server.grpc, &stranger).await.is_err());
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_keeps_nobody_waiting_and_is_closed() {
    let files = Files::new();
    let mut settings = files.settings("GRPC");
    settings.push(set("GRPC__TLS__HANDSHAKE_TIMEOUT", "2s"));
    let server = Tollgate::start(&settings);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.grpc).await.unwrap());
    }
    let began = Instant::now();
    connects_and_asks(server.grpc, &files.client()).await.unwrap();
    println!("a call beside 200 open handshakes took {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "it waited for a handshake to time out");
    for stream in &mut silent {
        assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);
    }
    assert_eq!(server.metric("tollgate_tls_handshakes_total{port=\"grpc\",result=\"timeout\"}").await, 200);
}

#[tokio::test]
async fn a_first_load_that_fails_stops_the_start() {
    let files = Files::new();
    let key = files.authority.signs(&["localhost"]).key;
    std::fs::write(files.path("server.key"), key).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_clear().envs(files.settings("GRPC"));
    for port in ["GRPC", "HTTP", "ADMIN"] {
        command.env(format!("TOLLGATE__{port}__PORT"), "0");
    }
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("grpc.tls: cert and key do not belong together"), "{said}");
}

#[tokio::test]
async fn clear_text_is_untouched_by_all_this() {
    let server = Tollgate::start(&[]);
    crate::world::asks(&clear(server.grpc).await, "example").await.unwrap();
    assert_eq!(server.metric("tollgate_tls_handshakes_total{port=\"grpc\",result=\"ok\"}").await, 0);
}
