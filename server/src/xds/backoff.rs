//! Waits between attempts to connect.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Exponential backoff: each wait is twice as long as the one before, up to a bound; a share of it is random, so that
/// the servers of a fleet do not come back at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    jitter: f64,
}

impl Backoff {
    /// Waits from `initial` to `max`, of which the share `jitter` (0 to 1) is random.
    #[must_use]
    pub const fn new(initial: Duration, max: Duration, jitter: f64) -> Backoff {
        Backoff { initial, max, jitter }
    }

    /// The longest wait.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The wait after `failures` earlier attempts in a row.
    #[must_use]
    pub fn wait(&self, failures: u32) -> Duration {
        // seeded by the system, and other at each call
        let random = RandomState::new().hash_one(failures);
        let whole = self.bound(failures);
        #[expect(clippy::cast_precision_loss, reason = "32 bits fit into an f64")]
        let share = (random >> 32) as f64 / f64::from(u32::MAX);
        whole.mul_f64(1.0 - self.jitter * share)
    }

    fn bound(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 0.0);
        let waits: Vec<u64> = (0..8).map(|failures| backoff.wait(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.wait(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn a_share_is_random() {
        let backoff = Backoff::new(Duration::from_secs(8), Duration::from_secs(8), 0.5);
        let waits: Vec<Duration> = (0..100).map(|_| backoff.wait(0)).collect();
        assert!(waits.iter().all(|wait| (4..=8).contains(&wait.as_secs())), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
