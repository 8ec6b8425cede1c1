//! A seeded generator, so that equal seeds give equal runs.

use super::Share;
use crate::load::random::SplitMix64;
use crate::time::Span;

/// [`SplitMix64`], and what a circuit draws from it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Random {
        Random(SplitMix64::new(seed))
    }

    /// Uniform over all 64-bit integers.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform over `0..=most`.
    pub(crate) const fn up_to(&mut self, most: Span) -> Span {
        // The upper half of the product is a scaled fraction; the bias is below 2^-11 of a microsecond.
        let wide = (self.next() as u128) * (most.as_micros() as u128 + 1);
        Span::from_wide(wide >> 64)
    }

    /// Uniform over `span` plus or minus `jitter` of it.
    pub(crate) fn around(&mut self, span: Span, jitter: Share) -> Span {
        let swing = Span::from_wide(
            u128::from(span.as_micros()) * u128::from(jitter.basis_points())
                / u128::from(Share::ALL.basis_points()),
        );
        (span - swing) + self.up_to(swing + swing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_for_seed_zero_are_those_of_the_reference_implementation() {
        let mut random = Random::new(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn jitter_stays_within_its_share_and_uses_it() {
        let mut random = Random::new(7);
        let spans: Vec<Span> = (0..1_000).map(|_| random.around(Span::SECOND, Share::percent(20))).collect();
        let (least, most) = (*spans.iter().min().unwrap(), *spans.iter().max().unwrap());
        assert!(least >= Span::from_millis(800) && least < Span::from_millis(810), "{least}");
        assert!(most <= Span::from_millis(1_200) && most > Span::from_millis(1_190), "{most}");
        assert_eq!(random.around(Span::SECOND, Share::NONE), Span::SECOND);
    }
}
