//! Where this crate learns the time; nothing else reads a clock.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use tollgate_core::time::{Span, Time};

/// A clock that never goes backwards. Its zero means nothing: only differences do.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// This moment, in microseconds.
    fn now(&self) -> Time;
}

/// Where [`SystemClock`] starts to count.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// What [`SystemClock`] shows at its origin: later than any window reaches back.
const BASE: Time = Time::from_micros(86_400 * 1_000_000);

/// The process' monotonic clock. In a paused tokio runtime (`tokio::time::pause`) it stands still and moves
/// with the runtime's clock, so that breakers and timers agree in tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let origin = *ORIGIN;
        let now = tokio::time::Instant::now().into_std();
        match now.checked_duration_since(origin) {
            Some(since) => BASE + span(since),
            None => BASE - span(origin - now),
        }
    }
}

/// A clock that moves only when told to.
#[cfg(feature = "testing")]
#[derive(Clone, Debug)]
pub struct ManualClock(std::sync::Arc<std::sync::atomic::AtomicU64>);

#[cfg(feature = "testing")]
impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock(std::sync::Arc::new(BASE.as_micros().into()))
    }
}

#[cfg(feature = "testing")]
impl ManualClock {
    /// A clock that stands still. Its clones show the same time.
    #[must_use]
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves it, and all its clones, forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(span(by).as_micros(), std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(feature = "testing")]
impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// The time of day, as far as the machine knows it: only for dates that a target sends.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall_clock() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::EPOCH + span(since.unwrap_or_default())
}

/// A duration in whole microseconds, rounded down; longer ones become [`Span::MAX`].
#[must_use]
pub fn span(duration: Duration) -> Span {
    Span::from_wide(duration.as_micros())
}

/// The same length of time as the standard library counts it.
#[must_use]
pub const fn duration(span: Span) -> Duration {
    Duration::from_micros(span.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_does_not_go_backwards() {
        let one = SystemClock.now();
        assert!(SystemClock.now() >= one);
    }

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_follows_a_paused_runtime() {
        let before = SystemClock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(SystemClock.now() - before, Span::from_secs(3600));
    }

    #[cfg(feature = "testing")]
    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let (clock, start) = (ManualClock::new(), ManualClock::new().now());
        let other = clock.clone();
        clock.advance(Duration::from_millis(5));
        assert_eq!(other.now() - start, Span::from_millis(5));
    }
}
