//! Adaptive throttling: send less to a target that turns much away.
//!
//! The answer to a partly overloaded target: proportional, without states, and some calls always pass. A
//! breaker is for a dead one.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::load::criticality::Criticality;
use tollgate_core::load::ratio::Ratio;
use tollgate_core::load::throttle::{Throttle, ThrottleConfig};
use tollgate_core::time::Time;

use crate::classify::{Outcome, Verdict};
use crate::clock::{Clock, SystemClock, span};
use crate::config::{ConfigError, Rolls, seed};
use crate::error::Error;

/// Client-side throttling of Beyer et al., "Site Reliability Engineering", ch. 21: a call is not sent with
/// probability `max(0, (requests - k * accepts) / (requests + 1))`. Clones share one throttler.
#[derive(Clone, Debug)]
pub struct AdaptiveThrottler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Throttle,
    clock: Arc<dyn Clock>,
    rolls: Rolls,
}

/// Sets up an [`AdaptiveThrottler`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct ThrottlerBuilder {
    k: f64,
    window: Duration,
    max_rejection: f64,
    min_rps: u32,
    clock: Arc<dyn Clock>,
    seed: u64,
}

/// A call that was sent. Tell it how the call ended; dropped, it counts as accepted: a caller that gives up is no sign of
/// a refusal.
#[derive(Debug)]
#[must_use = "tell how the call ended"]
pub struct Sent {
    throttler: AdaptiveThrottler,
    open: bool,
}

impl AdaptiveThrottler {
    /// Sets up a throttler: k 2, 120 s, at most 90 %, from 5 calls per second on.
    pub fn builder() -> ThrottlerBuilder {
        ThrottlerBuilder {
            k: 2.0,
            window: Duration::from_secs(120),
            max_rejection: 0.9,
            min_rps: 5,
            clock: Arc::new(SystemClock),
            seed: seed(),
        }
    }

    /// Asks whether to send a call of `class`.
    ///
    /// # Errors
    /// The probability with which calls of `class` are not sent, `0.0..=1.0`; this one is not.
    pub fn try_send(&self, class: Criticality) -> Result<Sent, f32> {
        match self.0.core.admit(self.0.clock.now(), self.0.rolls.next(), class) {
            Ok(()) => Ok(Sent { throttler: self.clone(), open: true }),
            Err(rejected) => Err(probability(rejected.probability)),
        }
    }

    /// Decides on a call of `class` that other policies may still refuse: one that is not sent, because of
    /// them, says nothing about the target and must not count. [`sent`](Self::sent) counts it.
    pub(crate) fn check(&self, class: Criticality) -> Result<(), f32> {
        let Inner { core, clock, rolls } = &*self.0;
        let now = clock.now();
        let share = core.probability(now, class);
        if (u64::from(rolls.next()) * 1_000_000) >> 32 >= u64::from(share.millionths()) {
            return Ok(());
        }
        // those that are turned away here do count
        count(core, now, class);
        Err(probability(share))
    }

    /// A call that was checked is sent.
    pub(crate) fn sent(&self, class: Criticality) -> Sent {
        count(&self.0.core, self.0.clock.now(), class);
        Sent { throttler: self.clone(), open: true }
    }

    /// Awaits `call` if it is to be sent; `Err` counts as accepted unless `rejected` says that the target
    /// turned the call away.
    ///
    /// # Errors
    /// [`Error::Throttled`] without polling `call`, else its own as [`Error::Inner`].
    pub async fn call<T, E, F>(&self, call: F, rejected: impl FnOnce(&E) -> bool) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let sent = self.try_send(Criticality::Critical).map_err(Error::throttled)?;
        let result = call.await;
        sent.record(!result.as_ref().err().is_some_and(rejected));
        result.map_err(Error::Inner)
    }

    /// The share of calls of `class` that is not sent at present.
    #[must_use]
    pub fn probability(&self, class: Criticality) -> f32 {
        probability(self.0.core.probability(self.0.clock.now(), class))
    }
}

/// Counts a request on which the decision has been taken already.
fn count(core: &Throttle, now: Time, class: Criticality) {
    let _decided = core.admit(now, u32::MAX, class);
}

#[expect(clippy::cast_possible_truncation, reason = "a share needs no more digits")]
fn probability(ratio: Ratio) -> f32 {
    ratio.as_f64() as f32
}

impl Sent {
    /// The call has ended: whether the target took it, whatever came of it.
    pub fn record(mut self, accepted: bool) {
        self.finish(accepted);
    }

