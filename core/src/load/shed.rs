//! Which requests an overloaded server takes on: the most critical, as many as it can.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::criticality::Criticality;
use super::random::mix64;
use super::ratio::Ratio;
use super::{OutOfRange, within};
use crate::time::{Span, Time};

/// Levels within a class.
const SUB_LEVELS: u16 = 128;
/// All levels.
const LEVELS: u16 = 4 * SUB_LEVELS;
/// How long a tenant keeps its level within its class: one hour, in microseconds.
const SHUFFLE: u64 = 3_600_000_000;

/// Overload control after DAGOR (Zhou et al., "Overload Control for Scaling WeChat Microservices", 2018).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShedConfig {
    /// A longer mean time in the queue is overload: `1ms..=10s`. Default 20 ms.
    pub queuing: Span,
    /// How long the level is kept at most: `10ms..=60s`. Default 1 s.
    pub window: Span,
    /// After how many requests the level is set anew at the latest: `10..=1_000_000`. Default 2000.
    pub requests: u32,
    /// By how much less is admitted after a window of overload: `0.001..=0.5`. Default 0.05.
    pub down: Ratio,
    /// By how much of the arrivals more is admitted after another window: `0.001..=0.5`. Default 0.01.
    pub up: Ratio,
}

impl Default for ShedConfig {
    fn default() -> ShedConfig {
        ShedConfig {
            queuing: Span::from_millis(20),
            window: Span::SECOND,
            requests: 2_000,
            down: Ratio::from_percent(5),
            up: Ratio::from_percent(1),
        }
    }
}

impl ShedConfig {
    fn check(&self) -> Result<(), OutOfRange> {
        let part = || Ratio::from_millionths(1_000)..=Ratio::from_percent(50);
        within("shed.queuing", self.queuing, Span::from_millis(1)..=Span::from_secs(10))?;
        within("shed.window", self.window, Span::from_millis(10)..=Span::from_secs(60))?;
        within("shed.requests", self.requests, 10..=1_000_000)?;
        within("shed.down", self.down, part())?;
        within("shed.up", self.up, part())
    }
}

/// How early a request is shed: `0..=511`, the last to be shed first. 128 levels in each class.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Level(u16);

impl Level {
    /// The level at `now` of a request of `class` by a tenant with the hash `tenant` (see
    /// [`hash_bytes`](super::random::hash_bytes)). Within a class the hour shuffles the tenants, so that it is
    /// not always the same ones who are shed; all servers and clients shuffle alike.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
    pub const fn new(class: Criticality, tenant: u64, now: Time) -> Level {
        let hour = now.as_micros() / SHUFFLE;
        let sub = (mix64(tenant ^ mix64(hour)) % SUB_LEVELS as u64) as u16;
        Level((3 - class.index() as u16) * SUB_LEVELS + sub)
    }

    /// The number of the level: `0..=511`.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether a server that admits so many levels (see [`Admission::admitted`]) takes this one on.
    #[must_use]
    pub const fn is_within(self, admitted: u32) -> bool {
        (self.0 as u32) < admitted
    }
}

/// Admits requests up to a level that follows the load. For many threads; no lock.
///
/// A caller that is told [`Admission::admitted`] can shed by itself what would be shed here.
#[derive(Debug)]
pub struct Admission {
    config: ShedConfig,
    /// Levels below this are admitted: `1..=512`.
    admitted: AtomicU32,
    /// Arrivals of the window by level.
    arrivals: Box<[AtomicU32]>,
    count: AtomicU32,
    /// Time in the queue of those served in the window, in microseconds, and how many they were.
    queued: AtomicU64,
    served: AtomicU64,
    ends: AtomicU64,
    turning: AtomicBool,
}

