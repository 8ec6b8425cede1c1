//! The load of an endpoint, and the better of two.

use std::sync::atomic::{AtomicU64, Ordering};

use super::random::scaled;
use super::{OutOfRange, within};
use crate::time::{Span, Time};

/// How the latency of an endpoint is remembered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EwmaConfig {
    /// What an endpoint is taken for before its first answer: `1us..=60s`. Default 30 ms.
    pub default_rtt: Span,
    /// After how long an observation counts for 1/e: `1ms..=1h`. Default 10 s.
    pub decay: Span,
    /// The least that a failed endpoint is taken for: `1us..=1h`. Default 5 s.
    pub penalty: Span,
}

impl Default for EwmaConfig {
    fn default() -> EwmaConfig {
        EwmaConfig {
            default_rtt: Span::from_millis(30),
            decay: Span::from_secs(10),
            penalty: Span::from_secs(5),
        }
    }
}

/// The peak-sensitive moving average of Finagle's balancer: a slower answer counts at once, a quicker one only
/// with time. For many threads; no lock.
#[derive(Debug)]
pub struct PeakEwma {
    default_rtt: f64,
    decay: f64,
    penalty: Span,
    /// The average in microseconds, as the bits of an `f64`; negative before the first observation.
    cost: AtomicU64,
    /// When it was last observed, in microseconds.
    seen: AtomicU64,
}

