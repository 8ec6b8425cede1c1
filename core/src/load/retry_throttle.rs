//! gRPC's own rule for when to stop retrying, as in a service config.

use std::sync::atomic::{AtomicU32, Ordering};

use super::ratio::Ratio;
use super::{OutOfRange, within};

/// One token, in the unit of the bucket.
const TOKEN: u32 = 1_000_000;

/// `retryThrottling` of a service config (gRFC A6). An alternative to [`RetryBudget`](super::budget): it
/// needs no time, and knows no floor of retries per second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryThrottleConfig {
    /// Tokens of a full bucket: `1..=1000`. Default 10.
    pub max_tokens: u32,
    /// What a success gives back, in tokens: `0.001..=1000`. Default 0.1.
    pub token_ratio: Ratio,
}

impl Default for RetryThrottleConfig {
    fn default() -> RetryThrottleConfig {
        RetryThrottleConfig { max_tokens: 10, token_ratio: Ratio::from_percent(10) }
    }
}

/// A bucket of which each failure takes a token and each success gives a part of one; no retries while it is
/// half empty. For many threads; no lock.
#[derive(Debug)]
pub struct RetryThrottle {
    max: u32,
    gain: u32,
    tokens: AtomicU32,
}

impl RetryThrottle {
    /// A full bucket.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: RetryThrottleConfig) -> Result<RetryThrottle, OutOfRange> {
        let gain = config.token_ratio;
        within("retry_throttle.max_tokens", config.max_tokens, 1..=1_000)?;
        let (least, most) = (Ratio::from_millionths(1_000), Ratio::from_millionths(1_000 * TOKEN));
        within("retry_throttle.token_ratio", gain, least..=most)?;
        let max = config.max_tokens * TOKEN;
        Ok(RetryThrottle { max, gain: gain.millionths(), tokens: AtomicU32::new(max) })
    }

    /// A call failed with a code that may be retried, or the server forbade a retry.
    pub fn failed(&self) {
        self.update(|tokens| tokens.saturating_sub(TOKEN));
    }

    /// A call succeeded, or failed with a code that is not retried.
    pub fn succeeded(&self) {
        self.update(|tokens| tokens.saturating_add(self.gain).min(self.max));
    }

    /// Whether a failed call may be retried: more than half of the tokens are left.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) > self.max / 2
    }

    fn update(&self, change: impl Fn(u32) -> u32) {
        // always succeeds: the change is never `None`
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| Some(change(tokens)));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn half_a_bucket_stops_retries_and_successes_bring_them_back() {
        let throttle = RetryThrottle::new(RetryThrottleConfig::default()).unwrap();
        let allowed: Vec<bool> = (0..6)
            .map(|_| {
                throttle.failed();
                throttle.allows()
            })
            .collect();
        assert_eq!(allowed, [true, true, true, true, false, false], "5 of 10 is not more than half");
        (0..10).for_each(|_| throttle.succeeded());
        assert!(!throttle.allows(), "5.0");
        throttle.succeeded();
        assert!(throttle.allows(), "5.1");
    }

    #[test]
    fn the_bucket_neither_overflows_nor_falls_below_nothing() {
        let throttle = RetryThrottle::new(RetryThrottleConfig::default()).unwrap();
        (0..100).for_each(|_| throttle.succeeded());
        assert_eq!(throttle.tokens.load(Ordering::Relaxed), throttle.max);
        (0..100).for_each(|_| throttle.failed());
        assert_eq!(throttle.tokens.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn threads_lose_no_token() {
        let config = RetryThrottleConfig { max_tokens: 1_000, ..RetryThrottleConfig::default() };
        let throttle = RetryThrottle::new(config).unwrap();
        (0..500).for_each(|_| throttle.failed());
        let work = || (0..1_000).for_each(|_| throttle.succeeded());
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(throttle.tokens.load(Ordering::Relaxed), 900 * TOKEN);
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |max_tokens, percent| {
            let token_ratio = Ratio::from_percent(percent);
            RetryThrottle::new(RetryThrottleConfig { max_tokens, token_ratio }).unwrap_err().to_string()
        };
        assert_eq!(error(1_001, 10), "retry_throttle.max_tokens 1001 is out of range: 1 to 1000");
        assert_eq!(error(10, 0), "retry_throttle.token_ratio 0 is out of range: 0.001 to 1000");
    }
}
