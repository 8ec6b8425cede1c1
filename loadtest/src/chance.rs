//! Seeded chance.

use tollgate_core::load::random::SplitMix64;
use tollgate_core::time::Span;

/// Seeded chance, the same on every machine.
#[derive(Clone, Debug)]
pub struct Chance(SplitMix64);

impl Chance {
    /// Equal seeds give equal chance.
    #[must_use]
    pub const fn new(seed: u64) -> Chance {
        Chance(SplitMix64::new(seed))
    }

    /// Uniform over all 64-bit integers.
    pub const fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform over all `u32`.
    pub fn roll(&mut self) -> u32 {
        u32::try_from(self.bits() >> 32).unwrap_or(u32::MAX)
    }

    /// Uniform over `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.roll()) / 4_294_967_296.0
    }

    /// Uniform between two spans.
    pub fn between(&mut self, least: Span, most: Span) -> Span {
        let wide = u128::from(self.bits()) * u128::from((most - least).as_micros());
        least + Span::from_wide(wide >> 64)
    }

    /// The time to the next event of a Poisson process with `rate` events per second.
    pub fn exponential(&mut self, rate: f64) -> Span {
        seconds(-(1.0 - self.unit()).ln() / rate)
    }
}

/// A span of so many seconds; negative ones are zero.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest integer in range, by definition of the cast"
)]
pub fn seconds(seconds: f64) -> Span {
    Span::from_micros((seconds * 1e6) as u64)
}
