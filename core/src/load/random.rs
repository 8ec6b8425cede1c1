//! Mixing and hashing that give the same numbers on every machine and in every version.

/// The finalizer of splitmix64: a bijection in which each bit of `value` changes each bit of the result with
/// about even odds (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[must_use]
pub const fn mix64(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of `bytes` on which clients and servers agree: 64-bit FNV-1a, then [`mix64`].
///
/// It spreads load; it does not withstand somebody who picks inputs to collide.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix64(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The generator splitmix64: even, fast, the same sequence for the same seed; not for secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that begins at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix64(self.0)
    }

    /// The next 32 random bits: a *roll* as the other types here take it.
    pub const fn next_u32(&mut self) -> u32 {
        upper(self.next_u64())
    }
}

/// The upper half of `bits`.
const fn upper(bits: u64) -> u32 {
    (bits >> 32) as u32
}

/// An even pick from `0..=most` by `roll`, evenly spread over `0..2^32`.
#[expect(clippy::cast_possible_truncation, reason = "a part of a u64 is a u64")]
pub(super) const fn scaled(roll: u32, most: u64) -> u64 {
    (((most as u128 + 1) * roll as u128) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_sequence() {
        let mut random = SplitMix64::new(1_234_567);
        let first = [random.next_u64(), random.next_u64(), random.next_u64()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn hashes_are_fixed_for_ever() {
        assert_eq!(hash_bytes(b""), mix64(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash_bytes(b"a"), mix64(0xaf63_dc4c_8601_ec8c), "the FNV-1a of 'a' is published");
        assert_ne!(hash_bytes(b"a"), hash_bytes(b"b"));
    }

    #[test]
    fn a_roll_picks_evenly_and_reaches_both_ends() {
        assert_eq!((scaled(0, 9), scaled(u32::MAX, 9)), (0, 9));
        assert_eq!(scaled(u32::MAX, 0), 0);
        assert!(scaled(u32::MAX, u64::MAX) > u64::MAX - (1 << 33));
        let mut counts = [0; 10];
        let mut random = SplitMix64::new(7);
        for _ in 0..10_000 {
            counts[usize::try_from(scaled(random.next_u32(), 9)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
