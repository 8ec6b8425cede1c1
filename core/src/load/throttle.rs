//! Adaptive throttling: a caller that is being refused sends less.

use std::sync::atomic::{AtomicU64, Ordering};

use super::criticality::Criticality;
use super::ratio::Ratio;
use super::rolling::{Counts, RollingSum};
use super::{OutOfRange, within};
use crate::time::{Span, Time};

/// Client-side throttling of Beyer et al., "Site Reliability Engineering", ch. 21: a request is refused here
/// with probability `max(0, (requests - k * accepts) / (requests + 1))`, over a window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ThrottleConfig {
    /// How many requests are sent for each accepted one, for [`Criticality::Critical`]: `1..=10`. Default 2.
    pub k: Ratio,
    /// What each class above critical adds to `k`, and each class below takes away, down to 1: `0..=5`.
    /// Default 0.5.
    pub k_per_class: Ratio,
    /// How far back requests count: `1s..=1h`. Default 120 s.
    pub window: Span,
    /// In how many steps the window moves: `2..=1000`. Default 24.
    pub buckets: u32,
    /// The highest probability, so that some requests are always sent as probes: `0..=1`. Default 0.9.
    pub max_rejection: Ratio,
    /// With fewer requests per second nothing is refused: `0..=1_000_000`. Default 5.
    pub min_rps: u32,
}

impl Default for ThrottleConfig {
    fn default() -> ThrottleConfig {
        ThrottleConfig {
            k: Ratio::from_percent(200),
            k_per_class: Ratio::from_percent(50),
            window: Span::from_secs(120),
            buckets: 24,
            max_rejection: Ratio::from_percent(90),
            min_rps: 5,
        }
    }
}

impl ThrottleConfig {
    fn check(&self) -> Result<(), OutOfRange> {
        within("throttle.k", self.k, Ratio::ONE..=Ratio::from_percent(1_000))?;
        within("throttle.k_per_class", self.k_per_class, Ratio::ZERO..=Ratio::from_percent(500))?;
        within("throttle.window", self.window, Span::SECOND..=Span::from_secs(3_600))?;
        within("throttle.buckets", self.buckets, 2..=1_000)?;
        within("throttle.max_rejection", self.max_rejection, Ratio::ZERO..=Ratio::ONE)?;
        within("throttle.min_rps", self.min_rps, 0..=1_000_000)
    }

    fn k_of(&self, class: Criticality) -> Ratio {
        let (k, step) = (self.k.millionths(), self.k_per_class.millionths());
        let k = match class {
            Criticality::Sheddable => k.saturating_sub(2 * step),
            Criticality::SheddablePlus => k.saturating_sub(step),
            Criticality::Critical => k,
            Criticality::CriticalPlus => k + step,
        };
        Ratio::from_millionths(k).max(Ratio::ONE)
    }
}

/// The request was not sent, since the target refuses many.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("throttled: {probability} of the requests to this target are held back")]
pub struct Rejected {
    /// The share of requests of this class that are refused at present.
    pub probability: Ratio,
}

/// Refuses here a share of what the target would refuse. For many threads; no lock.
///
/// *Requests* counts what was asked of [`Throttle::admit`], refused or not. *Accepts* counts what the target
/// took on: whatever is not a refusal for load (`RESOURCE_EXHAUSTED`, `UNAVAILABLE`, 429, 503, no
/// connection). An error of the application is an accept.
#[derive(Debug)]
pub struct Throttle {
    ks: [Ratio; 4],
    max_rejection: Ratio,
    min_rps: u64,
    window: Span,
    /// The shortest time that a rate is taken over.
    bucket: Span,
    counts: RollingSum,
    /// Since when requests have been counted, in microseconds.
    since: AtomicU64,
}

