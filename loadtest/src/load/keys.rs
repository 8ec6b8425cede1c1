//! Which key each question asks for.

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::chance::Chance;

/// How questions are spread over keys.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Keys {
    /// All ask for one.
    One,
    /// Any of `count`, evenly.
    Uniform {
        /// How many, 1 to 1 000 000 000.
        count: u64,
    },
    /// Key k of `count` in proportion to `1 / k^exponent`.
    Zipf {
        /// How many, 1 to 1 000 000 000.
        count: u64,
        /// Above 0; about 1 is usual.
        exponent: f64,
    },
    /// One after another, and again: every key is as cold as it can be.
    Scan {
        /// How many, 1 to 1 000 000 000.
        count: u64,
    },
}

const MOST: u64 = 1_000_000_000;

impl Keys {
    /// Whether they make sense.
    ///
    /// # Errors
    /// They do not; the message says why.
    pub fn check(&self) -> Result<()> {
        if let Keys::Uniform { count } | Keys::Zipf { count, .. } | Keys::Scan { count } = self {
            ensure!((1..=MOST).contains(count), "keys.count is {count}, must be 1 to {MOST}");
        }
        if let Keys::Zipf { exponent, .. } = self {
            let sense = exponent.is_finite() && *exponent > 0.0;
            ensure!(sense, "keys.exponent is {exponent}, must be above 0");
        }
        Ok(())
    }

    /// Numbers of keys, from 0 on.
    #[must_use]
    pub fn pick(&self, seed: u64) -> Picks {
        Picks { keys: self.clone(), chance: Chance::new(seed), next: 0 }
    }
}

/// A sequence of keys.
#[derive(Debug)]
pub struct Picks {
    keys: Keys,
    chance: Chance,
    next: u64,
}

impl Picks {
    /// The next key.
    pub fn pick(&mut self) -> u64 {
        match self.keys {
            Keys::One => 0,
            Keys::Uniform { count } => below(self.chance.bits(), count),
            Keys::Scan { count } => {
                let key = self.next % count;
                self.next += 1;
                key
            }
            Keys::Zipf { count, exponent } => zipf(&mut self.chance, count, exponent),
        }
    }
}

fn below(bits: u64, count: u64) -> u64 {
    // the high half of the product is below `count`
    u64::try_from((u128::from(bits) * u128::from(count)) >> 64).unwrap_or(0)
}

/// Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
/// distributions", 1996): constant time for any number of keys.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are at most 10^9"
)]
fn zipf(chance: &mut Chance, count: u64, exponent: f64) -> u64 {
    let most = count as f64;
    let low = area(1.5, exponent) - 1.0;
    let high = area(most + 0.5, exponent);
    let near = 2.0 - inverse(area(2.5, exponent) - 2.0_f64.powf(-exponent), exponent);
    loop {
        let u = high + chance.unit() * (low - high);
        let x = inverse(u, exponent);
        let k = (x + 0.5).floor().clamp(1.0, most);
        if k - x <= near || u >= area(k + 0.5, exponent) - k.powf(-exponent) {
            return k as u64 - 1;
        }
    }
}

/// The integral of `1 / x^exponent`, and its inverse; logarithm and exponential at exponent 1.
fn area(x: f64, exponent: f64) -> f64 {
    let log = x.ln();
    quotient_exp((1.0 - exponent) * log) * log
}

fn inverse(area: f64, exponent: f64) -> f64 {
    let t = (area * (1.0 - exponent)).max(-1.0);
    (quotient_log(t) * area).exp()
}

/// `(e^x − 1) / x`
fn quotient_exp(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x * 0.5 }
}

/// `ln(1 + x) / x`
fn quotient_log(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x * 0.5 }
}
