//! `AuthorityFilter` in front of h2 itself: every authority is served, and nothing else is changed.
//!
//! `TOLLGATE_FUZZ_CASES` sets how many cases each random test runs, `TOLLGATE_FUZZ_SEED` where it starts.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a failure here is a failed test")]

#[path = "authority/chance.rs"]
mod chance;
#[path = "authority/encoder.rs"]
mod encoder;
#[path = "authority/traffic.rs"]
mod traffic;
#[path = "authority/wire.rs"]
mod wire;

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, duplex};

use chance::Chance;
use encoder::frame;
use traffic::{Authorities, Client, Request, check_arrival};
use wire::{Outcome, Pieces, Recorder, filter, filtered, served};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs a test for many seeds; the seed that fails is printed.
fn for_seeds<F: Future<Output = ()>>(cases: u64, test: impl Fn(Chance) -> F) {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("again with TOLLGATE_FUZZ_CASES=1 TOLLGATE_FUZZ_SEED={}", self.0);
            }
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = number("TOLLGATE_FUZZ_SEED", 1);
    for seed in first..first + number("TOLLGATE_FUZZ_CASES", cases) {
        let _shown = Seed(seed);
        runtime.block_on(test(Chance::new(seed)));
    }
}

fn client(authorities: Authorities, requests: usize, chance: &mut Chance) -> Client {
    let mut client = Client::new(authorities);
    for _ in 0..requests {
        client.send(chance);
    }
    client
}

fn check_all_served(sent: &[Request], outcome: &Outcome) {
    assert_eq!((outcome.goaway, &outcome.resets[..]), (None, &[][..]));
    assert_eq!(sent.len(), outcome.requests.len());
    for (sent, (_, came)) in sent.iter().zip(&outcome.requests) {
        check_arrival(sent, came);
    }
}

#[test]
fn every_request_is_served_with_all_else_unchanged() {
    for_seeds(1500, |mut chance| async move {
        let authorities = *chance.pick(&[Authorities::Any, Authorities::AnyIndexed]);
        let requests = 1 + chance.below(12);
        let client = client(authorities, requests, &mut chance);
        let outcome = served(filter(Pieces::new(client.bytes, &mut chance))).await;
        check_all_served(&client.requests, &outcome);
    });
}

#[test]
fn legal_streams_pass_byte_for_byte() {
    for_seeds(700, |mut chance| async move {
        let requests = chance.below(12);
        let client = client(Authorities::Legal, requests, &mut chance);
        assert!(filtered(&client.bytes, &mut chance).await == client.bytes);
    });
}

#[test]
fn what_is_cut_short_passes_too() {
    for_seeds(700, |mut chance| async move {
        let mut bytes = client(Authorities::Legal, 3, &mut chance).bytes;
        bytes.truncate(chance.below(bytes.len()));
        assert!(filtered(&bytes, &mut chance).await == bytes);
    });
}

#[test]
fn a_long_connection_stays_in_step() {
    for authorities in [Authorities::Any, Authorities::AnyIndexed] {
        for_seeds(1, |mut chance| async move {
            let client = client(authorities, 10_000, &mut chance);
            let outcome = served(filter(Pieces::slowly(client.bytes, 200))).await;
            check_all_served(&client.requests, &outcome);
        });
    }
}

/// Once blocks are re-encoded, a byte may stand for 3000.
#[test]
fn what_grows_without_measure_comes_out_whole() {
    for_seeds(4, |mut chance| async move {
        let mut bytes = Client::new(Authorities::Any).bytes;
        let first = [&b"\x83\x86\x84\x41\0\x40\x01a\x7f\xb9\x16"[..], &[b'v'; 3000]].concat();
        frame(&mut bytes, (1, 0x05, 1), &first);
        for nth in 1..100 {
            frame(&mut bytes, (1, 0x05, 2 * nth + 1), b"\x83\x86\x84\xbf\xbe\xbe\xbe\xbe\xbe\xbe\xbe\xbe");
        }
        let outcome = served(filter(Pieces::new(bytes, &mut chance))).await;
        assert_eq!((outcome.goaway, outcome.requests.len()), (None, 100));
        assert!(outcome.requests[1..].iter().all(|(_, request)| request.headers.len() == 8));
    });
}

#[test]
fn garbage_passes_byte_for_byte() {
    for_seeds(700, |mut chance| async move {
        let length = chance.below(600);
        let mut bytes = if chance.one_in(2) { traffic::PREFACE.to_vec() } else { Vec::new() };
        bytes.extend((0..length).map(|_| chance.byte() >> chance.below(8)));
        let out = filtered(&bytes, &mut chance).await;
        assert!(out.starts_with(&bytes[..bytes.len().min(24)]));
        served(filter(Pieces::new(bytes, &mut chance))).await;
    });
}

