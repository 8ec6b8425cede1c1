//! What every engine must never break: how much each limit may admit in *every* interval of time.
//!
//! Independent of how a limit decides: it looks only at what was admitted. Property tests, simulations and
//! the load test's oracle judge by it.

mod observed;

pub use self::observed::{Observed, surely_broken};
use crate::limit::{FixedWindow, LeakyBucket, Limit, Window};
use crate::time::{Span, Time};

/// Something that was admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Admission {
    /// When, by the clock that ruled the decision; if that went backwards, the latest instant at which
    /// anything was charged before. For a leaky bucket: when it leaves, `now + wait`.
    pub at: Time,
    /// Units taken.
    pub cost: u64,
}

/// An interval that holds more than its limit allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Breach {
    /// The first admission of the interval, or the start of the window.
    pub from: Time,
    /// The admission that was too much; it belongs to the interval.
    pub until: Time,
    /// Units admitted from `from` to `until`.
    pub admitted: u128,
    /// Units that may have been.
    pub allowed: u128,
}

impl Breach {
    /// Units too many, at least 1.
    #[must_use]
    pub const fn excess(&self) -> u128 {
        self.admitted.saturating_sub(self.allowed)
    }
}

/// The first breach of `limit`, if there is one, over every closed interval of time from the first admission
/// to the last.
///
/// `admissions` are in order of decision; one before its predecessor's time counts at that time, as the
/// limits themselves have it when a clock goes backwards. Refunds and changes of the limit are not
/// known here: with refunds an interval may hold that much more.
///
/// In an interval of length `d` there may be
///
/// | limit | units |
/// |---|---|
/// | token bucket | `burst + floor(d * rate)` |
/// | leaky bucket, departures | those of the last, and `floor(((d + 1us) * count - 1) / per)` before it |
/// | fixed window, aligned or calendar | `limit` in each window |
/// | fixed window, anchored | `limit` in one instant, `2 * limit` up to one window, `limit * (2 + d / length)` |
/// | sliding window | `floor(limit * (1 + d / length))` |
/// | sliding log | `limit` if `d < length` |
///
/// Time O(n) (for calendar windows O(n) and a binary search per window), memory O(1).
#[must_use]
pub fn broken(limit: &Limit, admissions: &[Admission]) -> Option<Breach> {
    match limit {
        Limit::TokenBucket(bucket) => {
            let (count, per) = (bucket.rate().count(), bucket.rate().per());
            Line { burst: bucket.burst(), count, per }.broken(admissions)
        }
        Limit::LeakyBucket(bucket) => departures(bucket, admissions),
        Limit::FixedWindow(fixed) => match fixed.window() {
            Window::Anchored(length) => anchored(fixed.limit(), *length, admissions),
            Window::Epoch(_) | Window::Calendar(_) => windows(fixed, admissions),
        },
        Limit::SlidingWindow(sliding) => {
            let (limit, per) = (sliding.limit(), sliding.length().as_micros());
            Line { burst: limit, count: limit, per }.broken(admissions)
        }
        Limit::SlidingLog(log) => within(log.limit(), log.length() - Span::MICRO, admissions),
    }
}

/// Admissions of something, at times that never go back.
fn timeline(admissions: &[Admission]) -> impl Iterator<Item = Admission> + Clone {
    let mut latest = Time::EPOCH;
    admissions.iter().filter(|admission| admission.cost > 0).map(move |admission| {
        latest = latest.max(admission.at);
        Admission { at: latest, cost: admission.cost }
    })
}

/// At most `burst + d * count / per` units in any interval of length `d`.
#[derive(Clone, Copy)]
struct Line {
    burst: u64,
    count: u64,
    per: u64,
}

impl Line {
    fn broken(self, admissions: &[Admission]) -> Option<Breach> {
        let mut worst = Worst::default();
        for admission in timeline(admissions) {
            worst.advance(admission.at, self.count);
            worst.add(admission.cost, self.per);
            if worst.scaled > u128::from(self.burst) * u128::from(self.per) {
                let earned = worst.length() * u128::from(self.count) / u128::from(self.per);
                return Some(worst.breach(worst.units, u128::from(self.burst) + earned));
            }
        }
        None
    }
}

