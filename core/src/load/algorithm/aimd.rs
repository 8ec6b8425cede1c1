//! Additive increase, multiplicative decrease.

use super::{Bounds, Sample};
use crate::load::ratio::Ratio;
use crate::load::{OutOfRange, within};
use crate::time::Span;

/// Additive increase, multiplicative decrease (Chiu and Jain, 1989), as Netflix' concurrency-limits has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AimdConfig {
    /// A window with a longer mean counts as dropped: `1us..=1h`. Default 5 s.
    pub timeout: Span,
    /// What is left of the limit after a drop: `0.5..=0.999999`. Default 0.9.
    pub backoff: Ratio,
}

impl Default for AimdConfig {
    fn default() -> AimdConfig {
        AimdConfig { timeout: Span::from_secs(5), backoff: Ratio::from_percent(90) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Aimd {
    config: AimdConfig,
    bounds: Bounds,
    limit: u32,
}

impl Aimd {
    pub(super) fn new(config: AimdConfig, bounds: Bounds) -> Result<Aimd, OutOfRange> {
        within("aimd.timeout", config.timeout, Span::MICRO..=Span::from_secs(3_600))?;
        let most = Ratio::from_millionths(999_999);
        within("aimd.backoff", config.backoff, Ratio::from_percent(50)..=most)?;
        Ok(Aimd { config, bounds, limit: bounds.initial })
    }

    pub(super) fn update(&mut self, sample: &Sample) {
        if sample.dropped || sample.rtt > self.config.timeout {
            let left = self.config.backoff.of(u64::from(self.limit));
            self.set(u32::try_from(left).unwrap_or(u32::MAX));
        } else if sample.in_flight.saturating_mul(2) >= self.limit {
            self.set(self.limit.saturating_add(1));
        }
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn set(&mut self, limit: u32) {
        self.limit = limit.clamp(self.bounds.min, self.bounds.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aimd(initial: u32) -> Aimd {
        Aimd::new(AimdConfig::default(), Bounds { min: 1, initial, max: 200 }).unwrap()
    }

    fn after(initial: u32, in_flight: u32, rtt: Span, dropped: bool) -> u32 {
        let mut aimd = aimd(initial);
        aimd.update(&Sample { rtt, in_flight, dropped });
        aimd.limit()
    }

    #[test]
    fn it_grows_by_one_and_falls_by_a_tenth() {
        let quick = Span::from_millis(1);
        assert_eq!(after(20, 10, quick, false), 21);
        assert_eq!(after(20, 9, quick, false), 20, "the callers did not need more");
        assert_eq!(after(30, 0, quick, true), 27);
        assert_eq!(after(30, 30, Span::from_millis(5_001), false), 27, "slow is dropped");
        assert_eq!(after(200, 200, quick, false), 200);
        assert_eq!(after(1, 1, quick, true), 1);
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| Aimd::new(config, Bounds::default()).unwrap_err().to_string();
        let backoff = AimdConfig { backoff: Ratio::ONE, ..AimdConfig::default() };
        assert_eq!(error(backoff), "aimd.backoff 1 is out of range: 0.5 to 0.999999");
        let timeout = AimdConfig { timeout: Span::ZERO, ..AimdConfig::default() };
        assert_eq!(error(timeout), "aimd.timeout 0s is out of range: 1us to 3600s");
    }
}
