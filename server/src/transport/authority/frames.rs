//! The frames of a client's byte stream (RFC 9113 §3.4, §4.1): finds the header blocks in it.

use std::sync::Arc;

use super::blocks::{Blocks, Way};
use super::hpack::Malformed;
use super::{Counts, Limits, clear};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Every receiver takes frames of this size.
const SAFE_LENGTH: usize = 16_384;

/// A block in more pieces than this is not followed. hyper's server takes 6.
const MOST_PIECES: usize = 64;

/// So much is put out at a time. Re-encoded, a few bytes may stand for a whole table.
pub(super) const FULL: usize = 65_536;

/// Names a field that cannot exist (index 0), so that h2 ends the connection.
const POISON: [u8; HEAD + 1] = [0, 0, 1, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x80];

/// Follows the bytes of one connection from its first.
pub(super) struct Frames {
    place: Place,
    limits: Limits,
    blocks: Blocks,
    counts: Arc<Counts>,
    /// A block put together from its pieces.
    joined: Vec<u8>,
    /// A block as h2 should see it.
    rewritten: Vec<u8>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy)]
enum Place {
    /// the preface, of which this much is seen
    Preface(usize),
    /// a frame that is not looked at, of which this much is to come; 0: the start of a frame
    Frame(usize),
    /// a stream that is not followed, or no more
    Beyond,
}

/// What became of a piece of the stream: `bytes[..same]` goes as it is, then what was put into `out`, and
/// `bytes[used..]` must be shown again: with more behind it, or once there is room in `out`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Scanned {
    pub(super) same: usize,
    pub(super) used: usize,
}

/// Of the bytes at hand:
enum Step {
    Pass(usize),
    /// this many are replaced by what was put into `out`
    Replaced(usize),
    /// more are needed to tell
    Wait,
    /// no more can be followed
    Stop,
}

#[derive(Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

/// What a HEADERS frame says beside its block.
#[derive(Clone, Copy)]
struct Opening<'a> {
    head: Head,
    priority: &'a [u8],
    fragment: &'a [u8],
}

/// The frames of a block.
enum Extent {
    Ends(usize),
    Wait,
    Stop,
}

impl Frames {
    pub(super) fn new(limits: Limits, counts: Arc<Counts>) -> Self {
        Self {
            place: Place::Preface(0),
            limits,
            counts,
            blocks: Blocks::new(limits.table_size, limits.block_size),
            joined: Vec::new(),
            rewritten: Vec::new(),
        }
    }

    /// True: from here on nothing changes.
    pub(super) fn is_beyond(&self) -> bool {
        matches!(self.place, Place::Beyond)
    }

    /// Follows no further: the stream has ended, or is none that can be followed.
    pub(super) fn stop(&mut self) {
        self.place = Place::Beyond;
    }