fn departures(bucket: &LeakyBucket, admissions: &[Admission]) -> Option<Breach> {
    let (count, per) = (bucket.rate().count(), bucket.rate().per());
    let mut worst = Worst::default();
    for admission in timeline(admissions) {
        worst.advance(admission.at, count);
        if worst.scaled >= u128::from(count) {
            let before = ((worst.length() + 1) * u128::from(count) - 1) / u128::from(per);
            let cost = u128::from(admission.cost);
            return Some(worst.breach(worst.units + cost, before + cost));
        }
        worst.add(admission.cost, per);
    }
    None
}

/// Of all intervals that end now the one that is fullest for its length: the largest sum of
/// `units * per - d * count`, kept up to date from one admission to the next (Kadane's algorithm).
#[derive(Default)]
struct Worst {
    from: Time,
    until: Time,
    units: u128,
    scaled: u128,
}

impl Worst {
    fn advance(&mut self, now: Time, count: u64) {
        let gap = u128::from((now - self.until).as_micros());
        self.until = now;
        self.scaled = self.scaled.saturating_sub(gap * u128::from(count));
        if self.scaled == 0 {
            self.from = now;
            self.units = 0;
        }
    }

    fn add(&mut self, cost: u64, per: u64) {
        self.units += u128::from(cost);
        self.scaled = self.scaled.saturating_add(u128::from(cost) * u128::from(per));
    }

    fn length(&self) -> u128 {
        u128::from((self.until - self.from).as_micros())
    }

    const fn breach(&self, admitted: u128, allowed: u128) -> Breach {
        Breach { from: self.from, until: self.until, admitted, allowed }
    }
}

fn windows(fixed: &FixedWindow, admissions: &[Admission]) -> Option<Breach> {
    let allowed = u128::from(fixed.limit());
    let (mut start, mut end) = (Time::EPOCH, Time::EPOCH);
    let mut admitted = 0;
    for Admission { at, cost } in timeline(admissions) {
        if at >= end && end != Time::MAX {
            (start, end) = fixed.window().bounds(at);
            admitted = 0;
        }
        admitted += u128::from(cost);
        if admitted > allowed {
            return Some(Breach { from: start, until: at, admitted, allowed });
        }
    }
    None
}

fn anchored(limit: u64, length: Span, admissions: &[Admission]) -> Option<Breach> {
    within(limit, Span::ZERO, admissions)
        .or_else(|| within(limit.saturating_mul(2), length, admissions))
        .or_else(|| {
            let line = Line { burst: limit.saturating_mul(2), count: limit, per: length.as_micros() };
            line.broken(admissions)
        })
}

