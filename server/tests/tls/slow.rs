//! Callers that are slow on purpose, and very many that do nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::certificates::Files;
use crate::world::{SOON, Tollgate, asks, clear, connects_and_asks, dial, eventually, http, set};

/// Waits for the server to close; what it said until then.
async fn closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut said)).await;
    // a reset is an end too
    drop(ended.unwrap());
    String::from_utf8_lossy(&said).into_owned()
}

fn quick_to_close() -> Tollgate {
    Tollgate::start(&[set("HTTP__TIMEOUT", "1s")])
}

#[tokio::test]
async fn a_grpc_connection_has_to_begin() {
    let server = quick_to_close();
    let mut silent = TcpStream::connect(server.grpc).await.unwrap();
    let mut begun = TcpStream::connect(server.grpc).await.unwrap();
    begun.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    assert_eq!(closed(&mut silent).await, "");
    assert_eq!(closed(&mut begun).await, "");
    let mut other = TcpStream::connect(server.grpc).await.unwrap();
    let began = Instant::now();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    closed(&mut other).await;
    assert!(began.elapsed() < Duration::from_millis(900), "what is no HTTP/2 is not waited for");
    let mut slow = TcpStream::connect(server.grpc).await.unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        slow.write_all(&[*byte]).await.unwrap();
    }
    slow.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut settings = [0; 9];
    timeout(SOON, slow.read_exact(&mut settings)).await.unwrap().unwrap();
    assert_eq!(settings[3], 4, "byte by byte is well, if it is soon");
}

#[tokio::test]
async fn an_idle_connection_that_has_begun_stays() {
    let server = quick_to_close();
    let channel = clear(server.grpc).await;
    asks(&channel, "example").await.unwrap();
    sleep(Duration::from_millis(2_500)).await;
    asks(&channel, "example").await.unwrap();
    assert_eq!(server.metric("tollgate_connections{kind=\"grpc\"}").await, 1);
}

#[tokio::test]
async fn a_slow_head_or_body_of_http_is_cut_off() {
    let server = quick_to_close();
    for port in [server.http, server.admin] {
        let mut slow = TcpStream::connect(port).await.unwrap();
        let began = Instant::now();
        let mut bytes = b"GET /stats HTTP/1.1\r\nhost: x\r\nx-y: ".iter();
        while let Some(byte) = bytes.next()
            && slow.write_all(&[*byte]).await.is_ok()
        {
            sleep(Duration::from_millis(100)).await;
        }
        closed(&mut slow).await;
        println!("a slow head was cut off after {:?}", began.elapsed());
    }
    let mut slow = TcpStream::connect(server.http).await.unwrap();
    slow.write_all(b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"domain\"")
        .await
        .unwrap();
    assert!(closed(&mut slow).await.starts_with("HTTP/1.1 408"));
    let stream = TcpStream::connect(server.http).await.unwrap();
    assert_eq!(http(stream, "GET /healthcheck", "", "").await.0, 200);
}

#[tokio::test]
async fn a_port_has_as_many_connections_as_it_may() {
    let server = Tollgate::start(&[set("GRPC__MAX_CONNECTIONS", "3"), set("HTTP__MAX_CONNECTIONS", "2")]);
    let mut kept = Vec::new();
    for _ in 0..3 {
        let channel = clear(server.grpc).await;
        asks(&channel, "example").await.unwrap();
        kept.push(channel);
    }
    let mut one_too_many = TcpStream::connect(server.grpc).await.unwrap();
    assert_eq!(closed(&mut one_too_many).await, "");
    assert_eq!(server.metric("tollgate_connections_refused_total{port=\"grpc\"}").await, 1);
    let stream = TcpStream::connect(server.http).await.unwrap();
    assert_eq!(http(stream, "GET /livez", "", "").await.0, 200, "each port counts for itself");
    kept.pop();
    eventually("the place is free again", || async {
        server.metric("tollgate_connections{kind=\"grpc\"}").await == 2
    })
    .await;
    asks(&clear(server.grpc).await, "example").await.unwrap();
}

/// Opens `count` connections with `open`, and says what each costs the server. A call must still be quick.
async fn idle<S>(server: &Tollgate, count: u64, open: impl AsyncFn() -> S) -> (Vec<S>, u64) {
    let before = server.memory();
    let mut kept = Vec::new();
    for _ in 0..count {
        kept.push(open().await);
    }
    eventually("all are open", || async {
        server.metric("tollgate_connections{kind=\"grpc\"}").await >= count
    })
    .await;
    let bytes = (server.memory().saturating_sub(before)) * 1024 / count;
    (kept, bytes)
}

/// A connection that has said what it has to, and nothing else.
async fn begun(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> impl Sized {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).await.unwrap();
    stream
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_slow_nobody() {
    let server = Tollgate::start(&[set("GRPC__KEEPALIVE_INTERVAL", "0s")]);
    asks(&clear(server.grpc).await, "example").await.unwrap();
    let open = async || begun(TcpStream::connect(server.grpc).await.unwrap()).await;
    let (kept, bytes) = idle(&server, 10_000, open).await;
    let began = Instant::now();
    asks(&clear(server.grpc).await, "example").await.unwrap();
    println!("10000 idle connections: {bytes} bytes each; a call on a new one takes {:?}", began.elapsed());
    assert!(bytes < 65_536, "{bytes} bytes for each idle connection");
    assert!(began.elapsed() < Duration::from_secs(2));
    drop(kept);
}

#[tokio::test]
async fn two_thousand_idle_tls_connections_cost_little() {
    let files = Files::new();
    let mut settings = files.settings("GRPC");
    settings.push(set("GRPC__KEEPALIVE_INTERVAL", "0s"));
    let server = Tollgate::start(&settings);
    connects_and_asks(server.grpc, &files.client()).await.unwrap();
    let client = files.client();
    let open = async || begun(dial(server.grpc, client.clone()).await.unwrap()).await;
    let (kept, bytes) = idle(&server, 2_000, open).await;
    println!("2000 idle TLS connections: {bytes} bytes each");
    assert!(bytes < 131_072, "{bytes} bytes for each idle connection");
    drop(kept);
}
