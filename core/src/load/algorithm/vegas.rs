//! Vegas: the queue at the target, from the best latency that was seen.

use super::{Bounds, Sample, log_step};
use crate::load::random::SplitMix64;
use crate::load::ratio::{Ratio, floor_u32};
use crate::load::{OutOfRange, within};

/// The queue estimate of TCP Vegas (Brakmo and Peterson, 1995), as Netflix' concurrency-limits has it:
/// `queue = ceil(limit * (1 - base / rtt))`, and steps that grow with `log10(limit)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VegasConfig {
    /// With a shorter queue than `alpha * log10(limit)` the limit grows: `1..=1000`. Default 3.
    pub alpha: u32,
    /// With a longer queue than `beta * log10(limit)` the limit falls; without any, it grows by this:
    /// `alpha..=1000`. Default 6.
    pub beta: u32,
    /// How much of each change is taken over: `0.01..=1`. Default 1.
    pub smoothing: Ratio,
    /// What is left of the limit when it falls, `0.1..=0.999999`; without it the limit falls by
    /// `log10(limit)`, which is the default.
    pub backoff: Option<Ratio>,
    /// The base latency is measured anew every `probe * limit` samples, times a random part in `[0.5, 1)`:
    /// `1..=100_000`. Default 30.
    pub probe: u32,
}

impl Default for VegasConfig {
    fn default() -> VegasConfig {
        VegasConfig { alpha: 3, beta: 6, smoothing: Ratio::ONE, backoff: None, probe: 30 }
    }
}

