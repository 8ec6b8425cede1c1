//! What a client may send on one connection, and what must arrive of it.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use http::uri::Authority;

use crate::chance::Chance;
use crate::encoder::{Encoder, Field, frame, headers};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const LEGAL: [&str; 6] = ["localhost", "rl.example:8081", "[::1]:80", "u%20:p@host:1", "10.0.0.1", "a"];
const ILLEGAL: [&str; 9] = [
    "outbound|8081||ratelimit.default.svc.cluster.local",
    "unix:/var/run/rl.sock",
    "rate limit",
    "{blue}/green",
    "a:b:c",
    "user@",
    "[::1",
    "50%",
    "r\u{e9}seau",
];
const NAMES: [&str; 12] = [
    "accept",
    "cookie",
    "user-agent",
    "content-type",
    "accept-encoding",
    "te",
    "grpc-timeout",
    "traceparent",
    "tracestate",
    "x-forwarded-for",
    "x-tok",
    "x-envoy-internal",
];

/// Which authorities a connection uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Authorities {
    Legal,
    /// and empty ones that stay out of the table
    Any,
    /// and empty ones that enter it
    AnyIndexed,
}

/// A request as it left, or as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: Option<Vec<u8>>,
    pub(crate) headers: HeaderMap,
    /// `None`: not seen to its end.
    pub(crate) body: Option<Body>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Body {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A client: the bytes it has sent, and the requests in them.
pub(crate) struct Client {
    pub(crate) bytes: Vec<u8>,
    pub(crate) requests: Vec<Request>,
    encoder: Encoder,
    authorities: Authorities,
    next_stream: u32,
}

impl Client {
    pub(crate) fn new(authorities: Authorities) -> Self {
        let mut bytes = PREFACE.to_vec();
        frame(&mut bytes, (4, 0, 0), &[]);
        let mut encoder = Encoder::new();
        encoder.indexes_empty = authorities == Authorities::AnyIndexed;
        Self { bytes, requests: Vec::new(), encoder, authorities, next_stream: 1 }
    }

    pub(crate) fn send(&mut self, chance: &mut Chance) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let (mut request, fields) = request(self.authorities, chance);
        let has_body = !chance.one_in(4);
        self.block((u8::from(!has_body), stream), &fields, chance);
        let body = if has_body { self.body(stream, chance) } else { Body::default() };
        request.body = Some(body);
        self.requests.push(request);
    }

    fn body(&mut self, stream: u32, chance: &mut Chance) -> Body {
        let mut body = Body::default();
        for _ in 0..chance.below(3) {
            self.other_frame((stream, &mut body), chance);
        }
        let has_trailers = chance.one_in(4);
        // h2 ends a connection at the 101st DATA frame that is empty and not the last of its stream
        let data = vec![chance.byte(); usize::from(has_trailers) + chance.below(100)];
        frame(&mut self.bytes, (0, u8::from(!has_trailers), stream), &data);
        body.data.extend_from_slice(&data);
        if has_trailers {
            let value = HeaderValue::from_static("20m1");
            self.block((1, stream), &[field("x-tok", value.as_bytes())], chance);
            body.trailers = Some([(HeaderName::from_static("x-tok"), value)].into_iter().collect());
        }
        body
    }

    fn block(&mut self, (flags, stream): (u8, u32), fields: &[Field], chance: &mut Chance) {
        let block = self.encoder.block(fields, chance);
        headers(&mut self.bytes, (flags, stream), &block, chance);
    }

    fn other_frame(&mut self, (stream, body): (u32, &mut Body), chance: &mut Chance) {
        match chance.below(4) {
            0 => frame(&mut self.bytes, (8, 0, 0), &[0, 0, 0, 9]),
            1 => frame(&mut self.bytes, (2, 0, stream), &[0, 0, 0, 0, chance.byte()]),
            2 => frame(&mut self.bytes, (0x42, chance.byte(), stream), b"unknown"),
            _ => {
                frame(&mut self.bytes, (0, 0x08, stream), b"\x02pad\0\0");
                body.data.extend_from_slice(b"pad");
            }
        }
    }
}

/// What must arrive: the same, but with an authority that is legal, and as long as it was.
pub(crate) fn check_arrival(sent: &Request, came: &Request) {
    let authority = |request: &Request| request.authority.clone().unwrap_or_default();
    let (old, new) = (authority(sent), authority(came));
    assert_eq!(sent.authority.is_some(), came.authority.is_some());
    if sent.authority.is_some() {
        assert!(Authority::try_from(&new[..]).is_ok());
        assert_eq!(new.len(), old.len().max(1));
    }
    if Authority::try_from(&old[..]).is_ok() {
        assert_eq!(old, new);
    }
    assert!(old.is_empty() || old.iter().zip(&new).all(|(old, new)| old == new || *new == b'-'));
    assert_eq!(Request { authority: None, ..sent.clone() }, Request { authority: None, ..came.clone() });
}

fn request(authorities: Authorities, chance: &mut Chance) -> (Request, Vec<Field>) {
    let method = *chance.pick(&["GET", "POST", "PUT"]);
    let path = *chance.pick(&["/", "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", "/a?b"]);
    let authority = authority(authorities, chance);
    let mut fields = vec![field(":method", method.as_bytes()), field(":path", path.as_bytes())];
    fields.push(field(":scheme", chance.pick(&["http", "https"]).as_bytes()));
    fields.extend(authority.iter().map(|value| field(":authority", value)));
    chance.shuffle(&mut fields);

    let mut headers = HeaderMap::new();
    for _ in 0..chance.below(10) {
        let (name, value) = header(chance);
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap());
        fields.push(field(name, &value));
    }
    (Request { method: method.into(), path: path.into(), authority, headers, body: None }, fields)
}

fn field(name: &str, value: &[u8]) -> Field {
    (name.as_bytes().to_vec(), value.to_vec())
}

fn header(chance: &mut Chance) -> (&'static str, Vec<u8>) {
    let name = *chance.pick(&NAMES);
    let value = match (name, chance.below(12)) {
        ("te", _) => b"trailers".to_vec(),
        (_, 0) => vec![b'v'; chance.below(3000)],
        (_, 1) => (0..chance.below(30)).map(|_| 0x80 | chance.byte()).collect(),
        (_, 2) => Vec::new(),
        (_, 3..6) => format!("{:x}", chance.number()).into_bytes(),
        (_, few) => format!("20m{few}").into_bytes(),
    };
    (name, value)
}

fn authority(authorities: Authorities, chance: &mut Chance) -> Option<Vec<u8>> {
    let legal = chance.pick(&LEGAL).as_bytes().to_vec();
    if authorities == Authorities::Legal {
        return (!chance.one_in(20)).then_some(legal);
    }
    match chance.below(20) {
        0 => None,
        1..8 => Some(legal),
        8..15 => Some(chance.pick(&ILLEGAL).as_bytes().to_vec()),
        15 => Some((0..chance.below(40)).map(|_| chance.byte()).collect()),
        16 => Some((0..chance.below(9)).map(|_| *chance.pick(b"a:@[]%/")).collect()),
        17 => {
            let longest = *chance.pick(&[100, 100, 100, 100, 100, 20_000]);
            Some(vec![*chance.pick(b"a|"); chance.below(longest)])
        }
        _ => Some(Vec::new()),
    }
}