impl Throttle {
    /// A throttle that has seen nothing.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: &ThrottleConfig, now: Time) -> Result<Throttle, OutOfRange> {
        config.check()?;
        Ok(Throttle {
            ks: Criticality::ALL.map(|class| config.k_of(class)),
            max_rejection: config.max_rejection,
            min_rps: u64::from(config.min_rps),
            window: config.window,
            bucket: Span::from_micros(config.window.as_micros() / u64::from(config.buckets)),
            counts: RollingSum::new(config.window, config.buckets, now),
            since: AtomicU64::new(now.as_micros()),
        })
    }

    /// Counts a request and decides whether to send it; `roll` is a random number, even over all `u32`.
    ///
    /// # Errors
    /// [`Rejected`] if it is held back. It has been counted, and has no result to record.
    pub fn admit(&self, now: Time, roll: u32, class: Criticality) -> Result<(), Rejected> {
        self.advance(now);
        let before = self.counts.add(Counts { all: 1, good: 0 }.pack());
        let probability = self.probability_of(Counts::unpack(before), now, class);
        let rejected = (u64::from(roll) * 1_000_000) >> 32 < u64::from(probability.millionths());
        if rejected { Err(Rejected { probability }) } else { Ok(()) }
    }

    /// Records what became of a request that was sent: `accepted` unless the target refused it for load.
    pub fn record(&self, now: Time, accepted: bool) {
        self.advance(now);
        if accepted {
            self.counts.add(Counts { all: 0, good: 1 }.pack());
        }
    }

    /// The share of requests of `class` that are refused at `now`: `0..=max_rejection`.
    #[must_use]
    pub fn probability(&self, now: Time, class: Criticality) -> Ratio {
        self.advance(now);
        self.probability_of(Counts::unpack(self.counts.total()), now, class)
    }

    fn advance(&self, now: Time) {
        if self.counts.advance(now) {
            self.since.store(now.as_micros(), Ordering::Relaxed);
        }
    }

    fn probability_of(&self, counts: Counts, now: Time, class: Criticality) -> Ratio {
        let k = u64::from(self.ks[usize::from(class.index())].millionths());
        let (requests, accepts) = (u64::from(counts.all), u64::from(counts.good));
        let surplus = (requests * 1_000_000).saturating_sub(k * accepts);
        if surplus == 0 || self.is_quiet(requests, now) {
            return Ratio::ZERO;
        }
        let probability = u32::try_from(surplus / (requests + 1)).unwrap_or(u32::MAX);
        Ratio::from_millionths(probability).min(self.max_rejection)
    }

    /// Whether there were fewer requests per second than the least.
    fn is_quiet(&self, requests: u64, now: Time) -> bool {
        let elapsed = now - Time::from_micros(self.since.load(Ordering::Relaxed));
        let elapsed = elapsed.clamp(self.bucket, self.window);
        requests * 1_000_000 < self.min_rps * elapsed.as_micros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::SplitMix64;

    const NOW: Time = Time::from_micros(1_000_000_000);
    const CLASS: Criticality = Criticality::Critical;

    fn throttle(config: &ThrottleConfig) -> Throttle {
        Throttle::new(config, NOW).unwrap()
    }

    fn busy() -> ThrottleConfig {
        ThrottleConfig { min_rps: 0, ..ThrottleConfig::default() }
    }

    /// The probability after `requests`, the first `accepts` of which were accepted.
    fn after(config: &ThrottleConfig, requests: u32, accepts: u32, class: Criticality) -> u32 {
        let throttle = throttle(config);
        for number in 0..requests {
            // a roll of the largest number is never refused below one
            throttle.admit(NOW, u32::MAX, class).unwrap();
            throttle.record(NOW, number < accepts);
        }
        throttle.probability(NOW, class).millionths()
    }

    #[test]
    fn published_vectors() {
        let k = Ratio::from_f64("k", 1.0 / 0.9).unwrap();
        let found = after(&ThrottleConfig { k, ..busy() }, 120, 90, CLASS);
        assert!(found.abs_diff(165_289) <= 1, "20 of 121: {found}");
        assert_eq!(after(&busy(), 1, 0, CLASS), 500_000, "one failure alone");
        assert_eq!(after(&busy(), 100, 50, CLASS), 0, "k = 2 forgives half");
        assert_eq!(after(&busy(), 99, 0, CLASS), 900_000, "the cap");
    }

    #[test]
    fn the_more_critical_the_later() {
        let found = Criticality::ALL.map(|class| after(&busy(), 99, 33, class));
        assert_eq!(found, [660_000, 495_000, 330_000, 165_000], "k = 1, 1.5, 2, 2.5");
    }

    #[test]
    fn few_requests_are_never_held_back() {
        let default = ThrottleConfig::default();
        assert_eq!(after(&default, 24, 0, CLASS), 0, "fewer than 5 per second in the 5 s of a bucket");
        assert_eq!(after(&default, 25, 0, CLASS), 900_000);
    }

    #[test]
    fn what_was_held_back_counts_as_a_request() {
        let throttle = throttle(&busy());
        for _ in 0..50 {
            throttle.admit(NOW, u32::MAX, CLASS).unwrap();
        }
        let held = (0..50).filter(|_| throttle.admit(NOW, 0, CLASS).is_err()).count();
        assert_eq!(held, 50);
        assert_eq!(Counts::unpack(throttle.counts.total()).all, 100);
    }

    #[test]
    fn the_window_forgets() {
        let throttle = throttle(&ThrottleConfig::default());
        for _ in 0..1_000 {
            throttle.admit(NOW, u32::MAX, CLASS).unwrap();
        }
        let later = |secs| throttle.probability(NOW + Span::from_secs(secs), CLASS).millionths();
        assert_eq!((later(119), later(120)), (900_000, 0));
    }

    #[test]
    fn after_a_quiet_night_the_rate_is_taken_anew() {
        let throttle = throttle(&ThrottleConfig::default());
        let morning = NOW + Span::from_secs(30_000);
        for _ in 0..25 {
            throttle.admit(morning, u32::MAX, CLASS).unwrap();
        }
        let probability = throttle.probability(morning, CLASS).millionths();
        assert_eq!(probability, 900_000, "25 within 5 s are 5 per second, not 25 in 120 s");
    }

    #[test]
    fn half_a_target_is_sent_twice_what_it_takes() {
        // a target that takes 100 of 400 requests a second, for ten minutes
        let throttle = throttle(&ThrottleConfig::default());
        let mut random = SplitMix64::new(3);
        let mut sent_last = 0;
        for second in 0..600 {
            let now = NOW + Span::from_secs(second);
            let sent = (0..400).filter(|_| throttle.admit(now, random.next_u32(), CLASS).is_ok()).count();
            (0..sent).for_each(|number| throttle.record(now, number < 100));
            sent_last = sent;
        }
        assert!((160..=240).contains(&sent_last), "k = 2: {sent_last}");
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| Throttle::new(&config, NOW).unwrap_err().to_string();
        let k = Ratio::from_percent(99);
        assert_eq!(error(ThrottleConfig { k, ..busy() }), "throttle.k 0.99 is out of range: 1 to 10");
        assert!(error(ThrottleConfig { window: Span::ZERO, ..busy() }).starts_with("throttle.window 0s "));
        assert!(error(ThrottleConfig { buckets: 1, ..busy() }).starts_with("throttle.buckets 1 "));
        let max_rejection = Ratio::from_percent(101);
        assert!(error(ThrottleConfig { max_rejection, ..busy() }).contains("max_rejection 1.01"));
    }
}
