//! Whether more calls in flight still bring more done.

use std::collections::VecDeque;

use crate::load::{OutOfRange, within};

/// The throughput guard: it refuses growth that brings queueing and no work.
///
/// Latency alone cannot tell a slower target from a longer queue: a base that is measured under load, or an
/// average of loaded windows, drifts upwards with the limit. The guard correlates calls in flight with
/// throughput and with latency over the last windows, an idea of failsafe-go's adaptive limiter and Uber's
/// Cinnamon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuardConfig {
    /// Windows that are correlated: `5..=1000`. Default 50.
    pub windows: u32,
}

impl Default for GuardConfig {
    fn default() -> GuardConfig {
        GuardConfig { windows: 50 }
    }
}

/// One window of calls, as the guard sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Most calls that were in flight at once.
    pub in_flight: f64,
    /// Calls that ended well, per second.
    pub throughput: f64,
    /// Their mean latency, in microseconds.
    pub rtt: f64,
}

/// Below this correlation of calls in flight and throughput more calls do no more work.
const WEAK: f64 = 0.3;
/// Above this correlation of calls in flight and latency more calls only wait.
const STRONG: f64 = 0.5;
/// Below this variation (standard deviation over mean) throughput is flat.
const FLAT: f64 = 0.2;
/// Fewer windows tell nothing.
const LEAST: usize = 5;

/// The last windows and their correlations.
#[derive(Clone, Debug)]
pub struct Guard {
    windows: usize,
    loads: VecDeque<Load>,
}

impl Guard {
    /// A guard that has seen nothing.
    ///
    /// # Errors
    /// [`OutOfRange`] names the setting that is.
    pub fn new(config: GuardConfig) -> Result<Guard, OutOfRange> {
        within("guard.windows", config.windows, 5..=1_000)?;
        Ok(Guard { windows: usize::try_from(config.windows).unwrap_or(LEAST), loads: VecDeque::new() })
    }

    /// Adds a window, and forgets the oldest if there are enough.
    pub fn observe(&mut self, load: Load) {
        if self.loads.len() == self.windows {
            self.loads.pop_front();
        }
        self.loads.push_back(load);
    }

    /// Whether the windows show that more calls in flight bring no more throughput.
    #[must_use]
    pub fn saturated(&self) -> bool {
        if self.loads.len() < LEAST {
            return false;
        }
        let in_flight = Series::new(&self.loads, |load| load.in_flight);
        let throughput = Series::new(&self.loads, |load| load.throughput);
        let rtt = Series::new(&self.loads, |load| load.rtt);
        let work = in_flight.correlation(&throughput, &self.loads);
        let wait = in_flight.correlation(&rtt, &self.loads);
        let flat = throughput.deviation < FLAT * throughput.mean;
        work < 0.0 && wait > 0.0 || wait > STRONG && (work < WEAK || flat)
    }
}

struct Series {
    of: fn(&Load) -> f64,
    mean: f64,
    /// The standard deviation.
    deviation: f64,
}

impl Series {
    fn new(loads: &VecDeque<Load>, of: fn(&Load) -> f64) -> Series {
        let count = loads.len() as f64;
        let mean = loads.iter().map(of).sum::<f64>() / count;
        let variance = loads.iter().map(|load| (of(load) - mean).powi(2)).sum::<f64>() / count;
        Series { of, mean, deviation: variance.sqrt() }
    }

    /// Pearson's coefficient, in `[-1, 1]`; 0 if either does not vary.
    fn correlation(&self, other: &Series, loads: &VecDeque<Load>) -> f64 {
        let product = |load: &Load| ((self.of)(load) - self.mean) * ((other.of)(load) - other.mean);
        let covariance = loads.iter().map(product).sum::<f64>() / loads.len() as f64;
        let spread = self.deviation * other.deviation;
        if spread > f64::EPSILON { (covariance / spread).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard that saw `1..=windows` calls in flight.
    fn guard(windows: u32, throughput: fn(f64) -> f64, rtt: fn(f64) -> f64) -> Guard {
        let mut guard = Guard::new(GuardConfig::default()).unwrap();
        for calls in (1..=windows).map(f64::from) {
            guard.observe(Load { in_flight: calls, throughput: throughput(calls), rtt: rtt(calls) });
        }
        guard
    }

    #[test]
    fn work_that_grows_with_the_calls_is_no_saturation() {
        assert!(!guard(50, |calls| calls * 100.0, |_| 10.0).saturated());
        assert!(!guard(50, |calls| calls * 100.0, |calls| calls * 10.0).saturated());
    }

    #[test]
    fn calls_that_only_wait_are() {
        assert!(guard(50, |_| 100.0, |calls| calls * 10.0).saturated());
        let noisy = |calls: f64| calls / 10.0 + calls % 7.0 * 10.0;
        assert!(guard(50, |calls| 1_000.0 - calls, noisy).saturated(), "less work and a little more wait");
        assert!(!guard(50, |_| 100.0, noisy).saturated(), "a little more wait alone");
    }

    #[test]
    fn few_windows_and_windows_without_change_tell_nothing() {
        assert!(!guard(4, |_| 100.0, |calls| calls * 10.0).saturated());
        assert!(!guard(50, |_| 100.0, |_| 10.0).saturated());
    }

    #[test]
    fn old_windows_are_forgotten() {
        let mut guard = guard(50, |_| 100.0, |calls| calls * 10.0);
        for calls in (1..=50).map(f64::from) {
            guard.observe(Load { in_flight: calls, throughput: calls, rtt: 10.0 });
        }
        assert_eq!(guard.loads.len(), 50);
        assert!(!guard.saturated());
    }

    #[test]
    fn the_number_of_windows_has_a_range() {
        let error = Guard::new(GuardConfig { windows: 4 }).unwrap_err();
        assert_eq!(error.to_string(), "guard.windows 4 is out of range: 5 to 1000");
    }
}
