//! Who may change something on the admin port, and how a server is made to leave.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::admin_client::AdminClient;
use tonic::Code;

use crate::certificates::Files;
use crate::world::{SOON, Tollgate, dial, http, secure, set};

#[tokio::test]
async fn a_writer_is_known_by_its_certificate_and_everybody_else_reads() {
    let files = Files::new();
    let mut settings = [files.mutual("ADMIN", "optional"), files.mutual("GRPC", "optional")].concat();
    settings.push(set("ADMIN__WRITERS", r#"["ops.example"]"#));
    let server = Tollgate::start(&settings);
    let ask = async |names: Option<&[&str]>, line: &str, headers: &str| {
        let config = names.map_or_else(|| files.client(), |names| files.client_named(names));
        http(dial(server.admin, config).await.unwrap(), line, headers, "").await.0
    };
    let change = "PUT /log?level=debug";
    assert_eq!(ask(Some(&["ops.example"]), change, "").await, 200);
    assert_eq!(ask(Some(&["ops.example"]), "POST /store/clear", "").await, 200);
    for names in [None, Some(&["dev.example"][..]), Some(&["xops.example"][..])] {
        assert_eq!(ask(names, change, "").await, 403, "{names:?}");
        assert_eq!(ask(names, change, "authorization: Bearer x\r\n").await, 403, "{names:?}");
        assert_eq!(ask(names, "GET /stats", "").await, 200, "{names:?}");
    }
    let request = || wire::ReadKeyRequest {
        domain: "example".into(),
        descriptors: vec![wire::Descriptor {
            entries: vec![wire::Entry { key: "user".into(), value: "ann".into() }],
            cost: None,
        }],
    };
    for (name, code) in [("ops.example", Code::Ok), ("dev.example", Code::PermissionDenied)] {
        let channel = secure(server.grpc, &files.client_named(&[name])).await.unwrap();
        let answer = AdminClient::new(channel).read_key(request()).await;
        assert_eq!(answer.err().map_or(Code::Ok, |status| status.code()), code, "{name}");
    }
}

#[tokio::test]
async fn an_admin_port_with_names_lets_nobody_else_read() {
    let files = Files::new();
    let mut settings = files.mutual("ADMIN", "required");
    settings.push(set("ADMIN__TLS__ALLOWED_NAMES", r#"["prometheus.example"]"#));
    let server = Tollgate::start(&settings);
    let stream = dial(server.admin, files.client_named(&["prometheus.example"])).await.unwrap();
    assert_eq!(http(stream, "GET /metrics", "", "").await.0, 200);
    for config in [files.client(), files.client_named(&["dev.example"])] {
        let answer = match dial(server.admin, config).await {
            Ok(stream) => crate::world::try_http(stream, "GET /metrics", "", "").await,
            Err(error) => Err(error),
        };
        assert!(answer.is_err());
    }
}

#[tokio::test]
async fn the_admin_port_says_when_it_is_open_to_the_network() {
    let server = Tollgate::start(&[set("ADMIN__HOST", "0.0.0.0")]);
    assert!(server.has_said(&["\"warn\"", "open to the network without TLS"]));
    let server = Tollgate::start(&[]);
    assert!(!server.has_said(&["open to the network"]));
    assert!(server.admin.ip().is_loopback());
}

#[tokio::test]
async fn a_second_request_to_stop_is_obeyed_at_once() {
    let mut server = Tollgate::start(&[set("SHUTDOWN__DRAIN_DELAY", "1h")]);
    server.terminate();
    crate::world::eventually("it drains", || async { server.has_said(&["shutting down"]) }).await;
    assert_eq!(server.ended(), None);
    server.terminate();
    let began = Instant::now();
    let status = loop {
        assert!(began.elapsed() < SOON, "it does not end");
        match server.ended() {
            Some(status) => break status,
            None => sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(status.code(), Some(3));
    assert!(TcpStream::connect(server.grpc).await.is_err());
}
