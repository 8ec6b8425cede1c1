//! Checks read where they lie: no text is copied, nothing is allocated for the usual one.
//!
//! The encoding is protobuf's (<https://protobuf.dev/programming-guides/encoding>). Whatever is unusual — a field
//! twice, a group, a text that is not UTF-8 — is left to the generated code, which knows all rules: then the
//! answer is `None`, and not an error.

use prost::encoding::{WireType, decode_key, decode_varint};
use smallvec::SmallVec;
use tollgate_core::limit::{Ask, Cost};
use tollgate_core::rules::{Descriptor, Query};
use tollgate_core::time::Span;

/// The largest cost.
const MAX_COST: u64 = i64::MAX as u64;

/// One check of a message, unread.
pub(super) struct Item<'m> {
    pub(super) id: u64,
    pub(super) check: Option<&'m [u8]>,
}

/// The fields of a check without an id; its texts are unread.
#[derive(Clone, Default)]
pub(super) struct Outline<'m> {
    pub(super) domain: &'m [u8],
    pub(super) descriptors: SmallVec<[&'m [u8]; 2]>,
    cost: Option<u64>,
    refund: bool,
    wait: Option<Span>,
    within: Option<Span>,
    pub(super) explain: bool,
}

type Items<'m> = SmallVec<[Item<'m>; 64]>;

/// The checks of a `CheckStreamRequest`; `None` if it cannot be decoded.
pub(super) fn items(message: &[u8]) -> Option<Items<'_>> {
    let mut items = Items::new();
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => items.push(item(bytes)?),
            (1, _) => return None,
            _ => {}
        }
    }
    Some(items)
}

fn item(bytes: &[u8]) -> Option<Item<'_>> {
    let mut item = Item { id: 0, check: None };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Number(id)) => item.id = id,
            // two would have to be merged: nobody sends that, and the first alone would be another question
            (2, Value::Bytes(_)) if item.check.is_some() => return None,
            (2, Value::Bytes(check)) => item.check = Some(check),
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    Some(item)
}

/// The fields of a `CheckRequest`, if it is a plain one so far.
pub(super) fn outline(bytes: &[u8]) -> Option<Outline<'_>> {
    let mut outline = Outline::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(domain)) => outline.domain = domain,
            (2, Value::Bytes(bytes)) => outline.descriptors.push(bytes),
            (3, Value::Number(number)) => outline.cost = Some(number),
            (4, Value::Number(number)) => outline.refund = number != 0,
            (6, Value::Bytes(_)) if outline.wait.is_some() => return None,
            (6, Value::Bytes(bytes)) => outline.wait = Some(duration(bytes)?),
            (7, Value::Number(_)) => {}
            (8, Value::Number(number)) => outline.explain = number != 0,
            (9, Value::Bytes(_)) if outline.within.is_some() => return None,
            (9, Value::Bytes(bytes)) => outline.within = Some(duration(bytes)?),
            (1..=9, _) => return None,
            _ => {}
        }
    }
    Some(outline)
}

impl<'m> Outline<'m> {
    /// The store is not waited for any longer.
    pub(super) fn answer_within(&self) -> Span {
        self.within.unwrap_or(Span::MAX)
    }

    fn patience(&self) -> Span {
        self.wait.unwrap_or(self.answer_within())
    }

    /// What a descriptor with this cost of its own asks; `None` if that is out of range.
    pub(super) fn ask(&self, own: Option<u64>) -> Option<Ask> {
        let units = own.or(self.cost).unwrap_or(1);
        let cost = if self.refund { Cost::Refund(units) } else { Cost::Take(units) };
        let largest = units.max(self.cost.unwrap_or(0));
        (largest <= MAX_COST).then(|| Ask { cost, patience: self.patience() })
    }

    /// The whole check, if it is a plain one.
    pub(super) fn query(&self) -> Option<Query<'m>> {
        let usual = !self.domain.is_empty() && (1..=16).contains(&self.descriptors.len());
        if !usual || self.cost.is_some_and(|cost| cost > MAX_COST) {
            return None;
        }
        let domain = text(self.domain)?;
        let mut query = Query { domain, waits_itself: true, patience: self.patience(), ..Query::default() };
        for bytes in &self.descriptors {
            let descriptor = descriptor(bytes)?;
            let hits = descriptor.hits.or(self.cost).unwrap_or(1);
            if hits > MAX_COST {
                return None;
            }
            query.descriptors.push(Descriptor { hits: Some(hits), refund: self.refund, ..descriptor });
        }
        Some(query)
    }
}

/// The cost that the bytes of a descriptor name, if it can be read.
pub(super) fn own_cost(bytes: &[u8]) -> Option<Option<u64>> {
    descriptor(bytes).map(|descriptor| descriptor.hits)
}

/// The number of a `CheckRequest`'s criticality; 0 if it has none or cannot be read.
pub(super) fn criticality(check: &[u8]) -> i32 {
    let number = |field| match field {
        Some((7, Value::Number(number))) => i32::try_from(number).ok(),
        _ => None,
    };
    Fields(check).filter_map(number).last().unwrap_or_default()
}

/// A `google.protobuf.Duration` that is not negative.
fn duration(bytes: &[u8]) -> Option<Span> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Number(number)) => seconds = number,
            (2, Value::Number(number)) => nanos = number,
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    let legal = seconds <= i64::MAX as u64 && nanos < 1_000_000_000;
    legal.then(|| Span::from_wide(u128::from(seconds) * 1_000_000 + u128::from(nanos / 1_000)))
}

fn descriptor(bytes: &[u8]) -> Option<Descriptor<'_>> {
    let mut descriptor = Descriptor::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => descriptor.entries.push(entry(bytes)?),
            (2, Value::Number(cost)) => descriptor.hits = Some(cost),
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    (!descriptor.entries.is_empty()).then_some(descriptor)
}

fn entry(bytes: &[u8]) -> Option<(&str, &str)> {
    let mut entry = ("", "");
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(key)) => entry.0 = text(key)?,
            (2, Value::Bytes(value)) => entry.1 = text(value)?,
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    Some(entry)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The value of a field.
enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    /// A kind that no field of ours has.
    Other,
}

/// The fields of a message, one after the other; `None` where it is broken.
struct Fields<'m>(&'m [u8]);

impl<'m> Iterator for Fields<'m> {
    type Item = Option<(u32, Value<'m>)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // whoever goes on after an error must come to an end
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'m> Fields<'m> {
    #[inline]
    fn field(&mut self) -> Option<(u32, Value<'m>)> {
        let (tag, kind) = decode_key(&mut self.0).ok()?;
        let value = match kind {
            WireType::Varint => Value::Number(decode_varint(&mut self.0).ok()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            WireType::SixtyFourBit => self.skip(8)?,
            WireType::ThirtyTwoBit => self.skip(4)?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((tag, value))
    }

    fn skip(&mut self, length: usize) -> Option<Value<'m>> {
        self.0 = self.0.get(length..)?;
        Some(Value::Other)
    }
}
