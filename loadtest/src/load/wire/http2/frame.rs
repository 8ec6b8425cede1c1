//! Frames of HTTP/2 (RFC 9113 §4, §6) and the header lists of our requests (RFC 7541).

/// Frame types.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// Settings.
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;

/// Largest window (RFC 9113 §6.9.1).
pub(super) const LARGEST_WINDOW: u32 = (1 << 31) - 1;
pub(super) const FIRST_WINDOW: u32 = 65_535;

/// Length of a frame's head.
pub(super) const HEAD: usize = 9;

/// A frame's head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// The head at the start of `bytes`, if all of it is here.
    pub(super) fn read(bytes: &[u8]) -> Option<Head> {
        let (head, _) = bytes.split_first_chunk::<HEAD>()?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & LARGEST_WINDOW;
        Some(Head { length: usize::try_from(length).ok()?, kind, flags, stream })
    }
}

/// Appends a frame's head; what follows has `length` bytes, fewer than 2^24.
pub(super) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&by.to_be_bytes());
}

/// What a client says first: no table for the headers of answers, so that any of them can be read alone; windows
/// that are never the bottleneck.
pub(super) fn preface() -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings: [(u16, u32); 3] = [(1, 0), (2, 0), (INITIAL_WINDOW_SIZE, LARGEST_WINDOW)];
    head(&mut out, 6 * settings.len(), SETTINGS, 0, 0);
    for (setting, value) in settings {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    window_update(&mut out, 0, LARGEST_WINDOW - FIRST_WINDOW);
    out
}

/// The header lists of a request: what the first request of a connection says in full and puts into the server's
/// table, later ones name by number, as clients do.
pub(super) struct Requests {
    pub(super) first: Vec<u8>,
    pub(super) later: Vec<u8>,
}

/// `POST path`, for gRPC.
pub(super) fn requests(path: &str, authority: &str, timeout: &str) -> Requests {
    // :method POST and :scheme http are in the static table
    let mut first = vec![0x83, 0x86];
    // names by their number in the static table, or in full; all go into the dynamic one
    for (name, value) in [(4, path), (1, authority), (31, "application/grpc")] {
        first.push(0x40 | name);
        text(&mut first, value);
    }
    for (name, value) in [("te", "trailers"), ("grpc-timeout", timeout)] {
        first.push(0x40);
        text(&mut first, name);
        text(&mut first, value);
    }
    // the latest entry has number 62
    let later = vec![0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];
    Requests { first, later }
}

/// A text without Huffman coding (RFC 7541 §5.2).
fn text(out: &mut Vec<u8>, text: &str) {
    let length = text.len();
    if let Ok(short @ 0..127) = u8::try_from(length) {
        out.push(short);
    } else {
        out.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).unwrap_or(0));
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decoder: &mut fluke_hpack::Decoder<'_>, block: &[u8]) -> Vec<(String, String)> {
        let pairs = decoder.decode(block).unwrap();
        pairs
            .into_iter()
            .map(|(n, v)| (String::from_utf8(n).unwrap(), String::from_utf8(v).unwrap()))
            .collect()
    }

    #[test]
    fn later_requests_say_what_the_first_said() {
        let long = format!("/{}", "p".repeat(300));
        let requests = requests(&long, "localhost:8081", "1000m");
        let mut decoder = fluke_hpack::Decoder::new();
        let first = decoded(&mut decoder, &requests.first);
        assert_eq!(first[0], (":method".into(), "POST".into()));
        assert_eq!(first[2], (":path".into(), long));
        assert_eq!(first[6], ("grpc-timeout".into(), "1000m".into()));
        assert_eq!(decoded(&mut decoder, &requests.later), first);
        assert_eq!(decoded(&mut decoder, &requests.later), first);
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        let mut out = Vec::new();
        head(&mut out, 70_000, HEADERS, END_HEADERS, 5);
        let read = Head { length: 70_000, kind: HEADERS, flags: END_HEADERS, stream: 5 };
        assert_eq!(Head::read(&out), Some(read));
        assert_eq!(Head::read(&out[..8]), None);
    }
}
