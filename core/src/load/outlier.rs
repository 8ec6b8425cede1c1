//! Outlier ejection: an endpoint that fails more than the others is left out for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::random::scaled;
use super::ratio::Ratio;
use super::rolling::{Counts, RollingSum};
use super::{OutOfRange, within};
use crate::time::{Span, Time};

/// When an endpoint is ejected, and for how long. After Envoy's outlier detection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutlierConfig {
    /// So many failures in a row eject: `1..=1000`. Default 5.
    pub consecutive: u32,
    /// A lower share of calls that went well ejects: `0..=1`. Default 0.8.
    pub success: Ratio,
    /// How far back that share is taken: `1s..=10min`. Default 10 s.
    pub window: Span,
    /// Fewer calls have no share: `1..=1_000_000`. Default 20.
    pub calls: u32,
    /// The first ejection; the n-th in a row is n times as long, give or take a half: `1ms..=max`. Default
    /// 5 s.
    pub ejection: Span,
    /// The longest ejection: `1ms..=1h`. Default 60 s.
    pub max_ejection: Span,
    /// The share of endpoints that may be ejected at once: `0..=1`. One always may if there are two or more.
    /// Default 0.5.
    pub max_ejected: Ratio,
    /// With a larger share out, ejected or unreachable, ejection is ignored: `0..=1`. Default 0.5.
    pub panic: Ratio,
}

impl Default for OutlierConfig {
    fn default() -> OutlierConfig {
        OutlierConfig {
            consecutive: 5,
            success: Ratio::from_percent(80),
            window: Span::from_secs(10),
            calls: 20,
            ejection: Span::from_secs(5),
            max_ejection: Span::from_secs(60),
            max_ejected: Ratio::from_percent(50),
            panic: Ratio::from_percent(50),
        }
    }
}

impl OutlierConfig {
    fn check(&self) -> Result<(), OutOfRange> {
        let milli = Span::from_millis(1);
        within("outlier.consecutive", self.consecutive, 1..=1_000)?;
        within("outlier.success", self.success, Ratio::ZERO..=Ratio::ONE)?;
        within("outlier.window", self.window, Span::SECOND..=Span::from_secs(600))?;
        within("outlier.calls", self.calls, 1..=1_000_000)?;
        within("outlier.max_ejection", self.max_ejection, milli..=Span::from_secs(3_600))?;
        within("outlier.ejection", self.ejection, milli..=self.max_ejection)?;
        within("outlier.max_ejected", self.max_ejected, Ratio::ZERO..=Ratio::ONE)?;
        within("outlier.panic", self.panic, Ratio::ZERO..=Ratio::ONE)
    }

    /// Whether one more of `pool` may be ejected.
    #[must_use]
    pub fn may_eject(&self, pool: Pool) -> bool {
        let most = self.max_ejected.of(u64::from(pool.endpoints)).max(1);
        pool.endpoints >= 2 && u64::from(pool.ejected) < most
    }

    /// Whether so many of `pool` are out that ejection is to be ignored: sending to all is better than sending
    /// everything to few.
    #[must_use]
    pub fn panics(&self, pool: Pool) -> bool {
        let out = u64::from(pool.ejected.saturating_add(pool.unreachable));
        out * 1_000_000 > u64::from(self.panic.millionths()) * u64::from(pool.endpoints)
    }
}

/// The endpoints of a target, counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pool {
    /// All of them.
    pub endpoints: u32,
    /// Those ejected at present.
    pub ejected: u32,
    /// Those not ejected that cannot be reached.
    pub unreachable: u32,
}

/// How one endpoint does. For many threads; no lock.
#[derive(Debug)]
pub struct Outlier {
    config: OutlierConfig,
    failures: AtomicU32,
    counts: RollingSum,
    /// Ejections in a row.
    ejections: AtomicU32,
    /// Until when it is out, in microseconds; 0 if it never was.
    until: AtomicU64,
}

/// Steps in which the window moves.
const SLOTS: u32 = 10;