    /// Leaves in place what may stay there. Once a frame is replaced, the frames after it are copied to
    /// `out`, so that nothing has to move.
    pub(super) fn scan(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Scanned {
        self.scan_from(None, bytes, out)
    }

    /// Copies everything to `out`. Returns how much of `bytes` was used.
    pub(super) fn copy(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        self.scan_from(Some(0), bytes, out).used
    }

    /// `same`: where copying began, if it has.
    fn scan_from(&mut self, mut same: Option<usize>, bytes: &[u8], out: &mut Vec<u8>) -> Scanned {
        let mut at = 0;
        while at < bytes.len() && out.len() < FULL {
            let rest = &bytes[at..];
            let (length, is_replaced) = match self.step(rest, out) {
                Step::Pass(length) => (length, false),
                Step::Replaced(length) => (length, true),
                Step::Wait => break,
                Step::Stop => (0, self.give_up(out)),
            };
            if is_replaced {
                same = same.or(Some(at));
            } else if same.is_some() {
                out.extend_from_slice(&rest[..length]);
            }
            at += length;
        }
        Scanned { same: same.unwrap_or(at), used: at }
    }

    /// True if h2 was told: its table is out of date once blocks are re-encoded, and what follows could be
    /// taken for something else.
    fn give_up(&mut self, out: &mut Vec<u8>) -> bool {
        self.stop();
        Counts::add(&self.counts.stopped);
        let is_stale = self.blocks.way() == Way::Reencoding;
        if is_stale {
            out.extend_from_slice(&POISON);
        }
        is_stale
    }

    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Step {
        match self.place {
            Place::Preface(seen) => {
                let length = rest.len().min(PREFACE.len() - seen);
                if rest[..length] != PREFACE[seen..seen + length] {
                    return Step::Stop;
                }
                let seen = seen + length;
                self.place = if seen < PREFACE.len() { Place::Preface(seen) } else { Place::Frame(0) };
                Step::Pass(length)
            }
            Place::Frame(0) => self.frame(rest, out),
            Place::Frame(left) => self.pass(left, rest),
            Place::Beyond => Step::Pass(rest.len()),
        }
    }

    /// Passes what is there of the next `length` bytes.
    fn pass(&mut self, length: usize, rest: &[u8]) -> Step {
        let here = length.min(rest.len());
        self.place = Place::Frame(length - here);
        Step::Pass(here)
    }

    fn frame(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Step {
        let Some(head) = Head::read(rest) else { return Step::Wait };
        if head.length > self.limits.frame_size {
            return Step::Stop;
        }
        match head.kind {
            HEADERS => self.block(head, rest, out),
            PUSH_PROMISE | CONTINUATION => Step::Stop,
            _ => self.pass(HEAD + head.length, rest),
        }
    }

    fn block(&mut self, head: Head, rest: &[u8], out: &mut Vec<u8>) -> Step {
        let end = match self.extent(head, rest) {
            Extent::Ends(end) => end,
            Extent::Wait => return Step::Wait,
            Extent::Stop => return Step::Stop,
        };
        match self.rewrite(head, &rest[..end], out) {
            Ok(true) => Step::Replaced(end),
            Ok(false) => Step::Pass(end),
            Err(Malformed) => Step::Stop,
        }
    }

    /// How far the frames of the block reach that `first` opens.
    fn extent(&self, first: Head, rest: &[u8]) -> Extent {
        let mut last = first;
        let mut end = HEAD + first.length;
        for _ in 0..MOST_PIECES {
            if last.length > self.limits.frame_size || end > self.limits.block_size {
                return Extent::Stop;
            }
            if rest.len() < end {
                return Extent::Wait;
            }
            if last.flags & END_HEADERS != 0 {
                return Extent::Ends(end);
            }
            let Some(next) = Head::read(&rest[end..]) else { return Extent::Wait };
            if next.kind != CONTINUATION || next.stream_id() != first.stream_id() {
                return Extent::Stop;
            }
            last = next;
            end += HEAD + next.length;
        }
        Extent::Stop
    }

    /// True: `out` got other frames in place of these.
    fn rewrite(&mut self, head: Head, frames: &[u8], out: &mut Vec<u8>) -> Result<bool, Malformed> {
        let (first, continuations) = frames.split_at(HEAD + head.length);
        let opening = Opening::read(head, &first[HEAD..]).ok_or(Malformed)?;
        let way = self.blocks.way();
        let is_changed = if continuations.is_empty() {
            self.blocks.rewrite(opening.fragment, &mut self.rewritten)?
        } else {
            clear(&mut self.joined);
            self.joined.extend_from_slice(opening.fragment);
            join(continuations, &mut self.joined);
            self.blocks.rewrite(&self.joined, &mut self.rewritten)?
        };
        if is_changed {
            opening.write(&self.rewritten, out);
            clear(&mut self.rewritten);
            Counts::add(if way == Way::Mending { &self.counts.mended } else { &self.counts.reencoded });
        }
        Ok(is_changed)
    }
}

/// Appends what the CONTINUATION frames carry.
fn join(mut frames: &[u8], block: &mut Vec<u8>) {
    while let Some(head) = Head::read(frames) {
        let (frame, rest) = frames.split_at(HEAD + head.length);
        block.extend_from_slice(&frame[HEAD..]);
        frames = rest;
    }
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Some(Self { length, kind, flags, stream })
    }

    /// Without the bit that is reserved.
    fn stream_id(self) -> u32 {
        u32::from_be_bytes(self.stream) & 0x7fff_ffff
    }

    fn write(self, out: &mut Vec<u8>) {
        let [.., high, middle, low] = self.length.to_be_bytes();
        out.extend_from_slice(&[high, middle, low, self.kind, self.flags]);
        out.extend_from_slice(&self.stream);
    }
}

impl<'a> Opening<'a> {
    fn read(head: Head, payload: &'a [u8]) -> Option<Self> {
        let mut rest = payload;
        let mut padding = 0;
        if head.flags & PADDED != 0 {
            padding = usize::from(*rest.split_off_first()?);
        }
        let priority = if head.flags & PRIORITY != 0 { rest.split_off(..5)? } else { &[] };
        let fragment = &rest[..rest.len().checked_sub(padding)?];
        Some(Self { head, priority, fragment })
    }

