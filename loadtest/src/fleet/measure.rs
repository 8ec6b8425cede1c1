//! What came of a play.

use tollgate_core::time::{Span, Time};

use super::backend::Backend;
use super::scenario::{OUTAGE_AT, SLOW, Scenario};

/// Per second of the play.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seconds {
    /// Attempts sent to the backend.
    pub sent: u64,
    /// Attempts that ended well.
    pub good: u64,
    /// Attempts that failed.
    pub bad: u64,
    /// Attempts that were refused.
    pub shed: u64,
}

/// The figures of one play.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What was played.
    pub scenario: Scenario,
    /// Second by second.
    pub seconds: Vec<Seconds>,
    /// Attempts sent from the third second of the outage on that failed or were slow. (The first two are lost
    /// under every policy: a call must time out before anybody can know.)
    pub doomed: u64,
    /// Largest ratio of attempts sent to capacity in one second, from the end of the outage on.
    pub peak: f64,
    /// Seconds from the end of the outage until five seconds in a row had 90 % of the load; none if never.
    pub t90: Option<u64>,
    /// Calls that the backend could have served after the outage, and did not.
    pub lost: u64,
    /// Attempts that failed after the outage.
    pub failed: u64,
    /// Rounds of probes for the whole fleet.
    pub rounds: u64,
    /// Openings of the fleet's circuit.
    pub openings: u64,
    /// Local faults told.
    pub local_faults: u64,
}

/// Counts while the play goes on.
#[derive(Clone, Debug)]
pub struct Meter {
    scenario: Scenario,
    seconds: Vec<Seconds>,
    doomed: u64,
}

impl Meter {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(scenario: Scenario) -> Meter {
        let length = usize::try_from(scenario.end().as_micros() / 1_000_000 + 2).unwrap_or(usize::MAX);
        Meter { scenario, seconds: vec![Seconds::default(); length], doomed: 0 }
    }

    /// The second of an instant.
    pub fn at(&mut self, now: Time) -> &mut Seconds {
        let last = self.seconds.len().saturating_sub(1);
        let second = usize::try_from(now.as_micros() / 1_000_000).unwrap_or(usize::MAX);
        &mut self.seconds[second.min(last)]
    }

    /// An attempt ended.
    pub fn ended(&mut self, now: Time, sent: Time, succeeded: bool) {
        let slow = now - sent > SLOW;
        let second = self.at(now);
        if succeeded {
            second.good += 1;
        } else {
            second.bad += 1;
        }
        let doomed_from = self.scenario.outage_from() + Span::from_secs(2);
        if (doomed_from..self.scenario.outage_until()).contains(&sent) && (slow || !succeeded) {
            self.doomed += 1;
        }
    }

    /// The figures.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are small and not negative"
    )]
    pub fn finish(self) -> Measured {
        let scenario = self.scenario;
        let over = OUTAGE_AT + scenario.outage;
        let second = |s: u64| self.seconds.get(s as usize).copied().unwrap_or_default();
        let capacity = |s: u64| {
            let middle = Time::from_micros(s * 1_000_000 + 500_000);
            Backend::capacity(&scenario, middle)
        };
        let settling = over..over + scenario.warmup.secs.max(20) + 5;
        let peak = settling.map(|s| second(s).sent as f64 / capacity(s).max(1.0)).fold(0.0, f64::max);
        let well = |s: u64| second(s).good as f64 >= 0.9 * scenario.load;
        let horizon = over + scenario.recovery_secs();
        let t90 = (over..horizon).find(|&s| (s..s + 5).all(well)).map(|s| s - over);
        let missed = |s: u64| (scenario.load.min(capacity(s)) - second(s).good as f64).max(0.0);
        let lost: f64 = (over..horizon).map(missed).sum();
        Measured {
            scenario,
            doomed: self.doomed,
            peak,
            t90,
            lost: lost as u64,
            failed: (over..horizon).map(|s| second(s).bad).sum(),
            rounds: 0,
            openings: 0,
            local_faults: 0,
            seconds: self.seconds,
        }
    }
}