/// What h2 alone would serve is served the same; what h2 alone ends in an error ends in one.
#[test]
fn a_broken_stream_is_answered_as_h2_alone_would() {
    for_seeds(300, |mut chance| async move {
        let authorities = *chance.pick(&[Authorities::Legal, Authorities::Any, Authorities::AnyIndexed]);
        let mut bytes = client(authorities, 5, &mut chance).bytes;
        for _ in 0..=chance.below(3) {
            let at = chance.below(bytes.len());
            bytes[at] = if chance.one_in(2) { chance.byte() } else { bytes[at] ^ 1 << chance.below(8) };
        }
        let out = filtered(&bytes, &mut chance).await;
        assert!(out == filtered(&bytes, &mut chance).await, "depends on the pieces");
        if out == bytes {
            return;
        }
        let alone = served(Pieces::slowly(bytes, 1)).await;
        let with_filter = served(Pieces::slowly(out, 1)).await;
        for request in &alone.requests {
            assert!(with_filter.requests.contains(request), "{request:?}");
        }
        // a stream that h2 alone has reset may make it forgive what follows
        let has_erred = alone.goaway.is_some() || !alone.resets.is_empty();
        assert!(with_filter.goaway.is_none() || has_erred);
    });
}

/// h2's own client, with its own encoder.
#[test]
fn a_legal_client_is_not_touched() {
    for_seeds(100, |mut chance| async move {
        let (near, far) = duplex(1 << 20);
        let (reader, writer) = tokio::io::split(far);
        let [before, after] = [(); 2].map(|()| Rc::new(RefCell::new(Vec::new())));
        let inner = Recorder { io: reader, seen: before.clone() };
        let outer = Recorder { io: filter(inner), seen: after.clone() };
        let server = async {
            let mut connection = h2::server::handshake(wire::Joined(outer, writer)).await.unwrap();
            let mut requests = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                requests.push(wire::arrived(&request));
                respond.send_response(http::Response::new(()), true).unwrap();
            }
            requests
        };
        let (sent, came) = tokio::join!(call_many(near, &mut chance), server);
        assert_eq!(sent, came);
        assert!(!before.borrow().is_empty() && before == after);
    });
}

async fn call_many(io: tokio::io::DuplexStream, chance: &mut Chance) -> Vec<Request> {
    let (mut sender, connection) = h2::client::handshake(io).await.unwrap();
    let calls = async move {
        let mut sent = Vec::new();
        for _ in 0..30 {
            let authority = *chance.pick(&["localhost", "rl.example:8081", "[::1]:80"]);
            let mut request = http::Request::post(format!("http://{authority}/a.B/C")).body(()).unwrap();
            let value = format!("{:x}", chance.number()).parse().unwrap();
            request.headers_mut().insert(*chance.pick(&["traceparent", "x-tok"]), value);
            sent.push(wire::arrived(&request));
            sender = sender.ready().await.unwrap();
            let (response, mut body) = sender.send_request(request, false).unwrap();
            body.send_data(vec![0; 40].into(), true).unwrap();
            response.await.unwrap();
        }
        sent
    };
    let (sent, closed) = tokio::join!(calls, connection);
    closed.unwrap();
    sent
}

#[tokio::test]
async fn http_1_passes() {
    let mut out = Vec::new();
    filter(&b"GET / HTTP/1.1\r\nhost: a|b\r\n\r\n"[..]).read_to_end(&mut out).await.unwrap();
    assert_eq!(out, b"GET / HTTP/1.1\r\nhost: a|b\r\n\r\n");
}

/// The contract of `poll_read`: what is held back has not been read yet.
#[test]
fn nothing_is_in_the_buffer_while_more_is_awaited() {
    let (mut near, far) = duplex(1000);
    let mut filter = filter(far);
    let start = [traffic::PREFACE, b"\0\0\x03\x01\x05"].concat();
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    assert!(pin!(near.write_all(&start)).poll(&mut cx).is_ready());

    let mut room = [0; 100];
    let mut buf = ReadBuf::new(&mut room);
    assert!(Pin::new(&mut filter).poll_read(&mut cx, &mut buf).is_ready());
    assert_eq!(buf.filled(), traffic::PREFACE);
    buf.clear();
    assert!(Pin::new(&mut filter).poll_read(&mut cx, &mut buf).is_pending());
    assert_eq!(buf.filled(), b"");
}
