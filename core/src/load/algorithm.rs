//! How a limit on concurrency follows what was measured.

mod aimd;
mod fixed;
mod gradient2;
mod guard;
mod vegas;

pub use aimd::AimdConfig;
pub use gradient2::Gradient2Config;
pub use guard::{Guard, GuardConfig, Load};
pub use vegas::VegasConfig;

use super::{OutOfRange, within};
use crate::time::Span;
use aimd::Aimd;
use fixed::Fixed;
use gradient2::Gradient2;
use vegas::Vegas;

/// Largest limit, in calls.
const MAX_LIMIT: u32 = 1_000_000;

/// What a window of calls has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample {
    /// Mean time from the start of a call to its end.
    pub rtt: Span,
    /// Most calls that were in flight at once.
    pub in_flight: u32,
    /// The target refused calls or let them time out.
    pub dropped: bool,
}

/// Where a limit begins and between what it moves, in calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Least: `1..=max`. Default 1; more would keep a target of heavy calls overloaded.
    pub min: u32,
    /// First: `min..=max`. Default 20.
    pub initial: u32,
    /// Most: `1..=1_000_000`. Default 1000.
    pub max: u32,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { min: 1, initial: 20, max: 1_000 }
    }
}

impl Bounds {
    fn check(&self) -> Result<(), OutOfRange> {
        within("bounds.max", self.max, 1..=MAX_LIMIT)?;
        within("bounds.min", self.min, 1..=self.max)?;
        within("bounds.initial", self.initial, self.min..=self.max)
    }

    fn clamp(&self, limit: f64) -> f64 {
        limit.clamp(f64::from(self.min), f64::from(self.max))
    }
}

/// Which algorithm, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AlgorithmConfig {
    /// Always [`Bounds::initial`].
    Fixed,
    /// One more after a window without trouble, a tenth less after a drop or a slow window.
    Aimd(AimdConfig),
    /// Compares with the best latency that was ever seen.
    Vegas(VegasConfig),
    /// Compares the last window with a long average.
    Gradient2(Gradient2Config),
}

impl Default for AlgorithmConfig {
    fn default() -> AlgorithmConfig {
        AlgorithmConfig::Gradient2(Gradient2Config::default())
    }
}

/// A limit that follows its samples and stays within its [`Bounds`].
#[derive(Clone, Debug)]
pub struct Algorithm {
    bounds: Bounds,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Fixed(Fixed),
    Aimd(Aimd),
    Vegas(Vegas),
    Gradient2(Gradient2),
}

impl Algorithm {
    /// The algorithm of `config` at [`Bounds::initial`]; `seed` spreads the probes of Vegas over clients.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: &AlgorithmConfig, bounds: Bounds, seed: u64) -> Result<Algorithm, OutOfRange> {
        bounds.check()?;
        let kind = match config {
            AlgorithmConfig::Fixed => Kind::Fixed(Fixed::new(bounds)),
            AlgorithmConfig::Aimd(config) => Kind::Aimd(Aimd::new(*config, bounds)?),
            AlgorithmConfig::Vegas(config) => Kind::Vegas(Vegas::new(*config, bounds, seed)?),
            AlgorithmConfig::Gradient2(config) => Kind::Gradient2(Gradient2::new(*config, bounds)?),
        };
        Ok(Algorithm { bounds, kind })
    }

    /// Learns from `sample` and returns the limit that holds from now on, in calls.
    pub fn update(&mut self, sample: &Sample) -> u32 {
        match &mut self.kind {
            Kind::Fixed(_) => {}
            Kind::Aimd(aimd) => aimd.update(sample),
            Kind::Vegas(vegas) => vegas.update(sample),
            Kind::Gradient2(gradient) => gradient.update(sample),
        }
        self.limit()
    }

    /// The limit that holds, in calls, within the bounds.
    #[must_use]
    pub fn limit(&self) -> u32 {
        match &self.kind {
            Kind::Fixed(fixed) => fixed.limit(),
            Kind::Aimd(aimd) => aimd.limit(),
            Kind::Vegas(vegas) => vegas.limit(),
            Kind::Gradient2(gradient) => gradient.limit(),
        }
    }

    /// Sets the limit to `limit`, or to the nearest bound; a fixed one stays. Returns what holds now.
    pub fn set(&mut self, limit: u32) -> u32 {
        let limit = limit.clamp(self.bounds.min, self.bounds.max);
        match &mut self.kind {
            Kind::Fixed(_) => {}
            Kind::Aimd(aimd) => aimd.set(limit),
            Kind::Vegas(vegas) => vegas.set(limit),
            Kind::Gradient2(gradient) => gradient.set(limit),
        }
        self.limit()
    }
}

/// The decimal logarithm of a limit as a step: at least one call.
fn log_step(limit: f64) -> u32 {
    super::ratio::floor_u32(limit).checked_ilog10().unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_limit_stays() {
        let mut fixed = Algorithm::new(&AlgorithmConfig::Fixed, Bounds::default(), 1).unwrap();
        let sample = Sample { rtt: Span::SECOND, in_flight: 20, dropped: true };
        assert_eq!((fixed.update(&sample), fixed.set(5)), (20, 20));
    }

    #[test]
    fn bounds_that_make_no_sense_are_named() {
        let error = |min, initial, max| {
            let bounds = Bounds { min, initial, max };
            Algorithm::new(&AlgorithmConfig::Fixed, bounds, 1).unwrap_err().to_string()
        };
        assert_eq!(error(1, 20, 0), "bounds.max 0 is out of range: 1 to 1000000");
        assert_eq!(error(0, 20, 50), "bounds.min 0 is out of range: 1 to 50");
        assert_eq!(error(30, 20, 50), "bounds.initial 20 is out of range: 30 to 50");
    }

    #[test]
    fn a_set_limit_is_where_the_algorithm_goes_on() {
        let config = AlgorithmConfig::Aimd(AimdConfig::default());
        let mut aimd = Algorithm::new(&config, Bounds::default(), 1).unwrap();
        assert_eq!(aimd.set(0), 1);
        assert_eq!(aimd.set(40), 40);
        let sample = Sample { rtt: Span::from_millis(1), in_flight: 40, dropped: false };
        assert_eq!(aimd.update(&sample), 41);
    }
}
