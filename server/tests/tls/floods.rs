//! Callers that send more than anybody needs.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::rate_limiter_client::RateLimiterClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::world::{SOON, Tollgate, asks, clear, http};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `:method POST`, `:scheme http`, `:path /`, `:authority a`.
const HEADERS: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];
const GOAWAY: u8 = 7;
/// Floods one after the other.
const FLOODS: usize = 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sends `flood` again and again until the connection is closed; the code of the GOAWAY and the bytes sent.
async fn flooded(to: SocketAddr, first: &[u8], flood: impl Fn(u32) -> Vec<u8>) -> (Option<u32>, usize) {
    let (mut read, mut write) = TcpStream::connect(to).await.unwrap().into_split();
    let reading = tokio::spawn(async move {
        let mut answer = Vec::new();
        // a reset is an end too
        let _ = read.read_to_end(&mut answer).await;
        answer
    });
    let mut sent = first.len();
    let _ = write.write_all(first).await;
    let began = Instant::now();
    for turn in 0.. {
        let bytes = flood(turn);
        if reading.is_finished() || write.write_all(&bytes).await.is_err() {
            break;
        }
        sent += bytes.len();
        assert!(began.elapsed() < SOON && sent < 256 << 20, "{sent} bytes were taken without an end");
    }
    (goaway(&timeout(SOON, reading).await.unwrap().unwrap()), sent)
}

/// The error code of the last GOAWAY.
fn goaway(mut answer: &[u8]) -> Option<u32> {
    let mut code = None;
    while let Some((head, rest)) = answer.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if head[3] == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        answer = rest;
    }
    code
}

/// Lets `flood` happen again and again while somebody else calls on a connection of its own; what each flood led to.
async fn beside<F: Future<Output = (Option<u32>, usize)>>(
    server: &Tollgate,
    flood: impl Fn() -> F,
) -> Vec<(Option<u32>, usize)> {
    let channel = clear(server.grpc).await;
    asks(&channel, "example").await.unwrap();
    let over = CancellationToken::new();
    let calls = async {
        let mut took = Vec::new();
        while !over.is_cancelled() {
            let began = Instant::now();
            asks(&channel, "example").await.unwrap();
            took.push(began.elapsed());
        }
        took
    };
    let floods = async {
        let mut found = Vec::new();
        for _ in 0..FLOODS {
            found.push(flood().await);
        }
        over.cancel();
        found
    };
    let (mut took, found) = tokio::join!(calls, floods);
    took.sort_unstable();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "floods {:?}; {} calls beside them: median {median:?}, slowest {slowest:?}",
        found[0],
        took.len()
    );
    assert!(took.len() >= 3, "there were calls beside the floods: {}", took.len());
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_resets_ends_its_connection_and_no_other() {
    let server = Tollgate::start(&[]);
    // CVE-2023-44487: streams that are reset as soon as they are opened
    let resets = |turn: u32| {
        let pair =
            |stream| [frame(1, 4, stream, HEADERS), frame(3, 0, stream, &8_u32.to_be_bytes())].concat();
        (0..4_000).flat_map(|number| pair((turn * 4_000 + number) * 2 + 1)).collect()
    };
    for (code, _) in beside(&server, || flooded(server.grpc, PREFACE, resets)).await {
        assert_eq!(code, Some(11), "ENHANCE_YOUR_CALM");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_continuations_ends_its_connection() {
    let server = Tollgate::start(&[]);
    for header in [&[0x00, 1, b'x', 1, b'y'][..], &[0x00, 1, b':', 1, b'y'], &[]] {
        let first = [PREFACE, &frame(1, 0, 1, HEADERS)].concat();
        let more = |_| frame(9, 0, 1, header).repeat(1_000);
        for (code, sent) in beside(&server, || flooded(server.grpc, &first, more)).await {
            assert!(code.is_some(), "{header:?}");
            assert!(sent < 64 << 20, "{sent}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_or_settings_does_not_grow() {
    let server = Tollgate::start(&[]);
    let before = server.memory();
    for (kind, payload) in [(6, &[0; 8][..]), (4, &[])] {
        let mut stream = TcpStream::connect(server.grpc).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let flood = frame(kind, 0, 0, payload).repeat(10_000);
        // answers are not read: the server must stop reading, or close
        let mut left = 200;
        while left > 0
            && matches!(timeout(Duration::from_millis(200), stream.write_all(&flood)).await, Ok(Ok(())))
        {
            left -= 1;
        }
        asks(&clear(server.grpc).await, "example").await.unwrap();
    }
    let grown = server.memory().saturating_sub(before);
    println!("floods of PING and SETTINGS grew the server by {grown} KiB");
    assert!(grown < 64 << 10, "{grown} KiB");
}

fn crowd(descriptors: usize) -> RateLimitRequest {
    let descriptors = vec![RateLimitDescriptor::default(); descriptors];
    RateLimitRequest { domain: "example".into(), descriptors, hits_addend: 0 }
}

#[tokio::test]
async fn a_message_of_very_many_descriptors_is_refused_before_it_is_decoded() {
    let server = Tollgate::start(&[]);
    let channel = clear(server.grpc).await;
    asks(&channel, "example").await.unwrap();
    let request = crowd(2_000_000);
    assert!(request.encoded_len() < 4 << 20);
    let before = server.memory();
    let mut client = RateLimitServiceClient::new(channel.clone()).max_encoding_message_size(8 << 20);
    for _ in 0..3 {
        let status = client.should_rate_limit(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.message(), "rate limit descriptor list has 2000000 items, more than 10000");
    }
    native(&channel).await;
    let body = format!("{{\"domain\":\"example\",\"descriptors\":[{}{{}}]}}", "{},".repeat(1_300_000));
    for path in ["POST /json", "POST /v1/check"] {
        let stream = TcpStream::connect(server.http).await.unwrap();
        assert_eq!(http(stream, path, "", &body).await.0, 400, "{path}");
    }
    let grown = server.memory().saturating_sub(before);
    println!("the server grew by {grown} KiB");
    // two million descriptors would take 200 MB
    assert!(grown < 48 << 10, "{grown} KiB");
}

async fn native(channel: &Channel) {
    let descriptors = vec![wire::Descriptor::default(); 2_000_000];
    let mut client = RateLimiterClient::new(channel.clone()).max_encoding_message_size(8 << 20);
    let check = wire::CheckRequest { domain: "example".into(), descriptors, ..Default::default() };
    let status = client.check(check).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "descriptors: has 2000000 descriptors, more than 10000");
}
