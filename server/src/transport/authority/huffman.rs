//! The Huffman code of HPACK, decoding only: what the filter writes is never Huffman coded.
//!
//! The code (RFC 7541, appendix B) is canonical: sorted by (length, symbol), the codes count up. So the
//! whole table is the number of codes of each length and the symbols in that order.

use super::hpack::Malformed;

const LONGEST: usize = 30;
const LONGEST_BITS: u32 = 30;

/// How many codes have this many bits. EOS (30 ones) is left out: in a string it is an error (§5.2).
const COUNTS: [u8; LONGEST + 1] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 3];

const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95,
    98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77,
    78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88,
    90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
    196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158,
    165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206,
    215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
    220, 249, 10, 13, 22,
];

/// One look-up settles these many bits: two digits or letters, most often.
const SHORT: usize = 12;
const SHORT_CODES: [Codes; 1 << SHORT] = short_codes();
const LENGTHS: [Length; LONGEST + 1] = lengths();

/// The one or two whole codes at the start of some bits.
#[derive(Clone, Copy)]
struct Codes {
    symbols: [u8; 2],
    /// of the first code; 0: it is longer than `SHORT`
    first_bits: u8,
    /// of both codes, or of the only one
    bits: u8,
}

/// The codes of one length: `first` and the `count - 1` numbers after it.
#[derive(Clone, Copy)]
struct Length {
    first: u32,
    count: u32,
    /// where its symbols start in `SYMBOLS`
    symbols: usize,
}

/// The bits to be decoded next, from the top of `window` down; below them, zeros or what will be read.
struct Bits<'a> {
    rest: &'a [u8],
    window: u64,
    held: u32,
}

impl Bits<'_> {
    /// Afterwards, 56 bits or more are held, or all that is left.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.rest.first_chunk() {
            self.window |= u64::from_be_bytes(*word) >> self.held;
            let bytes = (63 - self.held) / 8;
            self.rest = &self.rest[bytes as usize..];
            self.held += bytes * 8;
            return;
        }
        while self.held <= 56
            && let Some(byte) = self.rest.split_off_first()
        {
            self.window |= u64::from(*byte) << (56 - self.held);
            self.held += 8;
        }
    }

    /// The codes at the top, as far as they are held or not.
    #[inline]
    fn codes(&self) -> Result<Codes, Malformed> {
        let [first, second, ..] = self.window.to_be_bytes();
        let codes = SHORT_CODES[usize::from(u16::from_be_bytes([first, second]) >> (16 - SHORT))];
        if codes.first_bits > 0 { Ok(codes) } else { long_code(self.window) }
    }

    #[inline]
    fn skip(&mut self, bits: u8) {
        self.window <<= bits;
        self.held -= u32::from(bits);
    }

    /// Nothing is left but the fill of the last byte: fewer than eight bits, all ones (§5.2).
    fn are_padding(&self) -> bool {
        self.held < 8 && self.window.leading_ones() >= self.held
    }
}

/// Appends what `text` stands for to `out`: at most 8/5 of its length.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut bits = Bits { rest: text, window: 0, held: 0 };
    let mut end = out.len();
    // and one byte, as symbols are written in pairs
    out.resize(end + text.len() * 8 / 5 + 1, 0);
    loop {
        bits.refill();
        // while a code of any length is sure to be whole
        while bits.held >= LONGEST_BITS {
            let codes = bits.codes()?;
            out[end..end + 2].copy_from_slice(&codes.symbols);
            end += 1 + usize::from(codes.bits > codes.first_bits);
            bits.skip(codes.bits);
        }
        if bits.rest.is_empty() {
            out.truncate(end);
            return decode_last(bits, out);
        }
    }
}

fn decode_last(mut bits: Bits<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    loop {
        let Codes { symbols: [symbol, _], first_bits, .. } = bits.codes()?;
        if u32::from(first_bits) > bits.held {
            return if bits.are_padding() { Ok(()) } else { Err(Malformed) };
        }
        out.push(symbol);
        bits.skip(first_bits);
    }
}

