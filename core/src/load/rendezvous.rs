//! Rendezvous hashing: which member owns a key, without a table, with the fewest moves.

use smallvec::SmallVec;

use super::random::mix64;
use super::{OutOfRange, within};

/// Largest weight.
const MAX_WEIGHT: u32 = 1_000_000;

/// One of those that keys are spread over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// The hash of its lasting name (see [`hash_bytes`](super::random::hash_bytes)); each once.
    pub id: u64,
    /// Its share of the keys, relative to the others: `1..=1_000_000`.
    pub weight: u32,
}

/// Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights by Schindelhauer and Schomaker, 2005).
///
/// Each member scores each key on its own: `-ln(hash) / weight`, and the lowest owns it. A new member takes
/// its share evenly from all, and a lost one leaves its share evenly to all. The logarithm is an integer, so
/// that every machine and version agrees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rendezvous {
    members: Box<[Member]>,
    /// Mixed ids.
    seeds: Box<[u64]>,
    even: bool,
}

/// What a member makes of a key.
#[derive(Clone, Copy, Debug)]
struct Score {
    /// `-log2(hash / 2^64)`, in parts of `2^-40`; 0 where weights are even, and the hash decides.
    log: u64,
    hash: u64,
    index: usize,
}

impl Rendezvous {
    /// Spreads keys over `members`, in any order.
    ///
    /// # Errors
    /// [`OutOfRange`] for a weight out of range or an id that comes twice.
    pub fn new(members: impl Into<Box<[Member]>>) -> Result<Rendezvous, OutOfRange> {
        let members: Box<[Member]> = members.into();
        let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(OutOfRange::new("members.id", twice[0], "each id once"));
        }
        for member in &members {
            within("members.weight", member.weight, 1..=MAX_WEIGHT)?;
        }
        let even = members.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let seeds = members.iter().map(|member| mix64(member.id)).collect();
        Ok(Rendezvous { members, seeds, even })
    }

    /// Spreads keys evenly over members with these `ids`; of two with one id, the first owns the keys of both.
    #[must_use]
    pub fn even(ids: impl IntoIterator<Item = u64>) -> Rendezvous {
        let members: Box<[Member]> = ids.into_iter().map(|id| Member { id, weight: 1 }).collect();
        let seeds = members.iter().map(|member| mix64(member.id)).collect();
        Rendezvous { members, seeds, even: true }
    }

    /// The members, in the order they were given.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The indexes of the first `count` members for `key`, the owner first, then who takes over if it is gone.
    #[must_use]
    pub fn rank(&self, key: u64, count: usize) -> SmallVec<[usize; 4]> {
        let key = mix64(key);
        let mut best: SmallVec<[Score; 4]> = SmallVec::new();
        for (index, seed) in self.seeds.iter().enumerate() {
            let hash = mix64(seed ^ key);
            let log = if self.even { 0 } else { negative_log2(hash) };
            let score = Score { log, hash, index };
            let place = best.iter().rposition(|other| !self.beats(&score, other)).map_or(0, |last| last + 1);
            if place < count {
                best.truncate(count - 1);
                best.insert(place, score);
            }
        }
        best.into_iter().map(|score| score.index).collect()
    }

    /// The index of the member that owns `key`; `None` without members.
    #[must_use]
    pub fn owner(&self, key: u64) -> Option<usize> {
        self.rank(key, 1).first().copied()
    }

    /// Whether `one` comes before `other`: `one.log / its weight` is lower, the hash is higher, or (with equal
    /// hashes) the id is lower.
    fn beats(&self, one: &Score, other: &Score) -> bool {
        let (member, rival) = (&self.members[one.index], &self.members[other.index]);
        let left = u128::from(one.log) * u128::from(rival.weight);
        let right = u128::from(other.log) * u128::from(member.weight);
        (left, other.hash, member.id) < (right, one.hash, rival.id)
    }
}

/// Steps of the table of logarithms: `2^8`.
const STEP_BITS: u32 = 8;
/// Bits after the point of a logarithm.
const FRACTION: u32 = 40;

/// `log2(1 + i / 256)` in parts of `2^-40`, for `i` in `0..=256`.
static LOG2: [u64; 257] = log_table();

const fn log_table() -> [u64; 257] {
    let mut table = [0; 257];
    let mut index = 0;
    while index < 256 {
        // by squaring: each square shows one more binary digit. The mantissa is in [1, 2), 62 bits after
        // its point
        let mut mantissa: u128 = (256 + index as u128) << (62 - STEP_BITS);
        let mut log = 0;
        let mut bit = 0;
        while bit < FRACTION {
            mantissa = (mantissa * mantissa) >> 62;
            log <<= 1;
            if mantissa >> 63 != 0 {
                mantissa >>= 1;
                log |= 1;
            }
            bit += 1;
        }
        table[index] = log;
        index += 1;
    }
    table[256] = 1 << FRACTION;
    table
}

/// `-log2(hash / 2^64)` in parts of `2^-40`, linear between the steps of the table: off by at most 3e-6, and
/// falling everywhere. A hash of 0 counts as 1.
#[expect(clippy::cast_possible_truncation, reason = "an index has eight bits")]
fn negative_log2(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    // the digits after the leading one
    let fraction = (hash << zeros) << 1;
    let index = (fraction >> (64 - STEP_BITS)) as usize;
    let rest = u128::from((fraction << STEP_BITS) >> STEP_BITS);
    let (low, high) = (LOG2[index], LOG2[index + 1]);
    let between = (u128::from(high - low) * rest) >> (64 - STEP_BITS);
    let log2 = low + between as u64;
    (u64::from(zeros + 1) << FRACTION) - log2
}

#[cfg(test)]
mod tests;