/// At most `limit` units in any interval of at most `length`.
fn within(limit: u64, length: Span, admissions: &[Admission]) -> Option<Breach> {
    let mut oldest = timeline(admissions).peekable();
    let allowed = u128::from(limit);
    let mut admitted = 0;
    for newest in timeline(admissions) {
        admitted += u128::from(newest.cost);
        while let Some(gone) = oldest.next_if(|oldest| newest.at - oldest.at > length) {
            admitted -= u128::from(gone.cost);
        }
        if admitted > allowed {
            let from = oldest.peek().map_or(newest.at, |first| first.at);
            return Some(Breach { from, until: newest.at, admitted, allowed });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Rate, Refused, SlidingLog, SlidingWindow, TokenBucket};

    fn history(entries: &[(u64, u64)]) -> Vec<Admission> {
        let admission = |(at, cost): &(u64, u64)| Admission { at: Time::from_micros(*at), cost: *cost };
        entries.iter().map(admission).collect()
    }

    fn breach(from: u64, until: u64, admitted: u128, allowed: u128) -> Option<Breach> {
        Some(Breach { from: Time::from_micros(from), until: Time::from_micros(until), admitted, allowed })
    }

    /// 3 per 10us, so 3.33us apart.
    fn rate() -> Rate {
        Rate::new(3, Span::from_micros(10)).unwrap()
    }

    #[test]
    fn a_token_bucket_gives_its_burst_and_what_the_rate_brings() {
        let limit = Limit::TokenBucket(TokenBucket::new(rate(), 5).unwrap());
        assert_eq!(broken(&limit, &history(&[(0, 5), (3, 0), (4, 1), (10, 2)])), None);
        assert_eq!(broken(&limit, &history(&[(0, 5), (3, 1)])), breach(0, 3, 6, 5));
        assert_eq!(broken(&limit, &history(&[(0, 1), (90, 5), (94, 2)])), breach(90, 94, 7, 6));
        assert_eq!(broken(&limit, &history(&[(50, 5), (20, 1)])), breach(50, 50, 6, 5));
    }

    #[test]
    fn departures_keep_their_distance_up_to_rounding() {
        let limit = Limit::LeakyBucket(LeakyBucket::new(rate(), 9).unwrap());
        assert_eq!(broken(&limit, &history(&[(0, 1), (4, 1), (7, 1), (10, 1), (14, 1)])), None);
        assert_eq!(broken(&limit, &history(&[(0, 1), (4, 1), (7, 1), (9, 1)])), breach(4, 9, 3, 2));
        assert_eq!(broken(&limit, &history(&[(0, 3), (10, 5)])), None);
        assert_eq!(broken(&limit, &history(&[(0, 3), (9, 5)])), breach(0, 9, 8, 7));
    }

    #[test]
    fn a_fixed_window_gives_its_limit_and_then_again() {
        let window = Window::Epoch(Span::from_micros(10));
        let limit = Limit::FixedWindow(FixedWindow::new(2, window, Refused::Counts).unwrap());
        assert_eq!(broken(&limit, &history(&[(9, 2), (10, 2), (20, 1)])), None);
        assert_eq!(broken(&limit, &history(&[(9, 2), (10, 2), (19, 1)])), breach(10, 19, 3, 2));
    }

    #[test]
    fn an_anchored_window_may_begin_anywhere() {
        let window = Window::Anchored(Span::from_micros(10));
        let limit = Limit::FixedWindow(FixedWindow::new(2, window, Refused::Free).unwrap());
        assert_eq!(broken(&limit, &history(&[(9, 2), (10, 2), (20, 2)])), None);
        assert_eq!(broken(&limit, &history(&[(9, 3)])), breach(9, 9, 3, 2));
        assert_eq!(broken(&limit, &history(&[(9, 2), (10, 2), (19, 1)])), breach(9, 19, 5, 4));
        assert_eq!(broken(&limit, &history(&[(9, 2), (19, 2), (20, 2), (30, 3)])).unwrap().excess(), 1);
    }

    #[test]
    fn a_sliding_window_is_a_bucket_of_one_window() {
        let limit = Limit::SlidingWindow(SlidingWindow::new(10, Span::from_micros(100)).unwrap());
        assert_eq!(broken(&limit, &history(&[(0, 10), (10, 1), (200, 10)])), None);
        assert_eq!(broken(&limit, &history(&[(0, 10), (9, 1)])), breach(0, 9, 11, 10));
    }

    #[test]
    fn a_log_is_exact() {
        let limit = Limit::SlidingLog(SlidingLog::new(2, Span::from_micros(10)).unwrap());
        assert_eq!(broken(&limit, &history(&[(0, 2), (10, 2)])), None);
        assert_eq!(broken(&limit, &history(&[(0, 1), (9, 2)])), breach(0, 9, 3, 2));
    }

    #[test]
    fn huge_numbers_are_judged_too() {
        let limit = Limit::TokenBucket(TokenBucket::new(rate(), 5).unwrap());
        let worst = history(&[(0, u64::MAX), (u64::MAX, u64::MAX)]);
        assert_eq!(broken(&limit, &worst).unwrap().admitted, u128::from(u64::MAX));
    }
}
