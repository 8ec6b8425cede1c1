//! The table of the peer's encoder (RFC 7541 §2.3 and §4): the static entries, and the dynamic ones with
//! their names and values, since re-encoding may need any of them.

use std::collections::VecDeque;
use std::ops::Range;

use super::hpack::Malformed;

/// What a connection starts with, whatever the server advertises (§6.5.2 of RFC 9113).
const FIRST_SIZE: usize = 4096;

/// Counted for each entry beside its bytes (§4.1).
const OVERHEAD: usize = 32;

/// The index of `:authority` with an empty value.
pub(super) const EMPTY_AUTHORITY: usize = 1;

type Field<'a> = (&'a [u8], &'a [u8]);

pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// The bytes of the entries, oldest first; before them, of some that are gone.
    bytes: Vec<u8>,
    /// How many bytes were cut off the front of `bytes`; entries count from before that.
    cut: usize,
    size: usize,
    max_size: usize,
    limit: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    name: usize,
    value: usize,
}

/// The name of a new entry: by index, or new.
#[derive(Clone, Copy)]
pub(super) enum NewName<'a> {
    Index(usize),
    Text(&'a [u8]),
}

impl Entry {
    fn size(self) -> usize {
        OVERHEAD + self.name + self.value
    }
}

impl Table {
    /// `limit`: the largest table the server advertises.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            cut: 0,
            size: 0,
            max_size: FIRST_SIZE,
            limit: limit.max(FIRST_SIZE),
        }
    }

    #[inline]
    pub(super) fn has(&self, index: usize) -> bool {
        index.wrapping_sub(1) < STATIC.len() + self.entries.len()
    }

    pub(super) fn field(&self, index: usize) -> Result<Field<'_>, Malformed> {
        let nth = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(nth) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(nth - STATIC.len()).ok_or(Malformed)?;
        let start = entry.start - self.cut;
        let (name, value) = self.bytes[start..start + entry.name + entry.value].split_at(entry.name);
        Ok((name, value))
    }

    #[inline]
    pub(super) fn name(&self, index: usize) -> Result<&[u8], Malformed> {
        self.field(index).map(|(name, _)| name)
    }

    pub(super) fn insert(&mut self, name: NewName<'_>, value: &[u8]) -> Result<(), Malformed> {
        let name_length = match name {
            NewName::Index(index) => self.name(index)?.len(),
            NewName::Text(text) => text.len(),
        };
        let size = OVERHEAD + name_length + value.len();
        if size > self.max_size {
            self.evict_to(0);
            return Ok(());
        }
        self.compact(name_length + value.len());
        let entry = Entry { start: self.cut + self.bytes.len(), name: name_length, value: value.len() };
        self.append_name(name);
        self.bytes.extend_from_slice(value);
        self.evict_to(self.max_size - size);
        self.entries.push_front(entry);
        self.size += size;
        Ok(())
    }

    pub(super) fn resize(&mut self, max_size: usize) -> Result<(), Malformed> {
        if max_size > self.limit {
            return Err(Malformed);
        }
        self.max_size = max_size;
        self.evict_to(max_size);
        Ok(())
    }

    /// The name of an old entry is copied before that entry can be evicted.
    fn append_name(&mut self, name: NewName<'_>) {
        match name {
            NewName::Text(text) => self.bytes.extend_from_slice(text),
            NewName::Index(index) if index <= STATIC.len() => {
                self.bytes.extend_from_slice(STATIC[index - 1].0.as_bytes());
            }
            NewName::Index(index) => {
                let range = self.name_range(index);
                self.bytes.extend_from_within(range);
            }
        }
    }

    fn name_range(&self, index: usize) -> Range<usize> {
        let entry = self.entries[index - 1 - STATIC.len()];
        let start = entry.start - self.cut;
        start..start + entry.name
    }

    /// Drops the bytes of evicted entries once `more` would make `bytes` twice the table: so its length
    /// stays below that, and each byte is moved about once.
    fn compact(&mut self, more: usize) {
        if self.bytes.len() + more <= 2 * self.max_size {
            return;
        }
        let live = self.entries.back().map_or(self.bytes.len(), |oldest| oldest.start - self.cut);
        self.bytes.drain(..live);
        self.cut += live;
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_DYNAMIC: usize = 62;

    fn with(fields: &[(&str, &str)], max_size: usize) -> Table {
        let mut table = Table::new(4096);
        table.resize(max_size).unwrap();
        for (name, value) in fields {
            table.insert(NewName::Text(name.as_bytes()), value.as_bytes()).unwrap();
        }
        table
    }

    fn dynamic(table: &Table) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (FIRST_DYNAMIC..)
            .map_while(|index| table.field(index).ok())
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn responses_of_rfc_7541_c_5() {
        let first = [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ];
        let mut table = with(&first, 256);
        assert_eq!(table.size, 222);

        table.insert(NewName::Index(8), b"307").unwrap();
        assert_eq!(table.size, 222);
        let [.., private, date, location] = first;
        assert_eq!(dynamic(&table), pairs(&[(":status", "307"), location, date, private]));
    }

    #[test]
    fn a_name_outlives_the_entry_it_came_from() {
        let mut table = with(&[("a-name", "1")], 40);
        table.insert(NewName::Index(FIRST_DYNAMIC), b"2").unwrap();
        assert_eq!(dynamic(&table), pairs(&[("a-name", "2")]));
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = with(&[("a", "1"), ("b", "2")], 80);
        table.insert(NewName::Text(b"c"), &[b'x'; 48]).unwrap();
        assert_eq!(dynamic(&table), pairs(&[]));
        assert_eq!(table.size, 0);
    }

    #[test]
    fn a_smaller_table_drops_the_oldest() {
        let mut table = with(&[("a", "1"), ("b", "2"), ("c", "3")], 4096);
        table.resize(68).unwrap();
        assert_eq!(dynamic(&table), pairs(&[("c", "3"), ("b", "2")]));
        assert_eq!(table.resize(4097), Err(Malformed));
    }

    #[test]
    fn its_bytes_stay_within_twice_its_size() {
        let mut table = with(&[], 1000);
        for round in 0..5000usize {
            let name = NewName::Index(if round > 9 { FIRST_DYNAMIC + round % 2 } else { 1 + round });
            table.insert(name, &vec![b'v'; round % 300]).unwrap();
            assert!(table.bytes.len() <= 2000);
        }
    }

    #[test]
    fn there_is_no_index_nought_and_none_past_the_end() {
        let table = with(&[("a", "1")], 4096);
        assert!(!table.has(0) && table.has(1) && table.has(62) && !table.has(63));
        assert_eq!(table.field(0), Err(Malformed));
        assert_eq!(table.field(63), Err(Malformed));
        assert_eq!(table.field(usize::MAX), Err(Malformed));
    }
}
