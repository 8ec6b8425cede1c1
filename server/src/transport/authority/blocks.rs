//! Header blocks: looked through, and rewritten where an `:authority` asks for it.
//!
//! There are two ways of rewriting.
//!
//! *Mending* changes the value of a literal and nothing else. As the length stays, the table of the peer
//! and that of h2 have entries of the same sizes, evict at the same moments, and agree on every index.
//!
//! *Re-encoding* answers the one value that cannot keep its length: an empty one that enters the table.
//! From that field on, and for the rest of the connection, every field is written as a literal that enters
//! no table; h2's table no longer matters. An empty value that enters no table needs no more than a
//! literal in its place, and that is what real encoders send: index 1 of the static table.
//!
//! This holds for every `:authority`, also where HTTP has none (twice, or in trailers): h2 refuses such a
//! block anyway, but keeps its entries for the blocks to come.

use std::ops::Range;

use super::hpack::{Block, Indexing, Literal, Malformed, Name, Representation, write_literal, write_text};
use super::mend;
use super::table::{EMPTY_AUTHORITY, NewName, Table};

const AUTHORITY: &[u8] = b":authority";

/// The header blocks of one connection, in order.
pub(super) struct Blocks {
    table: Table,
    way: Way,
    /// What an encoded block may grow to when it is re-encoded.
    longest: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    Mending,
    Reencoding,
}

/// A block on its way from the peer to `out`, which stays empty as long as nothing had to change.
struct Rewriting<'a> {
    source: &'a [u8],
    /// How much of `source` is settled: copied to `out`, or replaced there.
    settled: usize,
    /// Where the field at hand stands in `source`.
    field: Range<usize>,
    out: &'a mut Vec<u8>,
}

impl Rewriting<'_> {
    /// Keeps the field up to `at`, and puts something else in place of the rest.
    fn replace_from(&mut self, at: usize) -> &mut Vec<u8> {
        self.out.extend_from_slice(&self.source[self.settled..at]);
        self.settled = self.field.end;
        self.out
    }

    fn replace_field(&mut self, indexing: Indexing, name: &[u8], value: &[u8]) {
        let value = if value.is_empty() && name == AUTHORITY { mend::PLACEHOLDER } else { value };
        write_literal(self.replace_from(self.field.start), indexing, (name, value));
    }

    /// True if anything was replaced; then `out` is complete.
    fn finish(self) -> bool {
        if self.settled > 0 {
            self.out.extend_from_slice(&self.source[self.settled..]);
        }
        self.settled > 0
    }
}