    pub(crate) fn settle(mut self, verdict: &Verdict) {
        let unknown = verdict.outcome == Outcome::Ignored;
        self.finish(!verdict.rejected || unknown);
    }

    fn finish(&mut self, accepted: bool) {
        self.open = false;
        let Inner { core, clock, .. } = &*self.throttler.0;
        core.record(clock.now(), accepted);
    }
}

impl Drop for Sent {
    /// A caller that gives up is no sign of a refusal: it counts as accepted, so that cancelled calls do not
    /// throttle the others.
    fn drop(&mut self) {
        if self.open {
            self.finish(true);
        }
    }
}

impl ThrottlerBuilder {
    /// How many calls are sent for each that is accepted, `1.0..=10.0`. Default 2; less is stricter.
    pub fn k(mut self, k: f64) -> Self {
        self.k = k;
        self
    }

    /// How far back calls count, `1s..=1h`. Default 120 s.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Largest share that is not sent, `0.0..=1.0`. Default 0.9.
    pub fn max_rejection(mut self, share: f64) -> Self {
        self.max_rejection = share;
        self
    }

    /// With fewer calls per second, all are sent. Default 5.
    pub fn min_per_second(mut self, calls: u32) -> Self {
        self.min_rps = calls;
        self
    }

    /// Where it learns the time.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes its choices the same every time, for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The throttler.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that makes no sense.
    pub fn build(self) -> Result<AdaptiveThrottler, ConfigError> {
        let config = ThrottleConfig {
            k: Ratio::from_f64("throttle.k", self.k)?,
            window: span(self.window),
            max_rejection: Ratio::from_f64("throttle.max_rejection", self.max_rejection)?,
            min_rps: self.min_rps,
            ..ThrottleConfig::default()
        };
        let core = Throttle::new(&config, self.clock.now())?;
        Ok(AdaptiveThrottler(Arc::new(Inner { core, clock: self.clock, rolls: Rolls::new(self.seed) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttler() -> AdaptiveThrottler {
        AdaptiveThrottler::builder().min_per_second(0).seed(1).build().unwrap()
    }

    fn sent_of(throttler: &AdaptiveThrottler, calls: u32) -> u32 {
        let sent = (0..calls).filter(|_| match throttler.try_send(Criticality::Critical) {
            Ok(sent) => {
                sent.record(false);
                true
            }
            Err(_) => false,
        });
        sent.count().try_into().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_turns_all_away_gets_a_tenth() {
        let throttler = throttler();
        let sent = sent_of(&throttler, 10_000);
        assert!((900..1_300).contains(&sent), "{sent}");
        let probability = throttler.probability(Criticality::Critical);
        assert!((0.89..=0.9).contains(&probability), "{probability}");
        let mut rejected = 0;
        for _ in 0..100 {
            let result = throttler.call(std::future::ready(Err::<(), _>(())), |()| true).await;
            rejected += u32::from(matches!(result, Err(Error::Throttled { .. })));
        }
        assert!((80..100).contains(&rejected), "{rejected}");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_cancelled_calls_are_no_refusals() {
        let throttler = throttler();
        for _ in 0..1_000 {
            drop(throttler.try_send(Criticality::Critical).unwrap());
            throttler.try_send(Criticality::Critical).unwrap().settle(&Verdict::FAILURE);
            throttler.try_send(Criticality::Critical).unwrap().settle(&Verdict::TIMEOUT);
            let business = throttler.call(std::future::ready(Err::<(), _>("no stock")), |_| false);
            business.await.unwrap_err();
        }
        assert!(throttler.probability(Criticality::Critical) < f32::EPSILON);
    }

    #[tokio::test(start_paused = true)]
    async fn less_critical_calls_go_first() {
        let throttler = throttler();
        let verdict = Verdict::throttled(crate::hint::Hint::default());
        let send = |_| throttler.try_send(Criticality::Critical).ok();
        (0..1_000).filter_map(send).for_each(|sent| sent.settle(&verdict));
        let of = |class| throttler.probability(class);
        assert!(of(Criticality::Sheddable) >= of(Criticality::Critical));
        assert!(of(Criticality::Critical) >= of(Criticality::CriticalPlus));
    }

    #[test]
    fn bad_settings_are_named() {
        let error = AdaptiveThrottler::builder().k(0.5).build().unwrap_err();
        assert!(error.to_string().starts_with("throttle.k"), "{error}");
        assert!(AdaptiveThrottler::builder().k(f64::NAN).build().is_err());
        assert!(AdaptiveThrottler::builder().window(Duration::ZERO).build().is_err());
    }
}
