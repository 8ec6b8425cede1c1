//! What a client holds of its lease: opaque to it, proved by a keyed hash.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of the format |
//! | 8, 8, 8 | tokens; when it was granted; until when it may be given back (microseconds since the epoch) |
//! | 16 | its name |
//! | 16 | hash of its counters |
//! | 16 | BLAKE3 of the above under the servers' key, cut to 128 bits |

use tollgate_core::time::Time;

use crate::engine::lease::Ticket;

const VERSION: u8 = 1;
const BODY: usize = 57;
const PROOF: usize = 16;

/// A lease with its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Token {
    pub(super) name: [u8; 16],
    pub(super) ticket: Ticket,
}

impl Token {
    pub(super) fn seal(&self, key: &[u8; 32]) -> Vec<u8> {
        let Ticket { tokens, issued, ends, counters } = self.ticket;
        let mut bytes = Vec::with_capacity(BODY + PROOF);
        bytes.push(VERSION);
        for number in [tokens, issued.as_micros(), ends.as_micros()] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&counters);
        let proof = proof(&bytes, key);
        bytes.extend_from_slice(&proof);
        bytes
    }

    /// `None` for anything that was not sealed with `key`.
    pub(super) fn open(bytes: &[u8], key: &[u8; 32]) -> Option<Token> {
        let (body, told) = bytes.split_at_checked(BODY)?;
        // takes as long for every wrong proof
        let differs =
            proof(body, key).iter().zip(told).fold(0, |differs, (one, other)| differs | (one ^ other));
        if told.len() != PROOF || differs != 0 {
            return None;
        }
        let (version, rest) = body.split_first()?;
        let (numbers, rest) = rest.split_at_checked(24)?;
        let (name, counters) = rest.split_at_checked(16)?;
        let mut numbers =
            numbers.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok().map(u64::from_be_bytes));
        let mut next = || numbers.next();
        let (tokens, issued, ends) = (next()?, Time::from_micros(next()?), Time::from_micros(next()?));
        let ticket = Ticket { tokens, issued, ends, counters: counters.try_into().ok()? };
        (*version == VERSION).then_some(Token { name: name.try_into().ok()?, ticket })
    }
}

fn proof(body: &[u8], key: &[u8; 32]) -> [u8; PROOF] {
    let mut proof = [0; PROOF];
    blake3::Hasher::new_keyed(key).update(body).finalize_xof().fill(&mut proof);
    proof
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn token() -> Token {
        let ticket = Ticket {
            tokens: 250,
            issued: Time::from_micros(1_789_000_000_000_000),
            ends: Time::from_micros(1_789_000_000_150_000),
            counters: [3; 16],
        };
        Token { name: *b"0123456789abcdef", ticket }
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let bytes = token().seal(&KEY);
        assert_eq!(bytes.len(), 73);
        assert_eq!(Token::open(&bytes, &KEY), Some(token()));
    }

    #[test]
    fn every_bit_counts() {
        let bytes = token().seal(&KEY);
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Token::open(&forged, &KEY), None, "bit {bit}");
        }
    }

    #[test]
    fn another_length_or_key_is_no_token() {
        let bytes = token().seal(&KEY);
        for wrong in [&bytes[..72], &bytes[..57], &bytes[..10], &[], &[bytes.as_slice(), &[0]].concat()] {
            assert_eq!(Token::open(wrong, &KEY), None);
        }
        assert_eq!(Token::open(&bytes, &[8; 32]), None);
    }
}
