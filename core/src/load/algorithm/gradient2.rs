//! Gradient2: the last window against a long average.

use super::{Bounds, Sample};
use crate::load::ratio::{Ratio, floor_u32};
use crate::load::{OutOfRange, within};

/// Samples whose plain mean starts the long average.
const WARM_UP: u32 = 10;

/// Gradient2 of Netflix' concurrency-limits: `gradient = clamp(0.5, 1, tolerance * long / short)`, and the
/// limit moves by `smoothing` towards `limit * gradient + queue`.
///
/// One addition: a dropped sample counts as a gradient of at most `backoff`. Where a target refuses quickly,
/// latency alone shows nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gradient2Config {
    /// Calls that may wait at the target: `1..=1000`. Default 4.
    pub queue: u32,
    /// How much longer than the average a window may take before the limit falls: `1..=10`. Default 1.5.
    pub tolerance: Ratio,
    /// How much of each change is taken over: `0.01..=1`. Default 0.2.
    pub smoothing: Ratio,
    /// Samples of the long average: `10..=100_000`. Default 600, ten minutes of one-second windows.
    pub long_window: u32,
    /// The most of the limit that a dropped sample aims at: `0.1..=0.999999`. Default 0.5.
    pub backoff: Ratio,
}

impl Default for Gradient2Config {
    fn default() -> Gradient2Config {
        Gradient2Config {
            queue: 4,
            tolerance: Ratio::from_percent(150),
            smoothing: Ratio::from_percent(20),
            long_window: 600,
            backoff: Ratio::from_percent(50),
        }
    }
}

impl Gradient2Config {
    fn check(&self) -> Result<(), OutOfRange> {
        within("gradient2.queue", self.queue, 1..=1_000)?;
        within("gradient2.tolerance", self.tolerance, Ratio::ONE..=Ratio::from_percent(1_000))?;
        within("gradient2.smoothing", self.smoothing, Ratio::from_percent(1)..=Ratio::ONE)?;
        within("gradient2.long_window", self.long_window, WARM_UP..=100_000)?;
        let most = Ratio::from_millionths(999_999);
        within("gradient2.backoff", self.backoff, Ratio::from_percent(10)..=most)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Gradient2 {
    config: Gradient2Config,
    bounds: Bounds,
    estimate: f64,
    long: Average,
}

impl Gradient2 {
    pub(super) fn new(config: Gradient2Config, bounds: Bounds) -> Result<Gradient2, OutOfRange> {
        config.check()?;
        let long = Average::new(config.long_window);
        Ok(Gradient2 { config, bounds, estimate: f64::from(bounds.initial), long })
    }

    pub(super) fn update(&mut self, sample: &Sample) {
        if sample.dropped {
            // the latency of calls that were refused or given up would bend the average
            self.move_to(self.estimate * self.config.backoff.as_f64());
            return;
        }
        let short = sample.rtt.as_micros().max(1) as f64;
        let long = self.long.add(short);
        if long > 2.0 * short {
            // after a long overload the average would take ten minutes to come back
            self.long.value *= 0.95;
        }
        if f64::from(sample.in_flight) * 2.0 < self.estimate {
            return;
        }
        let gradient = (self.config.tolerance.as_f64() * long / short).clamp(0.5, 1.0);
        self.move_to(self.estimate * gradient + f64::from(self.config.queue));
    }

    fn move_to(&mut self, limit: f64) {
        let part = self.config.smoothing.as_f64();
        self.estimate = self.bounds.clamp((1.0 - part) * self.estimate + part * limit);
    }

    pub(super) fn limit(&self) -> u32 {
        floor_u32(self.estimate)
    }

    pub(super) fn set(&mut self, limit: u32) {
        self.estimate = self.bounds.clamp(f64::from(limit));
    }
}

/// An exponential average that starts as the plain mean of its first [`WARM_UP`] samples.
#[derive(Clone, Debug)]
struct Average {
    factor: f64,
    count: u32,
    value: f64,
}

impl Average {
    fn new(window: u32) -> Average {
        Average { factor: 2.0 / (f64::from(window) + 1.0), count: 0, value: 0.0 }
    }

    fn add(&mut self, sample: f64) -> f64 {
        let factor = if self.count < WARM_UP {
            self.count += 1;
            1.0 / f64::from(self.count)
        } else {
            self.factor
        };
        self.value += (sample - self.value) * factor;
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn gradient() -> Gradient2 {
        Gradient2::new(Gradient2Config::default(), Bounds::default()).unwrap()
    }

    fn sample(millis: u64, in_flight: u32) -> Sample {
        Sample { rtt: Span::from_millis(millis), in_flight, dropped: false }
    }

    #[test]
    fn the_average_warms_up_as_a_plain_mean() {
        let mut average = Average::new(100);
        for step in 0..10 {
            let mean = average.add(10.0 + f64::from(step));
            assert!((mean - (10.0 + f64::from(step) / 2.0)).abs() < 1e-9, "{mean}");
        }
        assert!((average.add(100.0) - 16.193).abs() < 0.001);
    }

    #[test]
    fn a_steady_latency_grows_by_a_fifth_of_the_queue() {
        let mut gradient = gradient();
        let limits: Vec<u32> = (0..5)
            .map(|_| {
                gradient.update(&sample(10, 20));
                gradient.limit()
            })
            .collect();
        assert_eq!(limits, [20, 21, 22, 23, 24], "0.8 more each");
    }

    #[test]
    fn a_window_of_five_times_the_average_falls_by_a_tenth_and_the_queue() {
        let mut gradient = gradient();
        for _ in 0..WARM_UP {
            gradient.update(&sample(10, 0));
        }
        gradient.update(&sample(50, 20));
        let expected = 0.8 * 20.0 + 0.2 * (20.0 * 0.5 + 4.0);
        assert!((gradient.estimate - expected).abs() < 1e-9, "{}", gradient.estimate);
    }

    #[test]
    fn unused_room_neither_grows_nor_falls() {
        let mut gradient = gradient();
        for millis in [10, 10, 500] {
            gradient.update(&sample(millis, 9));
        }
        assert_eq!(gradient.limit(), 20);
    }

    #[test]
    fn a_drop_falls_and_leaves_the_average_alone() {
        let mut gradient = gradient();
        gradient.update(&sample(10, 0));
        gradient.update(&Sample { dropped: true, ..sample(1, 20) });
        assert!((gradient.estimate - 18.0).abs() < 1e-9);
        assert!((gradient.long.value - 10_000.0).abs() < 1e-9);
    }

    #[test]
    fn after_an_overload_the_average_comes_back_quickly() {
        let mut gradient = gradient();
        for _ in 0..WARM_UP {
            gradient.update(&sample(1_000, 0));
        }
        for _ in 0..60 {
            gradient.update(&sample(10, 0));
        }
        assert!(gradient.long.value < 60_000.0, "{}", gradient.long.value);
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| Gradient2::new(config, Bounds::default()).unwrap_err().to_string();
        let default = Gradient2Config::default();
        let tolerance = Gradient2Config { tolerance: Ratio::from_percent(99), ..default };
        assert_eq!(error(tolerance), "gradient2.tolerance 0.99 is out of range: 1 to 10");
        assert!(error(Gradient2Config { queue: 0, ..default }).starts_with("gradient2.queue 0 "));
        assert!(error(Gradient2Config { long_window: 9, ..default }).starts_with("gradient2.long_window 9 "));
        assert!(error(Gradient2Config { smoothing: Ratio::ZERO, ..default }).contains("smoothing"));
        assert!(error(Gradient2Config { backoff: Ratio::ONE, ..default }).contains("backoff"));
    }
}
