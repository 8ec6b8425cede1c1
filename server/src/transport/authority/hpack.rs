//! The syntax of a header block (RFC 7541 §6): what stands where, with nothing looked up.
//!
//! It takes and refuses what h2's decoder takes and refuses, so that both follow the same stream.

use super::huffman;

/// The bytes are no HPACK, or point to what is not in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Representation<'a> {
    Indexed(usize),
    Literal(Literal<'a>),
    TableSize(usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Literal<'a> {
    pub(super) indexing: Indexing,
    pub(super) name: Name<'a>,
    /// where the value's length prefix starts in the block
    pub(super) value_at: usize,
    pub(super) value: Text<'a>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Indexing {
    Incremental,
    Without,
    Never,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Name<'a> {
    Index(usize),
    Text(Text<'a>),
}

/// A string as it stands in the block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Text<'a> {
    Plain(&'a [u8]),
    Huffman(&'a [u8]),
}

/// A header block, read from its start.
pub(super) struct Block<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    /// The decoded bytes; `room` holds them if they have to be decoded.
    pub(super) fn plain<'b>(self, room: &'b mut Vec<u8>) -> Result<&'b [u8], Malformed>
    where
        'a: 'b,
    {
        match self {
            Text::Plain(bytes) => Ok(bytes),
            Text::Huffman(bytes) => {
                room.clear();
                huffman::decode(bytes, room)?;
                Ok(room)
            }
        }
    }

    pub(super) fn append_to(self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Text::Plain(bytes) => out.extend_from_slice(bytes),
            Text::Huffman(bytes) => huffman::decode(bytes, out)?,
        }
        Ok(())
    }
}

impl<'a> Block<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How much has been read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Representation<'a>>, Malformed> {
        let Some(&first) = self.bytes.get(self.at) else { return Ok(None) };
        let next = match first {
            0x80.. => Representation::Indexed(self.integer(0x7f)?),
            0x40..=0x7f => self.literal(Indexing::Incremental, 0x3f)?,
            0x20..=0x3f => Representation::TableSize(self.integer(0x1f)?),
            0x10..=0x1f => self.literal(Indexing::Never, 0x0f)?,
            0x00..=0x0f => self.literal(Indexing::Without, 0x0f)?,
        };
        Ok(Some(next))
    }

    fn literal(&mut self, indexing: Indexing, mask: u8) -> Result<Representation<'a>, Malformed> {
        let name = match self.integer(mask)? {
            0 => Name::Text(self.text()?),
            index => Name::Index(index),
        };
        if matches!(name, Name::Text(Text::Plain([]) | Text::Huffman([]))) {
            return Err(Malformed);
        }
        let value_at = self.at;
        let value = self.text()?;
        Ok(Representation::Literal(Literal { indexing, name, value_at, value }))
    }

    fn text(&mut self) -> Result<Text<'a>, Malformed> {
        let huffman = self.bytes.get(self.at).is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(0x7f)?;
        let bytes = self.bytes[self.at..].get(..length).ok_or(Malformed)?;
        self.at += length;
        Ok(if huffman { Text::Huffman(bytes) } else { Text::Plain(bytes) })
    }

    /// An integer whose prefix is the bits of `mask` (§5.1). Five bytes at most, as in h2.
    #[inline]
    fn integer(&mut self, mask: u8) -> Result<usize, Malformed> {
        let first = self.byte()? & mask;
        if first < mask { Ok(usize::from(first)) } else { self.long_integer(mask) }
    }

    fn long_integer(&mut self, mask: u8) -> Result<usize, Malformed> {
        let mut value = usize::from(mask);
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }
}

/// A literal that enters no table, its name written out. Only `Never` changes how it begins.
pub(super) fn write_literal(out: &mut Vec<u8>, indexing: Indexing, (name, value): (&[u8], &[u8])) {
    out.push(if indexing == Indexing::Never { 0x10 } else { 0x00 });
    write_text(out, name);
    write_text(out, value);
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    write_length(out, text.len());
    out.extend_from_slice(text);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    if length < 0x7f {
        out.push(lowest_byte(length));
        return;
    }
    out.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        out.push(lowest_byte(rest) | 0x80);
        rest >>= 7;
    }
    out.push(lowest_byte(rest));
}

fn lowest_byte(number: usize) -> u8 {
    let [lowest, ..] = number.to_le_bytes();
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Representation<'_>>, Malformed> {
        let mut block = Block::new(bytes);
        let mut all = Vec::new();
        while let Some(next) = block.next()? {
            all.push(next);
        }
        Ok(all)
    }

    #[test]
    fn integers_of_rfc_7541_c_1() {
        assert_eq!(read(&[0x2a]), Ok(vec![Representation::TableSize(10)]));
        assert_eq!(read(&[0x3f, 0x9a, 0x0a]), Ok(vec![Representation::TableSize(1337)]));
    }

    #[test]
    fn an_integer_of_more_than_five_bytes_is_refused() {
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0x7f]),
            Ok(vec![Representation::Indexed(0x7f + (1 << 28) - 1)])
        );
        assert_eq!(read(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(Malformed));
    }

    #[test]
    fn literals_of_rfc_7541_c_2() {
        let with_indexing = b"\x40\x0acustom-key\x0dcustom-header";
        let literal = |indexing, name, value_at, value| {
            Ok(vec![Representation::Literal(Literal { indexing, name, value_at, value: Text::Plain(value) })])
        };
        let name = Name::Text(Text::Plain(b"custom-key"));
        assert_eq!(read(with_indexing), literal(Indexing::Incremental, name, 12, b"custom-header"));
        assert_eq!(
            read(b"\x04\x0c/sample/path"),
            literal(Indexing::Without, Name::Index(4), 1, b"/sample/path")
        );
        let password = Name::Text(Text::Plain(b"password"));
        assert_eq!(read(b"\x10\x08password\x06secret"), literal(Indexing::Never, password, 10, b"secret"));
        assert_eq!(read(&[0x82]), Ok(vec![Representation::Indexed(2)]));
    }

    #[test]
    fn what_is_cut_short_or_has_no_name_is_refused() {
        for bytes in [&b"\x40"[..], b"\x40\x01", b"\x40\x01a", b"\x40\x01a\x02b", b"\xff", b"\x00\x00\x01b"] {
            assert_eq!(read(bytes), Err(Malformed), "{bytes:x?}");
        }
    }

    #[test]
    fn written_lengths_are_read_back() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 16_383, 16_384, 70_000] {
            let text = vec![b'a'; length];
            let mut out = Vec::new();
            write_literal(&mut out, Indexing::Without, (b"n", &text));
            let Ok([Representation::Literal(literal)]) = read(&out).as_deref().map(|all| [all[0]]) else {
                panic!()
            };
            assert_eq!(literal.value, Text::Plain(&text[..]));
        }
    }
}