impl VegasConfig {
    fn check(&self) -> Result<(), OutOfRange> {
        within("vegas.alpha", self.alpha, 1..=1_000)?;
        within("vegas.beta", self.beta, self.alpha..=1_000)?;
        within("vegas.smoothing", self.smoothing, Ratio::from_percent(1)..=Ratio::ONE)?;
        if let Some(backoff) = self.backoff {
            let most = Ratio::from_millionths(999_999);
            within("vegas.backoff", backoff, Ratio::from_percent(10)..=most)?;
        }
        within("vegas.probe", self.probe, 1..=100_000)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Vegas {
    config: VegasConfig,
    bounds: Bounds,
    estimate: f64,
    /// The shortest mean since the last probe, in microseconds.
    base: Option<u64>,
    samples: u64,
    jitter: f64,
    random: SplitMix64,
}

impl Vegas {
    pub(super) fn new(config: VegasConfig, bounds: Bounds, seed: u64) -> Result<Vegas, OutOfRange> {
        config.check()?;
        let mut random = SplitMix64::new(seed);
        let jitter = jitter(&mut random);
        Ok(Vegas {
            config,
            bounds,
            estimate: f64::from(bounds.initial),
            base: None,
            samples: 0,
            jitter,
            random,
        })
    }

    pub(super) fn update(&mut self, sample: &Sample) {
        if sample.dropped {
            // the latency of calls that were refused or given up is no measure of an unloaded target
            self.move_to(self.lowered());
            return;
        }
        let rtt = sample.rtt.as_micros().max(1);
        self.samples += 1;
        match self.base {
            Some(base) if base <= rtt && !self.probes() => self.compare(sample, base, rtt),
            _ => {
                self.base = Some(rtt);
                self.samples = 0;
                self.jitter = jitter(&mut self.random);
            }
        }
    }

    fn probes(&self) -> bool {
        self.samples as f64 >= self.jitter * f64::from(self.config.probe) * self.estimate
    }

    fn compare(&mut self, sample: &Sample, base: u64, rtt: u64) {
        if f64::from(sample.in_flight) * 2.0 < self.estimate {
            return;
        }
        let step = log_step(self.estimate);
        let queue = floor_u32((self.estimate * (1.0 - base as f64 / rtt as f64)).ceil());
        let (alpha, beta) = (self.config.alpha * step, self.config.beta * step);
        let limit = match queue {
            queue if queue <= step => self.estimate + f64::from(beta),
            queue if queue < alpha => self.estimate + f64::from(step),
            queue if queue > beta => self.lowered(),
            _ => return,
        };
        self.move_to(limit);
    }

    fn lowered(&self) -> f64 {
        match self.config.backoff {
            Some(backoff) => self.estimate * backoff.as_f64(),
            None => self.estimate - f64::from(log_step(self.estimate)),
        }
    }

    fn move_to(&mut self, limit: f64) {
        let part = self.config.smoothing.as_f64();
        self.estimate = self.bounds.clamp((1.0 - part) * self.estimate + part * self.bounds.clamp(limit));
    }

    pub(super) fn limit(&self) -> u32 {
        floor_u32(self.estimate)
    }

    pub(super) fn set(&mut self, limit: u32) {
        self.estimate = self.bounds.clamp(f64::from(limit));
    }
}

/// In `[0.5, 1)`, so that many clients do not probe together.
fn jitter(random: &mut SplitMix64) -> f64 {
    0.5 + f64::from(random.next_u32()) / 2.0_f64.powi(33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    /// The limits after samples of (milliseconds, calls in flight).
    fn limits(config: VegasConfig, initial: u32, samples: &[(u64, u32)]) -> Vec<u32> {
        let bounds = Bounds { min: 1, initial, max: initial * 2 };
        let mut vegas = Vegas::new(config, bounds, 1).unwrap();
        let update = |&(millis, in_flight): &(u64, u32)| {
            vegas.update(&Sample { rtt: Span::from_millis(millis), in_flight, dropped: false });
            vegas.limit()
        };
        samples.iter().map(update).collect()
    }

    #[test]
    fn published_vectors() {
        let default = VegasConfig::default();
        assert_eq!(limits(default, 10, &[(10, 10), (10, 11)]), [10, 16]);
        assert_eq!(limits(default, 10, &[(10, 10), (50, 11)]), [10, 9]);
        assert_eq!(limits(default, 10, &[(10, 10), (14, 14)]), [10, 10]);
        assert_eq!(limits(default, 10_000, &[(10_000, 5_000), (10_000, 6_000)]), [10_000, 10_024]);
        let half = Ratio::from_percent(50);
        let smooth = VegasConfig { smoothing: half, backoff: Some(half), ..default };
        assert_eq!(limits(smooth, 100, &[(10, 100), (20, 100), (20, 100)]), [100, 75, 56]);
    }

    #[test]
    fn unused_room_does_not_grow() {
        assert_eq!(limits(VegasConfig::default(), 10, &[(10, 10), (10, 4), (50, 4)]), [10, 10, 10]);
    }

    #[test]
    fn a_drop_lowers_and_does_not_touch_the_base() {
        let mut vegas = Vegas::new(VegasConfig::default(), Bounds::default(), 1).unwrap();
        vegas.update(&Sample { rtt: Span::from_millis(10), in_flight: 20, dropped: false });
        vegas.update(&Sample { rtt: Span::from_micros(200), in_flight: 20, dropped: true });
        assert_eq!((vegas.limit(), vegas.base), (19, Some(10_000)));
    }

    #[test]
    fn the_base_is_measured_anew_after_a_while() {
        let mut vegas = Vegas::new(VegasConfig::default(), Bounds::default(), 9).unwrap();
        let quick = Sample { rtt: Span::from_millis(1), in_flight: 0, dropped: false };
        vegas.update(&quick);
        let slow = Sample { rtt: Span::from_millis(3), ..quick };
        let probed = (1..=600).find(|_| {
            vegas.update(&slow);
            vegas.base == Some(3_000)
        });
        assert!((300..=600).contains(&probed.unwrap()), "{probed:?}");
        let slower = Sample { rtt: Span::from_millis(5), ..quick };
        (0..299).for_each(|_| vegas.update(&slower));
        assert_eq!(vegas.base, Some(3_000), "and not again before another while");
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| Vegas::new(config, Bounds::default(), 1).unwrap_err().to_string();
        let default = VegasConfig::default();
        let beta = VegasConfig { beta: 2, ..default };
        assert_eq!(error(beta), "vegas.beta 2 is out of range: 3 to 1000");
        assert!(error(VegasConfig { alpha: 0, ..default }).starts_with("vegas.alpha 0 "));
        assert!(error(VegasConfig { smoothing: Ratio::ZERO, ..default }).starts_with("vegas.smoothing 0 "));
        assert!(error(VegasConfig { backoff: Some(Ratio::ONE), ..default }).starts_with("vegas.backoff 1 "));
        assert!(error(VegasConfig { probe: 0, ..default }).starts_with("vegas.probe 0 "));
    }
}