impl Admission {
    /// An admission of everything, whose first window begins at `now`.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: ShedConfig, now: Time) -> Result<Admission, OutOfRange> {
        config.check()?;
        Ok(Admission {
            config,
            admitted: AtomicU32::new(u32::from(LEVELS)),
            arrivals: (0..LEVELS).map(|_| AtomicU32::new(0)).collect(),
            count: AtomicU32::new(0),
            queued: AtomicU64::new(0),
            served: AtomicU64::new(0),
            ends: AtomicU64::new((now + config.window).as_micros()),
            turning: AtomicBool::new(false),
        })
    }

    /// Counts a request of `level` and tells whether to take it on.
    #[must_use]
    pub fn admit(&self, now: Time, level: Level) -> bool {
        self.arrivals[usize::from(level.0)].fetch_add(1, Ordering::Relaxed);
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= self.config.requests || now.as_micros() >= self.ends.load(Ordering::Relaxed) {
            self.turn(now);
        }
        level.is_within(self.admitted())
    }

    /// Records that an admitted request waited for `span` before it was served, or shed from the queue.
    pub fn queued(&self, span: Span) {
        self.queued.fetch_add(span.as_micros(), Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// How many of the 512 levels are admitted, from the most critical on: `1..=512`.
    #[must_use]
    pub fn admitted(&self) -> u32 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Ends a window: one thread does, the others go on with the level they see.
    #[cold]
    fn turn(&self, now: Time) {
        if self.turning.swap(true, Ordering::Acquire) {
            return;
        }
        let due = now.as_micros() >= self.ends.load(Ordering::Relaxed);
        if due || self.count.load(Ordering::Relaxed) >= self.config.requests {
            self.ends.store((now + self.config.window).as_micros(), Ordering::Relaxed);
            let arrivals: Vec<u32> =
                self.arrivals.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect();
            self.count.store(0, Ordering::Relaxed);
            let admitted = self.next_level(&arrivals, self.was_overloaded());
            self.admitted.store(admitted, Ordering::Relaxed);
        }
        self.turning.store(false, Ordering::Release);
    }

    fn was_overloaded(&self) -> bool {
        let served = self.served.swap(0, Ordering::Relaxed);
        let queued = self.queued.swap(0, Ordering::Relaxed);
        queued.checked_div(served).is_some_and(|mean| mean > self.config.queuing.as_micros())
    }

    /// Walks the histogram from the present level until the expected number of requests is admitted.
    fn next_level(&self, arrivals: &[u32], overloaded: bool) -> u32 {
        let mut level = usize::try_from(self.admitted()).unwrap_or(arrivals.len());
        let mut admitted: u64 = arrivals[..level].iter().copied().map(u64::from).sum();
        if overloaded {
            let wanted = admitted - self.config.down.of(admitted).max(1).min(admitted);
            while level > 1 && admitted > wanted {
                level -= 1;
                admitted -= u64::from(arrivals[level]);
            }
        } else {
            let all: u64 = arrivals.iter().copied().map(u64::from).sum();
            let wanted = admitted + self.config.up.of(all).max(1);
            while level < arrivals.len() && admitted < wanted {
                admitted += u64::from(arrivals[level]);
                level += 1;
            }
        }
        u32::try_from(level).unwrap_or(u32::from(LEVELS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::SplitMix64;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1_000)
    }

    fn admission() -> Admission {
        Admission::new(ShedConfig::default(), at(0)).unwrap()
    }

    /// One window of 1000 requests, even over all levels, with this time in the queue; how many were taken.
    fn window(admission: &Admission, second: u64, queued: Span) -> usize {
        let mut random = SplitMix64::new(second);
        let mut admit = |number: u16| {
            let level = Level(u16::try_from(random.next_u32() % 512).unwrap());
            let taken = admission.admit(at(second * 1_000 + u64::from(number) % 1_000), level);
            taken.then(|| admission.queued(queued)).is_some()
        };
        (0..1_000).filter(|number| admit(*number)).count()
    }

    #[test]
    fn classes_are_apart_and_the_hour_shuffles_within() {
        for tenant in 0..200 {
            let levels = Criticality::ALL.map(|class| Level::new(class, tenant, at(0)).0 / SUB_LEVELS);
            assert_eq!(levels, [3, 2, 1, 0]);
        }
        let level = |tenant, hour: u64| Level::new(Criticality::Critical, tenant, at(hour * 3_600_000));
        assert_eq!(level(7, 0), level(7, 0));
        let moved = (0..100).filter(|tenant| level(*tenant, 1) != level(*tenant, 2)).count();
        assert!(moved > 90, "{moved}");
    }

    #[test]
    fn overload_lowers_the_level_and_calm_raises_it() {
        let admission = admission();
        for second in 0..10 {
            assert_eq!(window(&admission, second, Span::from_millis(1)), 1_000);
        }
        let taken: Vec<usize> =
            (10..20).map(|second| window(&admission, second, Span::from_millis(21))).collect();
        let expected = 1_000.0 * 0.95_f64.powi(9);
        let last = f64::from(u32::try_from(taken[9]).unwrap());
        assert!((last / expected - 1.0).abs() < 0.1, "{taken:?}");
        let calm: Vec<usize> = (20..130).map(|second| window(&admission, second, Span::ZERO)).collect();
        assert!(calm.windows(2).all(|pair| pair[0] < pair[1] + 40), "{calm:?}");
        assert_eq!(calm[109], 1_000);
    }

    #[test]
    fn the_least_critical_go_first() {
        let admission = admission();
        for second in 0..200 {
            window(&admission, second, Span::from_secs(1));
        }
        let admitted = admission.admitted();
        assert!(admitted < 128, "{admitted}");
        assert!(admission.admit(at(200_000), Level(0)), "one level is always left");
        assert!(!admission.admit(at(200_000), Level(511)));
    }

    #[test]
    fn many_requests_end_a_window_early() {
        let admission = admission();
        admission.queued(Span::from_secs(1));
        for number in 0..2_000_u16 {
            assert_eq!(admission.admitted(), 512);
            let _ = admission.admit(at(0), Level(number % 512));
        }
        assert!(admission.admitted() < 512);
    }

    #[test]
    fn without_requests_everything_is_admitted_again() {
        let admission = admission();
        for second in 0..100 {
            window(&admission, second, Span::from_secs(1));
        }
        assert!(admission.admitted() < 100);
        let _ = admission.admit(at(100_000), Level(0));
        let _ = admission.admit(at(200_000), Level(0));
        let _ = admission.admit(at(300_000), Level(0));
        assert_eq!(admission.admitted(), 512);
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| Admission::new(config, at(0)).unwrap_err().to_string();
        let default = ShedConfig::default();
        let down = Ratio::from_percent(51);
        assert_eq!(error(ShedConfig { down, ..default }), "shed.down 0.51 is out of range: 0.001 to 0.5");
        assert!(error(ShedConfig { up: Ratio::ZERO, ..default }).starts_with("shed.up 0 "));
        assert!(error(ShedConfig { requests: 9, ..default }).starts_with("shed.requests 9 "));
        assert!(error(ShedConfig { window: Span::ZERO, ..default }).starts_with("shed.window 0s "));
        assert!(error(ShedConfig { queuing: Span::ZERO, ..default }).starts_with("shed.queuing 0s "));
    }
}
