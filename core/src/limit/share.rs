//! A limit divided among servers that cannot count together.

use super::{FixedWindow, LeakyBucket, Limit, Rate, SlidingLog, SlidingWindow, TokenBucket};
use crate::time::Span;

impl Limit {
    /// The part of this limit that one of `servers` may admit on its own: `max(1, floor(limit / servers))`
    /// units (none if the limit is 0), and of a rate the same part; `servers` below 1 count as 1.
    ///
    /// A fleet of `servers` admits at most `max(limit, servers)` units where one would admit `limit`; at the
    /// slowest rates (one unit per 366 days) each server keeps that rate.
    #[must_use]
    pub fn shared_by(&self, servers: u64) -> Limit {
        let servers = servers.max(1);
        let part = |units: u64| (units / servers).max(u64::from(units > 0));
        let shared = match self {
            Limit::TokenBucket(limit) => {
                let rate = limit.rate().shared_by(servers);
                TokenBucket::new(rate, part(limit.burst())).map(Limit::TokenBucket)
            }
            Limit::LeakyBucket(limit) => {
                let rate = limit.rate().shared_by(servers);
                LeakyBucket::new(rate, part(limit.queue() + 1) - 1).map(Limit::LeakyBucket)
            }
            Limit::FixedWindow(limit) => {
                FixedWindow::new(part(limit.limit()), limit.window().clone(), limit.refused())
                    .map(Limit::FixedWindow)
            }
            Limit::SlidingWindow(limit) => {
                SlidingWindow::new(part(limit.limit()), limit.length()).map(Limit::SlidingWindow)
            }
            Limit::SlidingLog(limit) => {
                SlidingLog::new(part(limit.limit()), limit.length()).map(Limit::SlidingLog)
            }
        };
        // a part of a sound limit is sound
        shared.unwrap_or_else(|_| self.clone())
    }
}

impl Rate {
    /// This rate divided by `servers`, or the slowest there is.
    fn shared_by(self, servers: u64) -> Rate {
        let slower = Rate::new(self.count(), Span::from_micros(self.per().saturating_mul(servers)));
        slower.or_else(|_| Rate::new(1, Rate::SLOWEST_PERIOD)).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Refused, Window};

    fn fixed(limit: u64) -> Limit {
        let window = Window::Epoch(Span::SECOND);
        Limit::FixedWindow(FixedWindow::new(limit, window, Refused::Counts).unwrap())
    }

    #[test]
    fn each_server_has_its_part_and_at_least_one() {
        assert_eq!(fixed(10).shared_by(3), fixed(3));
        assert_eq!(fixed(2).shared_by(3), fixed(1));
        assert_eq!(fixed(0).shared_by(3), fixed(0), "a limit of nothing stays one");
        assert_eq!(fixed(7).shared_by(0), fixed(7));
        assert_eq!(fixed(7).shared_by(u64::MAX), fixed(1));
    }

    #[test]
    fn a_bucket_is_divided_in_size_and_in_rate() {
        let rate = |count, per| Rate::new(count, per).unwrap();
        let bucket = Limit::TokenBucket(TokenBucket::new(rate(10, Span::SECOND), 9).unwrap());
        let third = Limit::TokenBucket(TokenBucket::new(rate(10, Span::from_secs(3)), 3).unwrap());
        assert_eq!(bucket.shared_by(3), third);
        let queue = Limit::LeakyBucket(LeakyBucket::new(rate(10, Span::SECOND), 8).unwrap());
        let third = Limit::LeakyBucket(LeakyBucket::new(rate(10, Span::from_secs(3)), 2).unwrap());
        assert_eq!(queue.shared_by(3), third);
        let none = Limit::LeakyBucket(LeakyBucket::new(rate(10, Span::SECOND), 0).unwrap());
        assert_eq!(none.shared_by(1), none);
    }

    #[test]
    fn windows_and_logs_keep_their_length() {
        let hour = Span::from_secs(3_600);
        let sliding = |limit| Limit::SlidingWindow(SlidingWindow::new(limit, hour).unwrap());
        assert_eq!(sliding(100).shared_by(4), sliding(25));
        let log = |limit| Limit::SlidingLog(SlidingLog::new(limit, hour).unwrap());
        assert_eq!(log(100).shared_by(4), log(25));
    }

    #[test]
    fn the_slowest_rate_stays() {
        let year = Rate::new(1, Span::from_secs(366 * 86_400)).unwrap();
        let bucket = Limit::TokenBucket(TokenBucket::new(year, 1).unwrap());
        assert_eq!(bucket.shared_by(5), bucket);
    }
}
