//! A circuit breaker in front of one Redis server: after a few failures in a row nobody asks it any more, until a
//! probe in the background succeeds.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::breaker::{
    Breaker, Config, Forget, HalfOpen, Mode, Outcome, Permit, Ratio, Verdict, Wait, WindowKind,
};
use tollgate_core::time::{Span, Time};

/// Failed calls in a row that open the gate.
const THRESHOLD: u32 = 3;
/// Pauses between probes: the first, and the longest; each give or take a third.
const FIRST: Span = Span::from_millis(40);
const LONGEST: Span = Span::from_millis(750);
/// A probe that has not ended after this is lost.
const PROBE: Span = Span::from_secs(30);

/// Lets requests through to one server, or does not.
#[derive(Debug)]
pub(super) struct Gate {
    breaker: Breaker,
    /// Where the breaker's time begins.
    since: Instant,
    /// What requests look at: they never probe, and need no clock.
    open: AtomicBool,
    /// Connections made before this epoch may lead to a server that is gone.
    epoch: AtomicU64,
}

impl Default for Gate {
    fn default() -> Gate {
        let seed = foldhash::fast::RandomState::default().hash_one(());
        #[expect(clippy::expect_used, reason = "the configuration is constant, and tested")]
        let breaker = Breaker::new(config(), seed, Time::EPOCH).expect("a legal configuration");
        Gate { breaker, since: Instant::now(), open: AtomicBool::new(false), epoch: AtomicU64::new(0) }
    }
}

impl Gate {
    /// Whether the server is not to be asked.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// A call was answered.
    pub(super) fn succeeded(&self) {
        self.record(Outcome::Success);
    }

    /// A call failed. True if that opened the gate: whoever is told so has to probe.
    #[must_use]
    pub(super) fn failed(&self) -> bool {
        self.record(Outcome::Failure);
        self.breaker.mode(self.now()) != Mode::Closed && !self.open.swap(true, SeqCst)
    }

    /// Until the next probe.
    pub(super) fn wait(&self) -> Duration {
        let wait = self.breaker.snapshot(self.now()).remaining.unwrap_or(Span::MICRO);
        Duration::from_micros(wait.max(Span::MICRO).as_micros())
    }

    /// Leave for one probe, if it is time.
    pub(super) fn probe(&self) -> Option<Permit> {
        self.breaker.admit(self.now()).ok()
    }

    /// A probe failed.
    pub(super) fn stay(&self, probe: Permit) {
        self.breaker.record(probe, self.now(), Outcome::Failure);
    }

    /// A probe over a connection of `epoch` succeeded.
    pub(super) fn close(&self, probe: Permit, epoch: u64) {
        self.epoch.fetch_max(epoch, SeqCst);
        self.breaker.record(probe, self.now(), Outcome::Success);
        self.open.store(false, SeqCst);
    }

    /// The oldest connections that may be used.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    fn record(&self, outcome: Outcome) {
        // while the gate is open, what was sent before is no news
        if !self.is_open()
            && let Ok(permit) = self.breaker.admit(self.now())
        {
            self.breaker.record(permit, self.now(), outcome);
        }
    }

    fn now(&self) -> Time {
        Time::EPOCH + Span::from_wide(self.since.elapsed().as_micros())
    }
}

fn config() -> Config {
    let third = Ratio::new(1, 3).unwrap_or(Ratio::HALF);
    Config {
        failure_rate: None,
        slow: None,
        consecutive: Some(THRESHOLD),
        window: WindowKind::Count { size: 16 },
        minimum_calls: 1,
        half_open: HalfOpen {
            permits: 1,
            verdict: Verdict::Successes { needed: 1 },
            max_wait: None,
            permit_ttl: PROBE,
            ..HalfOpen::default()
        },
        wait: Wait { base: FIRST, multiplier: 2_000, jitter: third, cap: LONGEST, forget: Forget::OnClose },
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_in_a_row_open_it_once() {
        let gate = Gate::default();
        assert!(!gate.failed() && !gate.failed());
        gate.succeeded();
        assert!(!gate.failed() && !gate.failed() && !gate.is_open());
        assert!(gate.failed() && gate.is_open());
        assert!(!gate.failed(), "only one probes");
        assert!(gate.probe().is_none(), "not at once");
        tokio::time::advance(gate.wait()).await;
        let probe = gate.probe().expect("it is time");
        assert!(gate.probe().is_none(), "one at a time");
        gate.close(probe, 7);
        assert!(!gate.is_open());
        assert_eq!(gate.epoch(), 7);
        assert!(!gate.failed() && !gate.failed() && gate.failed(), "it opens again");
    }

    #[tokio::test(start_paused = true)]
    async fn probes_come_less_and_less_often() {
        let gate = Gate::default();
        while !gate.failed() {}
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(gate.wait());
            tokio::time::advance(gate.wait()).await;
            gate.stay(gate.probe().expect("it is time"));
            assert!(gate.is_open());
        }
        assert!((26..=54).contains(&waits[0].as_millis()), "{waits:?}");
        assert!(waits[8..].iter().all(|wait| (499..=1_001).contains(&wait.as_millis())), "{waits:?}");
    }
}
