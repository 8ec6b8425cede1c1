//! How many retries a target may be sent.

use std::sync::Arc;

use tollgate_core::load::budget as core;
use tollgate_core::load::ratio::Ratio;

use crate::clock::{Clock, SystemClock};
use crate::config::ConfigError;

/// The retries that a target may still be sent: a share of its calls, and a few per second. Clones share one
/// budget; share it between everything that retries or hedges to one target. A retry after a time-out costs
/// double.
#[derive(Clone, Debug)]
pub struct RetryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: core::RetryBudget,
    clock: Arc<dyn Clock>,
}

/// Builds a [`RetryBudget`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct RetryBudgetBuilder {
    percent: u32,
    config: core::BudgetConfig,
    clock: Arc<dyn Clock>,
}

impl RetryBudget {
    /// Retries for `percent` of the calls of the last 10 s, `0..=1000`, and 10 per second.
    pub fn percent(percent: u32) -> RetryBudgetBuilder {
        let config = core::BudgetConfig { ratio: Ratio::from_percent(percent), ..Default::default() };
        RetryBudgetBuilder { percent, config, clock: Arc::new(SystemClock) }
    }

    /// Retries that are left, rounded down.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.0.core.available(self.0.clock.now()) / 1_000_000
    }

    pub(super) fn deposit(&self) {
        self.0.core.deposit(self.0.clock.now());
    }

    pub(super) fn try_withdraw(&self, timed_out: bool) -> bool {
        self.0.core.try_withdraw(self.0.clock.now(), attempt(timed_out))
    }

    pub(super) fn give_back(&self, timed_out: bool) {
        self.0.core.give_back(self.0.clock.now(), attempt(timed_out));
    }
}

const fn attempt(timed_out: bool) -> core::Attempt {
    if timed_out { core::Attempt::AfterTimeout } else { core::Attempt::Retry }
}

impl RetryBudgetBuilder {
    /// Retries per second, whatever the number of calls. Default 10.
    pub fn min_per_second(mut self, retries: u32) -> Self {
        self.config.min_rps = retries;
        self
    }

    /// Where it learns the time.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The budget.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that makes no sense.
    pub fn build(self) -> Result<RetryBudget, ConfigError> {
        if self.percent > 1_000 {
            return Err(ConfigError::range("retry_budget.percent", "0 to 1000", &self.percent));
        }
        let core = core::RetryBudget::new(&self.config, self.clock.now())?;
        Ok(RetryBudget(Arc::new(Inner { core, clock: self.clock })))
    }
}
