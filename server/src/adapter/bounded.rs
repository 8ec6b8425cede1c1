//! Messages that would take far more memory decoded than on the wire are refused before they are decoded.
//!
//! An empty descriptor has two bytes on the wire and a hundred in memory: a message of 4 MiB could have two million.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, skip_field};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Descriptors of one request. One of four mebibytes could have millions and keep a worker for seconds.
pub(super) const MAX_DESCRIPTORS: usize = 10_000;
/// Entries of all descriptors of one request.
pub(super) const MAX_ENTRIES: usize = 100_000;

/// In every request of ours and of Envoy's, the descriptors have this number …
const DESCRIPTORS: u32 = 2;
/// … and in a descriptor its entries this one.
const ENTRIES: u32 = 1;

/// The shortest message that could have too many of anything.
const LEAST: usize = 2 * MAX_DESCRIPTORS;

/// What a message has too many of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Crowd {
    /// What.
    pub(super) what: &'static str,
    /// How many, at least.
    pub(super) found: usize,
    /// The most.
    pub(super) most: usize,
}

/// Whether `message` has too many descriptors or entries. One that cannot be followed has not: it is for the decoder
/// to refuse.
pub(super) fn crowd(message: &[u8]) -> Option<Crowd> {
    if message.len() < LEAST {
        return None;
    }
    let (mut descriptors, mut entries) = (0, 0);
    each(message, DESCRIPTORS, |descriptor| {
        descriptors += 1;
        each(descriptor, ENTRIES, |_| entries += 1);
    });
    if descriptors > MAX_DESCRIPTORS {
        return Some(Crowd { what: "descriptors", found: descriptors, most: MAX_DESCRIPTORS });
    }
    (entries > MAX_ENTRIES).then_some(Crowd { what: "entries", found: entries, most: MAX_ENTRIES })
}

/// Calls `with` for each field `number` of `message` that is itself a message.
fn each(mut message: &[u8], number: u32, mut with: impl FnMut(&[u8])) {
    while !message.is_empty() {
        let Ok((field, wire_type)) = decode_key(&mut message) else { return };
        if field != number || wire_type != WireType::LengthDelimited {
            if skip_field(wire_type, field, &mut message, prost::encoding::DecodeContext::default()).is_err()
            {
                return;
            }
            continue;
        }
        let Ok(length) = decode_varint(&mut message) else { return };
        let Ok(length) = usize::try_from(length) else { return };
        let Some((inner, rest)) = message.split_at_checked(length) else { return };
        with(inner);
        message = rest;
    }
}

/// How a crowd is told.
pub(super) type Refuse = fn(Crowd) -> Status;

/// Protobuf, but for requests that are too crowded.
pub(super) struct Bounded<Answer, Asked> {
    refuse: Refuse,
    types: PhantomData<(Answer, Asked)>,
}

impl<Answer, Asked> Bounded<Answer, Asked> {
    pub(super) fn new(refuse: Refuse) -> Bounded<Answer, Asked> {
        Bounded { refuse, types: PhantomData }
    }
}

impl<Answer, Asked> Codec for Bounded<Answer, Asked>
where
    Answer: Message + Send + 'static,
    Asked: Message + Default + Send + 'static,
{
    type Encode = Answer;
    type Decode = Asked;
    type Encoder = ProstEncoder<Answer>;
    type Decoder = BoundedDecoder<Asked>;

    fn encoder(&mut self) -> ProstEncoder<Answer> {
        ProstCodec::<Answer, Asked>::default().encoder()
    }

    fn decoder(&mut self) -> BoundedDecoder<Asked> {
        BoundedDecoder { inner: ProstCodec::<Answer, Asked>::default().decoder(), refuse: self.refuse }
    }
}

/// Decodes what is not too crowded.
pub(super) struct BoundedDecoder<Asked> {
    inner: ProstDecoder<Asked>,
    refuse: Refuse,
}

impl<Asked: Message + Default> Decoder for BoundedDecoder<Asked> {
    type Item = Asked;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Asked>, Status> {
        match crowd(from.chunk()) {
            Some(crowd) => Err((self.refuse)(crowd)),
            None => self.inner.decode(from),
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;

    use super::*;

    fn message(descriptors: usize, entries: usize) -> Vec<u8> {
        let entries = vec![Entry::default(); entries];
        let descriptor = RateLimitDescriptor { entries, ..RateLimitDescriptor::default() };
        let descriptors = vec![descriptor; descriptors];
        RateLimitRequest { domain: "d".into(), descriptors, hits_addend: 7 }.encode_to_vec()
    }

    #[test]
    fn a_crowd_is_seen_without_decoding_it() {
        assert_eq!(crowd(&message(10_000, 0)), None);
        assert_eq!(crowd(&message(10_001, 0)).unwrap().found, 10_001);
        assert_eq!(crowd(&message(2_000_000, 0)).unwrap().what, "descriptors");
        assert_eq!(crowd(&message(1_000, 100)), None);
        let crowded = Crowd { what: "entries", found: 101_000, most: 100_000 };
        assert_eq!(crowd(&message(1_000, 101)), Some(crowded));
    }

    #[test]
    fn what_is_no_message_is_left_to_the_decoder() {
        assert_eq!(crowd(&[0xff; 100_000]), None);
        let mut cut = message(9_000, 2);
        cut.truncate(30_001);
        assert_eq!(crowd(&cut), None);
    }
}