impl Blocks {
    pub(super) fn new(table_size: usize, longest: usize) -> Self {
        Self {
            table: Table::new(table_size),
            way: Way::Mending,
            longest,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// True: `out` holds the block as h2 should see it. False: the block may go as it is.
    pub(super) fn rewrite(&mut self, source: &[u8], out: &mut Vec<u8>) -> Result<bool, Malformed> {
        out.clear();
        let mut rewriting = Rewriting { source, settled: 0, field: 0..0, out };
        let mut block = Block::new(source);
        let mut sizes_may_follow = true;
        while let Some(next) = block.next()? {
            rewriting.field = rewriting.field.end..block.at();
            match next {
                Representation::Indexed(index) => self.indexed(index, &mut rewriting)?,
                Representation::Literal(literal) => self.literal(&literal, &mut rewriting)?,
                Representation::TableSize(size) if sizes_may_follow => {
                    self.resize(size, &mut rewriting)?;
                    continue;
                }
                Representation::TableSize(_) => return Err(Malformed),
            }
            sizes_may_follow = false;
        }
        Ok(rewriting.finish())
    }

    /// h2's table stays as it is once nothing refers to it.
    fn resize(&mut self, size: usize, rewriting: &mut Rewriting<'_>) -> Result<(), Malformed> {
        if self.way == Way::Reencoding {
            rewriting.replace_from(rewriting.field.start);
        }
        self.table.resize(size)
    }

    #[inline]
    fn indexed(&mut self, index: usize, rewriting: &mut Rewriting<'_>) -> Result<(), Malformed> {
        if self.way == Way::Mending && index != EMPTY_AUTHORITY {
            return if self.table.has(index) { Ok(()) } else { Err(Malformed) };
        }
        let (name, value) = self.table.field(index)?;
        rewriting.replace_field(Indexing::Without, name, value);
        self.check_length(rewriting)
    }

    fn literal(&mut self, literal: &Literal<'_>, rewriting: &mut Rewriting<'_>) -> Result<(), Malformed> {
        let (name, is_authority) = match literal.name {
            Name::Index(index) => (NewName::Index(index), self.table.name(index)? == AUTHORITY),
            Name::Text(text) => {
                let name = text.plain(&mut self.name)?;
                (NewName::Text(name), name == AUTHORITY)
            }
        };
        if is_authority || self.way == Way::Reencoding {
            return self.replace(literal, rewriting);
        }
        if literal.indexing == Indexing::Incremental {
            let value = literal.value.plain(&mut self.value)?;
            self.table.insert(name, value)?;
        }
        Ok(())
    }

    /// A literal whose value may have to change, or that has to become another.
    fn replace(&mut self, literal: &Literal<'_>, rewriting: &mut Rewriting<'_>) -> Result<(), Malformed> {
        self.decode(literal)?;
        let enters_table = literal.indexing == Indexing::Incremental;
        let is_legal = self.name != AUTHORITY || mend::is_legal(&self.value);
        if !is_legal {
            mend::mend(&mut self.value);
        }
        if self.value.is_empty() && !is_legal && enters_table {
            self.way = Way::Reencoding;
        }
        if self.way == Way::Reencoding {
            rewriting.replace_field(literal.indexing, &self.name, &self.value);
        } else if !is_legal {
            let value = if self.value.is_empty() { mend::PLACEHOLDER } else { &self.value };
            write_text(rewriting.replace_from(literal.value_at), value);
        }
        if enters_table {
            self.table.insert(NewName::Text(&self.name), &self.value)?;
        }
        self.check_length(rewriting)
    }

    /// Brings the name and the value of a literal into `self.name` and `self.value`.
    fn decode(&mut self, literal: &Literal<'_>) -> Result<(), Malformed> {
        self.name.clear();
        match literal.name {
            Name::Index(index) => self.name.extend_from_slice(self.table.name(index)?),
            Name::Text(text) => text.append_to(&mut self.name)?,
        }
        self.value.clear();
        literal.value.append_to(&mut self.value)
    }

    /// One byte of a block may stand for a whole table: so what it becomes has a bound of its own.
    fn check_length(&self, rewriting: &Rewriting<'_>) -> Result<(), Malformed> {
        if rewriting.out.len() <= self.longest { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Blocks {
        Blocks::new(4096, 65_536)
    }

    /// What a fresh h2 would see of these blocks: `None` if a block goes as it is.
    fn rewritten(blocks: &mut Blocks, source: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        blocks.rewrite(source, &mut out).unwrap().then_some(out)
    }

    #[test]
    fn requests_of_rfc_7541_c_3_go_as_they_are() {
        let mut blocks = blocks();
        assert_eq!(rewritten(&mut blocks, b"\x82\x86\x84\x41\x0fwww.example.com"), None);
        assert_eq!(rewritten(&mut blocks, b"\x82\x86\x84\xbe\x58\x08no-cache"), None);
        assert_eq!(rewritten(&mut blocks, b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value"), None);
        assert_eq!(blocks.table.field(63), Ok((&b"cache-control"[..], &b"no-cache"[..])));
    }

    #[test]
    fn an_illegal_value_is_mended_however_it_is_named() {
        for name in [&b"\x41"[..], b"\x01", b"\x11", b"\x40\x0a:authority", b"\x00\x0a:authority"] {
            let source = [b"\x82", name, b"\x04a|b/\x86"].concat();
            let expected = [b"\x82", name, b"\x04a-b-\x86"].concat();
            assert_eq!(rewritten(&mut blocks(), &source), Some(expected));
        }
    }

    #[test]
    fn a_name_from_the_dynamic_table_is_known_too() {
        let mut blocks = blocks();
        assert_eq!(rewritten(&mut blocks, b"\x41\x01a"), None);
        assert_eq!(rewritten(&mut blocks, b"\x7e\x01|"), Some(b"\x7e\x01-".to_vec()));
        assert_eq!(blocks.table.field(62), Ok((AUTHORITY, &b"-"[..])));
    }

    #[test]
    fn an_empty_value_outside_the_table_becomes_a_literal() {
        for source in [&b"\x82\x81\x86"[..], b"\x82\x01\x00\x86", b"\x82\x11\x80\x86"] {
            let mut blocks = blocks();
            let out = rewritten(&mut blocks, source).unwrap();
            assert!(out.ends_with(b"\x01-\x86"), "{out:x?}");
            assert_eq!(blocks.way(), Way::Mending);
        }
    }

    #[test]
    fn an_empty_value_in_the_table_ends_all_indexing() {
        let mut blocks = blocks();
        assert_eq!(rewritten(&mut blocks, b"\x40\x01a\x01b\xbe"), None);
        let out = rewritten(&mut blocks, b"\xbe\x41\x00\xbf\x10\x01s\x00");
        assert_eq!(out.as_deref(), Some(&b"\xbe\x00\x0a:authority\x01-\x00\x01a\x01b\x10\x01s\x00"[..]));
        assert_eq!(blocks.way(), Way::Reencoding);
        let out = rewritten(&mut blocks, b"\x20\x3f\xe1\x1f\x82\x41\x02a|\xbe");
        let authority = b"\x00\x0a:authority\x02a-";
        assert_eq!(out, Some([&b"\x00\x07:method\x03GET"[..], authority, authority].concat()));
    }

    #[test]
    fn a_block_that_would_grow_past_its_bound_is_refused() {
        let mut blocks = Blocks::new(4096, 4096);
        let mut out = Vec::new();
        let long = [&b"\x41\x00\x40\x01a\x7f\xc1\x06"[..], &[b'v'; 960]].concat();
        assert_eq!(blocks.rewrite(&long, &mut out), Ok(true));
        assert_eq!(blocks.rewrite(&[0xbe; 5], &mut out), Err(Malformed));
    }

    #[test]
    fn a_size_update_after_a_field_is_refused() {
        assert_eq!(blocks().rewrite(b"\x82\x20", &mut Vec::new()), Err(Malformed));
    }
}
