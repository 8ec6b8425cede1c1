//! An HPACK encoder and a frame writer that use every liberty the standards give, by chance.

use std::collections::VecDeque;

use crate::chance::Chance;

/// The lengths of the Huffman codes (RFC 7541, appendix B) by symbol; the codes are canonical.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8,
    7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
    7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23,
    24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24,
    20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26,
];

/// The static entries in use here: index, name, value.
const STATIC: [(usize, &str, &str); 11] = [
    (1, ":authority", ""),
    (2, ":method", "GET"),
    (3, ":method", "POST"),
    (4, ":path", "/"),
    (6, ":scheme", "http"),
    (7, ":scheme", "https"),
    (16, "accept-encoding", "gzip, deflate"),
    (19, "accept", ""),
    (31, "content-type", ""),
    (32, "cookie", ""),
    (58, "user-agent", ""),
];

pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// A peer's encoder with its table.
pub(crate) struct Encoder {
    codes: Vec<(u32, u8)>,
    entries: VecDeque<Field>,
    max_size: usize,
    /// Whether an empty `:authority` may enter the table.
    pub(crate) indexes_empty: bool,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { codes: huffman_codes(), entries: VecDeque::new(), max_size: 4096, indexes_empty: false }
    }

    pub(crate) fn block(&mut self, fields: &[Field], chance: &mut Chance) -> Vec<u8> {
        let mut out = Vec::new();
        while chance.one_in(20) {
            self.max_size = *chance.pick(&[0, 40, 100, 1000, 4096]);
            self.evict();
            integer(&mut out, 0x20, 0x1f, self.max_size);
        }
        for field in fields {
            self.field(field, &mut out, chance);
        }
        out
    }

    fn field(&mut self, field: &Field, out: &mut Vec<u8>, chance: &mut Chance) {
        let whole = self.find(|entry| entry == (&field.0[..], &field.1[..]));
        if let Some(index) = whole.filter(|_| !chance.one_in(8)) {
            return integer(out, 0x80, 0x7f, index);
        }
        let is_empty = field.0 == b":authority" && field.1.is_empty();
        let enters = (self.indexes_empty || !is_empty) && !chance.one_in(3);
        let (first, mask) = match (enters, chance.one_in(2)) {
            (true, _) => (0x40, 0x3f),
            (false, true) => (0x00, 0x0f),
            (false, false) => (0x10, 0x0f),
        };
        match self.find(|entry| entry.0 == field.0).filter(|_| !chance.one_in(4)) {
            Some(index) => integer(out, first, mask, index),
            None => {
                out.push(first);
                self.text(&field.0, out, chance);
            }
        }
        self.text(&field.1, out, chance);
        if enters {
            self.entries.push_front(field.clone());
            self.evict();
        }
    }

    fn find(&self, fits: impl Fn((&[u8], &[u8])) -> bool) -> Option<usize> {
        let fixed = STATIC.iter().map(|(index, name, value)| (*index, (name.as_bytes(), value.as_bytes())));
        let dynamic = (62..).zip(self.entries.iter().map(|(name, value)| (&name[..], &value[..])));
        dynamic.chain(fixed).find(|(_, entry)| fits(*entry)).map(|(index, _)| index)
    }

    fn evict(&mut self) {
        while self.entries.iter().map(|(name, value)| 32 + name.len() + value.len()).sum::<usize>()
            > self.max_size
        {
            self.entries.pop_back();
        }
    }

    fn text(&self, text: &[u8], out: &mut Vec<u8>, chance: &mut Chance) {
        if chance.one_in(2) {
            integer(out, 0, 0x7f, text.len());
            return out.extend_from_slice(text);
        }
        let mut coded = Vec::new();
        let (mut window, mut held) = (0u64, 0);
        for byte in text {
            let (code, bits) = self.codes[usize::from(*byte)];
            window = window << bits | u64::from(code);
            held += bits;
            while held >= 8 {
                held -= 8;
                coded.push((window >> held & 0xff) as u8);
            }
        }
        if held > 0 {
            coded.push(((window << (8 - held) | 0xff >> held) & 0xff) as u8);
        }
        integer(out, 0x80, 0x7f, coded.len());
        out.extend_from_slice(&coded);
    }
}

fn huffman_codes() -> Vec<(u32, u8)> {
    let mut order: Vec<usize> = (0..256).collect();
    order.sort_by_key(|symbol| (CODE_LENGTHS[*symbol], *symbol));
    let mut codes = vec![(0, 0); 256];
    let (mut next, mut length) = (0u32, 0);
    for symbol in order {
        next <<= CODE_LENGTHS[symbol] - length;
        length = CODE_LENGTHS[symbol];
        codes[symbol] = (next, length);
        next += 1;
    }
    codes
}

fn integer(out: &mut Vec<u8>, first: u8, mask: u8, value: usize) {
    if value < usize::from(mask) {
        return out.push(first | value as u8);
    }
    out.push(first | mask);
    let mut rest = value - usize::from(mask);
    while rest >= 128 {
        out.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    out.push(rest as u8);
}

pub(crate) fn frame(out: &mut Vec<u8>, (kind, flags, stream): (u8, u8, u32), payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// HEADERS with or without padding and priority, and CONTINUATIONs.
pub(crate) fn headers(out: &mut Vec<u8>, (flags, stream): (u8, u32), block: &[u8], chance: &mut Chance) {
    let mut cuts: Vec<usize> =
        (0..chance.below(8).saturating_sub(4)).map(|_| chance.below(block.len() + 1)).collect();
    cuts.extend((16_000..block.len()).step_by(16_000));
    cuts.push(block.len());
    cuts.sort_unstable();

    let mut flags = flags | if cuts.len() == 1 { 0x04 } else { 0 };
    let mut payload = Vec::new();
    let padding = if chance.one_in(4) { chance.below(200) } else { 0 };
    if padding > 0 || chance.one_in(10) {
        flags |= 0x08;
        payload.push(padding as u8);
    }
    if chance.one_in(4) {
        flags |= 0x20;
        payload.extend_from_slice(&[0, 0, 0, 0, chance.byte()]);
    }
    payload.extend_from_slice(&block[..cuts[0]]);
    payload.resize(payload.len() + padding, 0);
    frame(out, (1, flags, stream), &payload);
    for (nth, cut) in cuts.windows(2).enumerate() {
        let flags = if nth + 2 == cuts.len() { 0x04 } else { 0 };
        frame(out, (9, flags, stream), &block[cut[0]..cut[1]]);
    }
}
