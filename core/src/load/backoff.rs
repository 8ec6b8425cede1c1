//! How long to wait before the next attempt.

use super::hint::Hint;
use super::random::scaled;
use super::ratio::Ratio;
use super::{OutOfRange, within};
use crate::time::Span;

/// How much of a delay is left to chance (Brooker, "Exponential Backoff and Jitter", 2015).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Jitter {
    /// All of it: between nothing and the delay. Spreads retries best.
    #[default]
    Full,
    /// Half of it: between half and all of the delay.
    Equal,
    /// Nothing.
    None,
}

/// Exponential backoff with a cap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackoffConfig {
    /// Attempts in all, the first one too: `1..=100`. Default 3.
    pub attempts: u32,
    /// The delay before the first retry: `1ms..=60s`. Default 50 ms.
    pub initial: Span,
    /// How much longer each delay is than the one before: `1..=10`. Default 2.
    pub factor: Ratio,
    /// The longest delay: `initial..=1h`. Default 2 s.
    pub max: Span,
    /// What is left to chance. Default all.
    pub jitter: Jitter,
}

impl Default for BackoffConfig {
    fn default() -> BackoffConfig {
        BackoffConfig {
            attempts: 3,
            initial: Span::from_millis(50),
            factor: Ratio::from_percent(200),
            max: Span::from_secs(2),
            jitter: Jitter::Full,
        }
    }
}

/// Delays between attempts. Pure: the attempt's number and a roll give the delay.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    config: BackoffConfig,
}

impl Backoff {
    /// Backoff with the delays of `config`.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: BackoffConfig) -> Result<Backoff, OutOfRange> {
        within("backoff.attempts", config.attempts, 1..=100)?;
        within("backoff.initial", config.initial, Span::from_millis(1)..=Span::from_secs(60))?;
        within("backoff.factor", config.factor, Ratio::ONE..=Ratio::from_percent(1_000))?;
        within("backoff.max", config.max, config.initial..=Span::from_secs(3_600))?;
        Ok(Backoff { config })
    }

    /// The delay before retry number `retry` (1 is the first; 0 counts as 1); `roll` is a random number, even
    /// over all `u32`.
    #[must_use]
    pub fn delay(&self, retry: u32, roll: u32) -> Span {
        let whole = self.whole(retry).as_micros();
        Span::from_micros(match self.config.jitter {
            Jitter::Full => scaled(roll, whole),
            Jitter::Equal => whole - whole / 2 + scaled(roll, whole / 2),
            Jitter::None => whole,
        })
    }

    /// The delay without jitter.
    fn whole(&self, retry: u32) -> Span {
        let max = self.config.max;
        let mut delay = self.config.initial;
        for _ in 1..retry.min(self.config.attempts) {
            delay = Span::from_micros(self.config.factor.of(delay.as_micros())).min(max);
        }
        delay
    }

    /// When to try again after `retry - 1` retries, given what the server said: `None` if not at all. What the
    /// server names is obeyed as it is.
    #[must_use]
    pub fn next(&self, retry: u32, roll: u32, hint: Hint) -> Option<Span> {
        if hint.no_retry || retry >= self.config.attempts {
            return None;
        }
        Some(hint.after.unwrap_or_else(|| self.delay(retry, roll)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(jitter: Jitter) -> Backoff {
        let config = BackoffConfig { attempts: 10, jitter, ..BackoffConfig::default() };
        Backoff::new(config).unwrap()
    }

    fn millis(delays: [Span; 8]) -> [u64; 8] {
        delays.map(|delay| delay.as_micros() / 1_000)
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let none = backoff(Jitter::None);
        let delays = [1, 2, 3, 4, 5, 6, 7, 8].map(|retry| none.delay(retry, 0));
        assert_eq!(millis(delays), [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(none.delay(u32::MAX, 0), Span::from_secs(2));
        assert_eq!(none.delay(0, 0), Span::from_millis(50));
    }

    #[test]
    fn jitter_reaches_both_ends() {
        let ends = |jitter, retry| (backoff(jitter).delay(retry, 0), backoff(jitter).delay(retry, u32::MAX));
        assert_eq!(ends(Jitter::Full, 2), (Span::ZERO, Span::from_millis(100)));
        assert_eq!(ends(Jitter::Equal, 2), (Span::from_millis(50), Span::from_millis(100)));
        let odd = BackoffConfig { initial: Span::from_micros(1_001), ..BackoffConfig::default() };
        let odd = Backoff::new(BackoffConfig { jitter: Jitter::Equal, ..odd }).unwrap();
        let ends = [0, u32::MAX].map(|roll| odd.delay(1, roll).as_micros());
        assert_eq!(ends, [501, 1_001]);
    }

    #[test]
    fn the_server_decides() {
        let default = Backoff::new(BackoffConfig::default()).unwrap();
        let told = Hint { after: Some(Span::from_secs(7)), no_retry: false };
        assert_eq!(default.next(1, 0, told), Some(Span::from_secs(7)));
        assert_eq!(default.next(1, u32::MAX, Hint::default()), Some(Span::from_millis(50)));
        assert_eq!(default.next(1, 0, Hint::NO_RETRY), None);
        assert_eq!(default.next(3, 0, told), None, "three attempts are two retries");
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| Backoff::new(config).unwrap_err().to_string();
        let default = BackoffConfig::default();
        let max = Span::from_millis(49);
        let found = error(BackoffConfig { max, ..default });
        assert_eq!(found, "backoff.max 49ms is out of range: 50ms to 3600s");
        assert!(error(BackoffConfig { attempts: 0, ..default }).starts_with("backoff.attempts 0 "));
        assert!(error(BackoffConfig { factor: Ratio::ZERO, ..default }).starts_with("backoff.factor 0 "));
        assert!(error(BackoffConfig { initial: Span::MICRO, ..default }).starts_with("backoff.initial 1us "));
    }
}
