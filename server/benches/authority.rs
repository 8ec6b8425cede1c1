//! What `AuthorityFilter` costs a request: reads through it, less the same reads without it.
//!
//! `cargo bench --bench authority`; each figure is the median of five runs.

use std::future::poll_fn;
use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tollgate_server::transport::authority::{AuthorityFilter, Counts, Limits};

const REQUESTS: u32 = 200_000;
const RUNS: usize = 5;

/// What h2 reads at most at a time.
const ROOM: usize = 8192;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// A client: the block of its first request, and that of each further one.
struct Shape {
    name: &'static str,
    first: Vec<u8>,
    further: Vec<u8>,
}

/// One request over and over, as a connection brings it: whole requests in each read, or not.
struct Traffic<'a> {
    first: &'a [u8],
    further: &'a [u8],
    at: usize,
    left: u32,
    per_read: usize,
}

impl AsyncRead for Traffic<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            buf.put_slice(self.first);
            self.first = &[];
            return Poll::Ready(Ok(()));
        }
        let mut room = buf.remaining().min(self.per_read);
        while room > 0 && self.left > 0 {
            let rest = &self.further[self.at..];
            let length = rest.len().min(room);
            buf.put_slice(&rest[..length]);
            room -= length;
            self.at += length;
            if self.at == self.further.len() {
                self.at = 0;
                self.left -= 1;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn main() {
    for shape in [envoy(), traced(), unindexed(), nameless()] {
        let first = [PREFACE, &request(&shape.first)].concat();
        let further = request(&shape.further);
        for (reads, per_read) in [("one request a read", further.len()), ("full reads", ROOM)] {
            let traffic = || Traffic { first: &first, further: &further, at: 0, left: REQUESTS, per_read };
            let bare = median(|| time(traffic()));
            let counts = Arc::new(Counts::default());
            let filtered =
                median(|| time(AuthorityFilter::new(traffic(), Limits::default(), counts.clone())));
            assert_eq!(counts.stopped.load(Ordering::Relaxed), 0, "{}", shape.name);
            let cost = filtered.saturating_sub(bare).as_nanos() / u128::from(REQUESTS);
            println!("{:<44} {:<20} {cost:>4} ns a request", shape.name, reads);
        }
    }
}

fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort_unstable();
    times[RUNS / 2]
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn time(mut io: impl AsyncRead + Unpin) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let mut room = vec![0; ROOM];
    let start = Instant::now();
    let reading = async {
        loop {
            let mut buf = ReadBuf::new(&mut room);
            let read = poll_fn(|cx| Pin::new(&mut io).poll_read(cx, &mut buf)).await;
            if read.is_err() || black_box(buf.filled()).is_empty() {
                return;
            }
        }
    };
    if let Ok(runtime) = runtime {
        runtime.block_on(reading);
    }
    start.elapsed()
}

/// HEADERS, and DATA with a `RateLimitRequest` of usual size.
fn request(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, [1, 0x04], block);
    frame(&mut out, [0, 0x01], &[b'd'; 80]);
    out
}

fn frame(out: &mut Vec<u8>, kind_and_flags: [u8; 2], payload: &[u8]) {
    let [.., middle, low] = payload.len().to_be_bytes();
    out.extend_from_slice(&[0, middle, low]);
    out.extend_from_slice(&kind_and_flags);
    out.extend_from_slice(&[0, 0, 0, 1]);
    out.extend_from_slice(payload);
}

const NAME: &[u8] = b"outbound|8081||ratelimit.default.svc.cluster.local";

fn literal(start: &[u8], value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap_or(0);
    [start, &[length], value].concat()
}

/// `:method POST`, `:scheme http`, and the other fields of Envoy into the table.
fn envoy_first(authority: &[u8]) -> Vec<u8> {
    let path = b"/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    [
        b"\x83\x86".to_vec(),
        authority.to_vec(),
        literal(b"\x44", path),
        literal(b"\x40\x02te", b"trailers"),
        literal(b"\x40\x0cgrpc-timeout", b"20m"),
        literal(b"\x5f", b"application/grpc"),
        literal(b"\x40\x10x-envoy-internal", b"true"),
        literal(b"\x40\x0fx-forwarded-for", b"10.244.0.17"),
        literal(b"\x40\x1ex-envoy-expected-rq-timeout-ms", b"20"),
    ]
    .concat()
}

fn envoy() -> Shape {
    let first = envoy_first(&literal(b"\x41", NAME));
    let further = b"\x83\x86\xc5\xc4\xc3\xc2\xc1\xc0\xbf\xbe".to_vec();
    Shape { name: "envoy: all indexed", first, further }
}

/// A new `traceparent` each time, in the table and Huffman coded, as nghttp2 sends it.
fn traced() -> Shape {
    // eight digits of five bits each
    let value = b"\x00\x44\x32\x14\x01".repeat(7);
    let traceparent = [&b"\x40\x0btraceparent\xa3"[..], &value].concat();
    let first = [envoy_first(&literal(b"\x41", NAME)), traceparent.clone()].concat();
    // a table full of traceparents has dropped the rest: so those are literals
    let further =
        [&envoy_first(b"\x01\x09localhost")[..2], &literal(b"\x04", b"/s/m"), &traceparent].concat();
    Shape { name: "a new traceparent each time, huffman", first, further }
}

fn unindexed() -> Shape {
    let mut envoy = envoy();
    envoy.further[2..=2].copy_from_slice(b"\xc4");
    let further = [&b"\x83\x86"[..], &literal(b"\x01", NAME), &envoy.further[3..]].concat();
    Shape { name: "an illegal name each time, not indexed", first: envoy.first, further }
}

fn nameless() -> Shape {
    let first = envoy_first(b"\x81");
    Shape {
        name: "an empty name each time",
        first,
        further: b"\x83\x86\x81\xc4\xc3\xc2\xc1\xc0\xbf\xbe".to_vec(),
    }
}