#[cold]
fn long_code(window: u64) -> Result<Codes, Malformed> {
    let [first, second, third, fourth, ..] = window.to_be_bytes();
    let window = u32::from_be_bytes([first, second, third, fourth]);
    for (bits, length) in (0u8..).zip(&LENGTHS).skip(SHORT + 1) {
        let code = window >> (32 - bits);
        if let Some(nth) = code.checked_sub(length.first).filter(|nth| *nth < length.count) {
            let symbol = SYMBOLS[length.symbols + nth as usize];
            return Ok(Codes { symbols: [symbol, 0], first_bits: bits, bits });
        }
    }
    Err(Malformed)
}

const fn lengths() -> [Length; LONGEST + 1] {
    let mut lengths = [Length { first: 0, count: 0, symbols: 0 }; LONGEST + 1];
    let mut bits = 1;
    while bits <= LONGEST {
        let shorter = lengths[bits - 1];
        lengths[bits] = Length {
            first: (shorter.first + shorter.count) << 1,
            count: COUNTS[bits] as u32,
            symbols: shorter.symbols + shorter.count as usize,
        };
        bits += 1;
    }
    lengths
}

const fn short_codes() -> [Codes; 1 << SHORT] {
    let mut codes = [Codes { symbols: [0, 0], first_bits: 0, bits: 0 }; 1 << SHORT];
    let mut window = 0;
    while window < codes.len() {
        let (first, first_bits) = short_code(window, SHORT);
        let (second, second_bits) = short_code(window, SHORT - first_bits as usize);
        let bits = first_bits + if first_bits > 0 { second_bits } else { 0 };
        codes[window] = Codes { symbols: [first, second], first_bits, bits };
        window += 1;
    }
    codes
}

/// The symbol at the top of the lowest `held` bits, and how many bits it takes: 0 if it is not whole.
const fn short_code(window: usize, held: usize) -> (u8, u8) {
    let lengths = lengths();
    let mut bits = 1u8;
    while bits as usize <= held {
        let length = lengths[bits as usize];
        let code = (window >> (held - bits as usize)) & ((1 << bits) - 1);
        let first = length.first as usize;
        if code >= first && code < first + length.count as usize {
            return (SYMBOLS[length.symbols + code - first], bits);
        }
        bits += 1;
    }
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(text, &mut out).ok().map(|()| out)
    }

    /// The table read the other way, bit by bit: what the decoder must undo.
    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let nth = SYMBOLS.iter().position(|symbol| symbol == byte).unwrap();
            let length =
                LENGTHS.iter().rposition(|length| length.count > 0 && length.symbols <= nth).unwrap();
            let code = LENGTHS[length].first as usize + nth - LENGTHS[length].symbols;
            bits += &format!("{code:0length$b}");
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | (bit - b'0')))
            .collect()
    }

    #[test]
    fn rfc_7541_appendix_c_4_and_c_6() {
        let vectors: [(&[u8], &[u8]); 6] = [
            (b"www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
            (b"no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            (b"custom-key", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f]),
            (b"custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
            (b"private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
            (b"302", &[0x64, 0x02]),
        ];
        for (plain, coded) in vectors {
            assert_eq!(decoded(coded).as_deref(), Some(plain));
            assert_eq!(encoded(plain), coded);
        }
    }

    #[test]
    fn every_symbol_comes_back_alone_and_in_company() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encoded(&all)), Some(all.clone()));
        for byte in all {
            assert_eq!(decoded(&encoded(&[byte])), Some(vec![byte]));
            assert_eq!(decoded(&encoded(&[byte; 40])), Some(vec![byte; 40]));
        }
    }

    #[test]
    fn the_last_code_is_followed_by_eos_alone() {
        let last = LENGTHS[LONGEST];
        assert_eq!(last.first + last.count, 0x3fff_ffff);
    }

    #[test]
    fn eos_long_padding_and_zero_padding_are_refused() {
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decoded(&[0xff]), None);
        assert_eq!(decoded(&[0x07, 0xff]), None);
        assert_eq!(decoded(&[0x00]), None);
        assert_eq!(decoded(&[0x07]), Some(b"0".to_vec()));
        assert_eq!(decoded(&[]), Some(Vec::new()));
    }
}
