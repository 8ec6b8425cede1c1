//! Shares and factors as whole millionths.

use std::fmt;

use super::OutOfRange;

/// A share or a factor in millionths, `0..=4294.967295`: 20 % is 200 000, a factor of two 2 000 000.
///
/// Whole millionths, because a reciprocal or a truncated percentage changes what was configured: with
/// `1 / percent` as an integer, a budget of 60 % acts as 100 %.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ratio(u32);

impl Ratio {
    /// Nothing.
    pub const ZERO: Ratio = Ratio(0);
    /// All, or a factor of one.
    pub const ONE: Ratio = Ratio(1_000_000);

    /// `millionths` of one.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Ratio {
        Ratio(millionths)
    }

    /// `percent` of a hundred; above 429 496 % it saturates.
    #[must_use]
    pub const fn from_percent(percent: u32) -> Ratio {
        Ratio(percent.saturating_mul(10_000))
    }

    /// The millionth nearest to `value`.
    ///
    /// # Errors
    /// [`OutOfRange`] naming `field` if `value` is negative, not a number, or above 4294.967295.
    pub fn from_f64(field: &'static str, value: f64) -> Result<Ratio, OutOfRange> {
        let millionths = (value * 1e6).round();
        if (0.0..=f64::from(u32::MAX)).contains(&millionths) {
            return Ok(Ratio(floor_u32(millionths)));
        }
        Err(OutOfRange::new(field, value, "0 to 4294.967295"))
    }

    /// Millionths of one.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// As a float, for estimates.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// This share of `value`, rounded down; saturates at `u64::MAX`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the value is at most u64::MAX here")]
    pub const fn of(self, value: u64) -> u64 {
        let part = value as u128 * self.0 as u128 / 1_000_000;
        if part > u64::MAX as u128 { u64::MAX } else { part as u64 }
    }
}

impl fmt::Display for Ratio {
    /// As a decimal number without trailing zeros: `0.2`, `2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{part:06}").trim_end_matches('0'))
    }
}

/// The whole part of an estimate; negative ones and NaN become 0, large ones `u32::MAX`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates as documented"
)]
pub(super) const fn floor_u32(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_kept_to_the_millionth() {
        assert_eq!(Ratio::from_f64("k", 0.6), Ok(Ratio::from_percent(60)));
        assert_eq!(Ratio::from_f64("k", 0.1 + 0.2), Ok(Ratio::from_percent(30)));
        assert_eq!(Ratio::from_f64("k", 1.0 / 0.9).unwrap().millionths(), 1_111_111);
        for wrong in [-0.1, f64::NAN, f64::INFINITY, 5000.0] {
            let error = Ratio::from_f64("k", wrong).unwrap_err().to_string();
            assert_eq!(error, format!("k {wrong} is out of range: 0 to 4294.967295"));
        }
    }

    #[test]
    fn a_part_is_rounded_down_and_never_overflows() {
        assert_eq!(Ratio::from_percent(90).of(30), 27);
        assert_eq!(Ratio::from_percent(90).of(21), 18);
        assert_eq!(Ratio::from_millionths(u32::MAX).of(u64::MAX), u64::MAX);
        assert_eq!(Ratio::ONE.of(u64::MAX), u64::MAX);
    }

    #[test]
    fn it_is_shown_as_it_was_written() {
        let shown = [200_000, 2_000_000, 1_500_000, 1, 0].map(|m| Ratio::from_millionths(m).to_string());
        assert_eq!(shown, ["0.2", "2", "1.5", "0.000001", "0"]);
    }
}