impl Outlier {
    /// An endpoint of which nothing is known.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: OutlierConfig, now: Time) -> Result<Outlier, OutOfRange> {
        config.check()?;
        Ok(Outlier {
            config,
            failures: AtomicU32::new(0),
            counts: RollingSum::new(config.window, SLOTS, now),
            ejections: AtomicU32::new(0),
            until: AtomicU64::new(0),
        })
    }

    /// Records a call; true if the endpoint should be ejected now (see [`Outlier::eject`]). Calls that end
    /// while it is out do not count: they began before.
    #[must_use]
    pub fn record(&self, now: Time, success: bool) -> bool {
        if self.is_ejected(now) {
            return false;
        }
        self.counts.advance(now);
        let before = self.counts.add(Counts { all: 1, good: u32::from(success) }.pack());
        if success {
            self.failures.store(0, Ordering::Relaxed);
            // the share has just risen
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        failures >= self.config.consecutive || self.is_below(Counts::unpack(before))
    }

    /// Whether the share is too low with one more failure.
    fn is_below(&self, before: Counts) -> bool {
        let (calls, good) = (u64::from(before.all) + 1, u64::from(before.good));
        let required = u64::from(self.config.success.millionths());
        calls >= u64::from(self.config.calls) && good * 1_000_000 < required * calls
    }

    /// Ejects the endpoint if `pool` allows, and returns for how long; `roll` is a random number, even over all
    /// `u32`. It starts anew when it is back.
    pub fn eject(&self, now: Time, pool: Pool, roll: u32) -> Option<Span> {
        let until = self.until.load(Ordering::Relaxed);
        if now.as_micros() < until || !self.config.may_eject(pool) {
            return None;
        }
        let ejections = self.in_a_row(now, until).saturating_add(1);
        let span = self.span(ejections, roll);
        let next = (now + span).as_micros();
        self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        self.ejections.store(ejections, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.counts.clear();
        Some(span)
    }

    /// The ejections so far, one fewer for each longest ejection that it has been back without another.
    fn in_a_row(&self, now: Time, until: u64) -> u32 {
        let quiet = (now - Time::from_micros(until)).as_micros() / self.config.max_ejection.as_micros();
        let forgiven = u32::try_from(quiet).unwrap_or(u32::MAX);
        self.ejections.load(Ordering::Relaxed).saturating_sub(forgiven)
    }

    fn span(&self, ejections: u32, roll: u32) -> Span {
        let base = self.config.ejection.as_micros().saturating_mul(u64::from(ejections));
        let base = base.min(self.config.max_ejection.as_micros());
        Span::from_micros(base / 2 + scaled(roll, base)).min(self.config.max_ejection)
    }

    /// Whether it is out at `now`.
    #[must_use]
    pub fn is_ejected(&self, now: Time) -> bool {
        now.as_micros() < self.until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Pool = Pool { endpoints: 4, ejected: 0, unreachable: 0 };
    /// The roll that neither shortens nor lengthens.
    const EVEN: u32 = 1 << 31;

    fn at(secs: u64) -> Time {
        Time::from_micros(secs * 1_000_000)
    }

    fn outlier() -> Outlier {
        Outlier::new(OutlierConfig::default(), at(0)).unwrap()
    }

    #[test]
    fn five_failures_in_a_row_eject() {
        let outlier = outlier();
        assert!((0..4).all(|_| !outlier.record(at(0), false)));
        assert!(!outlier.record(at(0), true));
        let ejects: Vec<bool> = (0..5).map(|_| outlier.record(at(0), false)).collect();
        assert_eq!(ejects, [false, false, false, false, true]);
    }

    #[test]
    fn a_low_share_of_enough_calls_ejects() {
        // three good, one bad: 75 %
        let first = |window: u64| {
            let outlier = outlier();
            (1..200).find(|call| outlier.record(at(call * window / 20), call % 4 != 0))
        };
        assert_eq!(first(1), Some(20));
        assert_eq!(first(40), None, "there are never twenty within ten seconds");
        let outlier = outlier();
        assert!((1..200).all(|call| !outlier.record(at(0), call % 5 != 0)), "80 % is enough");
    }

    #[test]
    fn it_is_out_for_longer_each_time_up_to_the_longest() {
        let outlier = outlier();
        let mut now = at(100);
        let spans: Vec<u64> = (0..14)
            .map(|_| {
                let span = outlier.eject(now, POOL, EVEN).unwrap();
                assert!(outlier.is_ejected(now) && outlier.eject(now, POOL, EVEN).is_none());
                now = now + span;
                assert!(!outlier.is_ejected(now));
                span.as_micros() / 1_000_000
            })
            .collect();
        assert_eq!(spans, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 60, 60]);
        let later = now + Span::from_secs(60 * 12);
        assert_eq!(outlier.eject(later, POOL, EVEN), Some(Span::from_secs(15)), "twelve are forgiven");
    }

    #[test]
    fn chance_gives_or_takes_a_half() {
        let ends = [0, u32::MAX].map(|roll| outlier().eject(at(0), POOL, roll).unwrap());
        assert_eq!(ends, [Span::from_millis(2_500), Span::from_millis(7_500)]);
    }

    #[test]
    fn it_starts_anew_when_it_is_back() {
        let outlier = outlier();
        while !outlier.record(at(0), false) {}
        let span = outlier.eject(at(0), POOL, EVEN).unwrap();
        assert!((0..9).all(|_| !outlier.record(at(1), false)), "it is out");
        assert!((0..4).all(|_| !outlier.record(at(0) + span, false)));
        assert!(outlier.record(at(0) + span, false));
    }

    #[test]
    fn the_share_starts_anew_too() {
        let outlier = outlier();
        let ejects = (1..100).find(|call| outlier.record(at(0), call % 2 == 0));
        assert_eq!(ejects, Some(21), "the first failure from twenty calls on");
        let span = outlier.eject(at(0), POOL, 0).unwrap();
        assert!(span < OutlierConfig::default().window);
        assert!(!outlier.record(at(0) + span, false), "what happened before does not count again");
    }

    #[test]
    fn at_most_half_are_ejected_and_one_of_two_always_may() {
        let config = OutlierConfig::default();
        let may = |endpoints, ejected| config.may_eject(Pool { endpoints, ejected, unreachable: 0 });
        assert_eq!([may(0, 0), may(1, 0), may(2, 0), may(2, 1)], [false, false, true, false]);
        assert_eq!([may(3, 0), may(3, 1), may(4, 1), may(4, 2)], [true, false, true, false]);
        let none = OutlierConfig { max_ejected: Ratio::ZERO, ..config };
        assert!(none.may_eject(Pool { endpoints: 2, ..Pool::default() }));
    }

    #[test]
    fn with_more_than_half_out_ejection_is_ignored() {
        let config = OutlierConfig::default();
        let panics =
            |endpoints, ejected, unreachable| config.panics(Pool { endpoints, ejected, unreachable });
        assert_eq!([panics(4, 2, 0), panics(4, 1, 1), panics(4, 2, 1)], [false, false, true]);
        assert_eq!([panics(2, 1, 0), panics(2, 1, 1), panics(0, 0, 0)], [false, true, false]);
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| Outlier::new(config, at(0)).unwrap_err().to_string();
        let default = OutlierConfig::default();
        let ejection = Span::from_secs(61);
        let found = error(OutlierConfig { ejection, ..default });
        assert_eq!(found, "outlier.ejection 61s is out of range: 1ms to 60s");
        assert!(error(OutlierConfig { consecutive: 0, ..default }).starts_with("outlier.consecutive 0 "));
        assert!(error(OutlierConfig { calls: 0, ..default }).starts_with("outlier.calls 0 "));
        let panic = Ratio::from_percent(101);
        assert!(error(OutlierConfig { panic, ..default }).starts_with("outlier.panic 1.01 "));
    }
}