    /// The same with another block: without padding, and in as few pieces as can be.
    fn write(&self, block: &[u8], out: &mut Vec<u8>) {
        let (mut piece, mut rest) = split(block, SAFE_LENGTH - self.priority.len());
        let flags = self.head.flags & !(PADDED | END_HEADERS) | end_flag(rest);
        Head { length: self.priority.len() + piece.len(), flags, ..self.head }.write(out);
        out.extend_from_slice(self.priority);
        out.extend_from_slice(piece);
        while !rest.is_empty() {
            (piece, rest) = split(rest, SAFE_LENGTH);
            Head { length: piece.len(), kind: CONTINUATION, flags: end_flag(rest), ..self.head }.write(out);
            out.extend_from_slice(piece);
        }
    }
}

fn split(block: &[u8], length: usize) -> (&[u8], &[u8]) {
    block.split_at(length.min(block.len()))
}

fn end_flag(rest: &[u8]) -> u8 {
    if rest.is_empty() { END_HEADERS } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MENDED: &[u8] = b"\x82\x01\x01|";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Head { length: payload.len(), kind, flags, stream: [0, 0, 0, 1] }.write(&mut out);
        [out, payload.to_vec()].concat()
    }

    fn started(limits: Limits) -> Frames {
        let mut frames = Frames::new(limits, Arc::default());
        frames.scan(PREFACE, &mut Vec::new());
        frames
    }

    /// What comes of these bytes, and whether they were followed to the end.
    fn seen(frames: &mut Frames, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        frames.copy(bytes, &mut out);
        (out, !frames.is_beyond())
    }

    #[test]
    fn a_mended_block_keeps_its_priority_and_loses_its_padding() {
        let block = [&b"\x02prior"[..], MENDED, b"\0\0"].concat();
        let mended = frame(HEADERS, PRIORITY | END_HEADERS | 1, b"prior\x82\x01\x01-");
        let bytes = frame(HEADERS, PADDED | PRIORITY | END_HEADERS | 1, &block);
        assert_eq!(seen(&mut started(Limits::default()), &bytes), (mended, true));
    }

    #[test]
    fn a_mended_block_is_joined_or_split_as_need_be() {
        let long = vec![b'|'; 20_000];
        let block = [&b"\x01\x7f\xa1\x9b\x01"[..], &long].concat();
        let (first, second) = block.split_at(9_000);
        let bytes = [frame(HEADERS, 0, first), frame(CONTINUATION, END_HEADERS, second)].concat();
        let (out, is_followed) = seen(&mut started(Limits::default()), &bytes);
        assert!(is_followed);
        assert_eq!(out[..9], *b"\0\x40\0\x01\0\0\0\0\x01");
        assert_eq!(out[9 + 16_384..][..9], *b"\0\x0e\x25\x09\x04\0\0\0\x01");
    }

    #[test]
    fn what_is_over_a_limit_passes_as_it_is() {
        let limits = Limits { block_size: 1000, frame_size: 500, ..Limits::default() };
        let too_long_a_frame = frame(0, 0, &[0; 501]);
        let too_long_a_block = [0; 3].map(|_| frame(CONTINUATION, 0, &[0; 400])).concat();
        let too_many_pieces = [0; MOST_PIECES].map(|_| frame(CONTINUATION, 0, &[])).concat();
        let interrupted = frame(0, 0, &[]);
        for (start, more) in [
            (frame(0, 0, &[]), too_long_a_frame),
            (frame(HEADERS, 0, MENDED), too_long_a_block),
            (frame(HEADERS, 0, MENDED), too_many_pieces),
            (frame(HEADERS, 0, MENDED), interrupted),
        ] {
            let bytes = [start, more, frame(HEADERS, END_HEADERS, MENDED)].concat();
            assert_eq!(seen(&mut started(limits), &bytes), (bytes, false));
        }
    }

    #[test]
    fn a_malformed_block_passes_unless_the_table_is_stale() {
        let malformed = frame(HEADERS, END_HEADERS, b"\x82\x01\x01|\xff");
        let mut frames = started(Limits::default());
        assert_eq!(seen(&mut frames, &malformed), (malformed.clone(), false));

        let mut frames = started(Limits::default());
        seen(&mut frames, &frame(HEADERS, END_HEADERS, b"\x41\0"));
        assert_eq!(seen(&mut frames, &malformed), ([&POISON[..], &malformed].concat(), false));
    }
}
