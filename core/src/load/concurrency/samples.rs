//! The calls of one window, counted without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::time::{Span, Time};

/// Bits of the count in [`Samples::rtts`]; the rest holds the sum.
const COUNT_BITS: u32 = 16;
/// A window ends early with this many calls. The count has room for more, since other threads go on adding
/// until one has seen it.
const ENOUGH: u64 = 60_000;
/// Longer calls count as this long, 71 minutes: so the sum of a window fits into 48 bits.
const LONGEST: u64 = u32::MAX as u64;

#[derive(Debug)]
pub(super) struct Samples {
    /// Sum of the latencies in microseconds, then the number of calls: one value, so that both are taken at
    /// once.
    rtts: AtomicU64,
    /// The same of the dropped calls.
    drops: AtomicU64,
    /// Most calls in flight.
    peak: AtomicU32,
    started: AtomicU64,
    ends: AtomicU64,
}

/// A window that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    done: u64,
    rtt_sum: u64,
    pub(super) drops: u32,
    drop_rtt_sum: u64,
    pub(super) peak: u32,
    length: Span,
}

impl Samples {
    pub(super) fn new(now: Time, length: Span) -> Samples {
        Samples {
            rtts: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            peak: AtomicU32::new(0),
            started: AtomicU64::new(now.as_micros()),
            ends: AtomicU64::new((now + length).as_micros()),
        }
    }

    /// Counts a call that was answered; returns how many calls the window has.
    pub(super) fn done(&self, rtt: Span, in_flight: u32) -> u32 {
        self.add(&self.rtts, &self.drops, rtt, in_flight)
    }

    /// Counts a call that was dropped; returns how many calls the window has.
    pub(super) fn dropped(&self, rtt: Span, in_flight: u32) -> u32 {
        self.add(&self.drops, &self.rtts, rtt, in_flight)
    }

    fn add(&self, to: &AtomicU64, other: &AtomicU64, rtt: Span, in_flight: u32) -> u32 {
        if self.peak.load(Ordering::Relaxed) < in_flight {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
        let value = (rtt.as_micros().min(LONGEST) << COUNT_BITS) + 1;
        let before = to.fetch_add(value, Ordering::Relaxed);
        let count = unpack(before).0 + 1 + unpack(other.load(Ordering::Relaxed)).0;
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Ends the window if it is over at `now`, and begins the next. Of all threads one gets it.
    pub(super) fn close(&self, now: Time, length: Span) -> Option<Window> {
        let ends = self.ends.load(Ordering::Relaxed);
        let enough = |packed: &AtomicU64| unpack(packed.load(Ordering::Relaxed)).0 >= ENOUGH;
        if now.as_micros() < ends && !enough(&self.rtts) && !enough(&self.drops) {
            return None;
        }
        let next = (now + length).as_micros();
        self.ends.compare_exchange(ends, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let started = self.started.swap(now.as_micros(), Ordering::Relaxed);
        let (done, rtt_sum) = unpack(self.rtts.swap(0, Ordering::Relaxed));
        let (drops, drop_rtt_sum) = unpack(self.drops.swap(0, Ordering::Relaxed));
        Some(Window {
            done,
            rtt_sum,
            drops: u32::try_from(drops).unwrap_or(u32::MAX),
            drop_rtt_sum,
            peak: self.peak.swap(0, Ordering::Relaxed),
            length: now - Time::from_micros(started),
        })
    }
}

impl Window {
    pub(super) fn count(&self) -> u64 {
        self.done + u64::from(self.drops)
    }

    /// The mean of the calls that were answered; of the dropped ones if none was.
    pub(super) fn mean_rtt(&self) -> Span {
        let answered = self.rtt_sum.checked_div(self.done);
        let mean = answered.or_else(|| self.drop_rtt_sum.checked_div(u64::from(self.drops)));
        Span::from_micros(mean.unwrap_or(0))
    }

    /// Calls that were answered, per second.
    pub(super) fn throughput(&self) -> f64 {
        self.done as f64 * 1e6 / self.length.as_micros().max(1) as f64
    }
}

/// The number of calls and the sum of their latencies.
const fn unpack(value: u64) -> (u64, u64) {
    (value & ((1 << COUNT_BITS) - 1), value >> COUNT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn a_window_holds_means_of_what_was_answered() {
        let samples = Samples::new(at(0), Span::SECOND);
        assert_eq!(samples.done(Span::from_millis(10), 3), 1);
        assert_eq!(samples.done(Span::from_millis(20), 7), 2);
        assert_eq!(samples.dropped(Span::from_millis(500), 5), 3);
        assert!(samples.close(at(999_999), Span::SECOND).is_none());
        let window = samples.close(at(2_000_000), Span::SECOND).unwrap();
        assert_eq!((window.mean_rtt(), window.peak, window.drops), (Span::from_millis(15), 7, 1));
        assert!((window.throughput() - 1.0).abs() < 1e-9);
        assert!(samples.close(at(2_000_001), Span::SECOND).is_none(), "the next one has begun");
    }

    #[test]
    fn only_drops_give_their_own_mean() {
        let samples = Samples::new(at(0), Span::SECOND);
        samples.dropped(Span::from_secs(5), 1);
        let window = samples.close(at(1_000_000), Span::SECOND).unwrap();
        assert_eq!((window.mean_rtt(), window.count()), (Span::from_secs(5), 1));
    }

    #[test]
    fn many_long_calls_do_not_overflow() {
        let samples = Samples::new(at(0), Span::SECOND);
        for _ in 0..ENOUGH {
            samples.done(Span::MAX, 1);
        }
        let window = samples.close(at(1), Span::SECOND).unwrap();
        assert_eq!((window.count(), window.mean_rtt()), (ENOUGH, Span::from_micros(LONGEST)));
    }
}