impl PeakEwma {
    /// An endpoint of which nothing is known.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: &EwmaConfig, now: Time) -> Result<PeakEwma, OutOfRange> {
        let hour = Span::from_secs(3_600);
        within("ewma.default_rtt", config.default_rtt, Span::MICRO..=Span::from_secs(60))?;
        within("ewma.decay", config.decay, Span::from_millis(1)..=hour)?;
        within("ewma.penalty", config.penalty, Span::MICRO..=hour)?;
        Ok(PeakEwma {
            default_rtt: micros(config.default_rtt),
            decay: micros(config.decay),
            penalty: config.penalty,
            cost: AtomicU64::new((-1.0_f64).to_bits()),
            seen: AtomicU64::new(now.as_micros()),
        })
    }

    /// A call took `rtt`.
    pub fn observe(&self, now: Time, rtt: Span) {
        let rtt = micros(rtt);
        let weight = self.pass(now);
        // compared anew on each try: another thread may have seen a peak
        self.update(|cost| match cost {
            cost if cost < 0.0 => rtt,
            cost => (cost * weight + rtt * (1.0 - weight)).max(rtt),
        });
    }

    /// A call failed: the endpoint is taken for at least the configured penalty or `at_least` (what the server
    /// asked for), from where it decays.
    pub fn penalize(&self, now: Time, at_least: Span) {
        let weight = self.pass(now);
        let least = micros(self.penalty.max(at_least));
        self.update(|cost| (cost * weight).max(least));
    }

    /// What another call is expected to take: the average, decayed to `now`, times the calls in flight and the
    /// new one. In microseconds, above 0; for comparing endpoints.
    #[must_use]
    pub fn load(&self, now: Time, in_flight: u32) -> f64 {
        let cost = f64::from_bits(self.cost.load(Ordering::Relaxed));
        let cost = if cost < 0.0 {
            self.default_rtt
        } else {
            let seen = Time::from_micros(self.seen.load(Ordering::Relaxed));
            cost * self.weight(now - seen)
        };
        // an endpoint that nobody asked for long is nearly free, but its calls still count
        cost.max(1.0) * (f64::from(in_flight) + 1.0)
    }

    /// Claims the time since the last observation, so that of two threads only one decays for it; returns the
    /// weight that is left of the past.
    fn pass(&self, now: Time) -> f64 {
        let seen = self.seen.fetch_max(now.as_micros(), Ordering::Relaxed);
        self.weight(now - Time::from_micros(seen))
    }

    fn weight(&self, elapsed: Span) -> f64 {
        (-micros(elapsed) / self.decay).exp()
    }

    fn update(&self, change: impl Fn(f64) -> f64) {
        let change = |bits| Some(change(f64::from_bits(bits)).to_bits());
        // always succeeds: `change` is never `None`
        let _ = self.cost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

fn micros(span: Span) -> f64 {
    span.as_micros() as f64
}

/// Two different numbers below `count`, each pair as likely, for the power of two choices (Mitzenmacher,
/// 2001): ask the less loaded of the two. `rolls` are random numbers, even over all `u32`. `None` below two.
#[must_use]
pub fn choose_two(count: usize, rolls: (u32, u32)) -> Option<(usize, usize)> {
    let most = u64::try_from(count).ok()?;
    let one = scaled(rolls.0, most.checked_sub(1)?);
    let other = scaled(rolls.1, most.checked_sub(2)?);
    let other = if other >= one { other + 1 } else { other };
    Some((usize::try_from(one).ok()?, usize::try_from(other).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::SplitMix64;

    fn at(secs: u64) -> Time {
        Time::from_micros(secs * 1_000_000)
    }

    fn ewma() -> PeakEwma {
        PeakEwma::new(&EwmaConfig::default(), at(0)).unwrap()
    }

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} instead of {expected}");
    }

    #[test]
    fn the_first_answer_replaces_the_default() {
        let ewma = ewma();
        near(ewma.load(at(100), 0), 30_000.0);
        ewma.observe(at(100), Span::from_micros(400));
        near(ewma.load(at(100), 0), 400.0);
        near(ewma.load(at(100), 3), 1_600.0);
    }

    #[test]
    fn a_peak_counts_at_once_and_decays_slowly() {
        let ewma = ewma();
        ewma.observe(at(0), Span::from_millis(1));
        ewma.observe(at(0), Span::from_millis(100));
        near(ewma.load(at(0), 0), 100_000.0);
        ewma.observe(at(10), Span::from_millis(1));
        let past = (-1.0_f64).exp();
        near(ewma.load(at(10), 0), 100_000.0 * past + 1_000.0 * (1.0 - past));
        near(ewma.load(at(20), 0), (100_000.0 * past + 1_000.0 * (1.0 - past)) * past);
    }

    #[test]
    fn a_failure_costs_the_penalty_or_what_the_server_said() {
        let ewma = ewma();
        ewma.penalize(at(0), Span::ZERO);
        near(ewma.load(at(0), 0), 5e6);
        ewma.penalize(at(0), Span::from_secs(30));
        near(ewma.load(at(0), 0), 3e7);
        ewma.penalize(at(0), Span::ZERO);
        near(ewma.load(at(0), 0), 3e7);
    }

    #[test]
    fn an_old_clock_neither_decays_nor_fails() {
        let ewma = ewma();
        ewma.observe(at(50), Span::from_millis(8));
        ewma.observe(at(40), Span::from_millis(2));
        near(ewma.load(at(30), 0), 8_000.0);
        near(ewma.load(at(100_000), 1), 2.0);
    }

    #[test]
    fn two_choices_are_different_and_even() {
        assert_eq!((choose_two(0, (1, 1)), choose_two(1, (1, 1))), (None, None));
        let mut random = SplitMix64::new(5);
        let mut counts = [[0_u32; 4]; 4];
        for _ in 0..12_000 {
            let (one, other) = choose_two(4, (random.next_u32(), random.next_u32())).unwrap();
            counts[one][other] += 1;
        }
        let even = |index: usize| {
            let expected = if index / 4 == index % 4 { 0..1 } else { 900..1_100 };
            expected.contains(&counts[index / 4][index % 4])
        };
        assert!((0..16).all(even), "{counts:?}");
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| PeakEwma::new(&config, at(0)).unwrap_err().to_string();
        let default = EwmaConfig::default();
        let decay = Span::MICRO;
        assert_eq!(error(EwmaConfig { decay, ..default }), "ewma.decay 1us is out of range: 1ms to 3600s");
        assert!(error(EwmaConfig { default_rtt: Span::ZERO, ..default }).starts_with("ewma.default_rtt 0s "));
        assert!(error(EwmaConfig { penalty: Span::ZERO, ..default }).starts_with("ewma.penalty 0s "));
    }
}
