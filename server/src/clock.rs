//! The one place that reads the wall clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_core::time::{Span, Time};

/// Tells the time. The store's clock rules a key; for the memory store that is this one.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Time;
}

/// The machine's wall clock; a clock before 1970 reads as 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// A clock that only goes forwards, whatever is done to the wall clock: it begins with what that shows.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    base: Time,
    began: tokio::time::Instant,
}

impl Steady {
    /// A clock that shows `now` now.
    #[must_use]
    pub fn new(now: Time) -> Steady {
        Steady { base: now, began: tokio::time::Instant::now() }
    }

    /// When the clock will show `time`.
    #[must_use]
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        self.began + std::time::Duration::from_micros((time - self.base).as_micros())
    }
}

impl Clock for Steady {
    fn now(&self) -> Time {
        self.base + Span::from_wide(self.began.elapsed().as_micros())
    }
}

/// A clock that stands still until it is moved: for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Time) -> ManualClock {
        ManualClock(AtomicU64::new(now.as_micros()))
    }

    /// Moves the clock to `now`, forwards or backwards.
    pub fn set(&self, now: Time) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Span) {
        self.set(self.now() + by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::SeqCst))
    }
}
