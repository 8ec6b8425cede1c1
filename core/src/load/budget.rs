//! Retry budgets: retries are a share of requests, so that they cannot multiply an outage.

use super::ratio::Ratio;
use super::rolling::RollingSum;
use super::{OutOfRange, within};
use crate::time::{Span, Time};

/// One retry, in the unit of the budget.
const RETRY: u64 = 1_000_000;

/// How many retries and hedges there may be: over each window `ratio` of the requests, and `min_rps` more per
/// second. The rule of Finagle's `RetryBudget`, in millionths of a retry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BudgetConfig {
    /// Retries per request: `0..=10`. Default 0.2.
    pub ratio: Ratio,
    /// Retries per second without any request: `0..=1_000_000`. Default 10.
    pub min_rps: u32,
    /// How long a request pays for retries: `1s..=60s`. Default 10 s.
    pub window: Span,
    /// What a retry after a timeout costs, in retries: `1..=100`. Default 2, since the target has spent its
    /// time already and may still be at it.
    pub timeout_cost: u32,
}

impl Default for BudgetConfig {
    fn default() -> BudgetConfig {
        BudgetConfig {
            ratio: Ratio::from_percent(20),
            min_rps: 10,
            window: Span::from_secs(10),
            timeout_cost: 2,
        }
    }
}

impl BudgetConfig {
    fn check(&self) -> Result<(), OutOfRange> {
        within("budget.ratio", self.ratio, Ratio::ZERO..=Ratio::from_percent(1_000))?;
        within("budget.min_rps", self.min_rps, 0..=1_000_000)?;
        within("budget.window", self.window, Span::SECOND..=Span::from_secs(60))?;
        within("budget.timeout_cost", self.timeout_cost, 1..=100)
    }
}

/// Why there is another attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attempt {
    /// The last one failed.
    Retry,
    /// The last one timed out.
    AfterTimeout,
    /// The last one is slow; this one runs beside it.
    Hedge,
}

/// The retries that one target may still be sent, shared by all that retry or hedge. For many threads; no
/// lock.
#[derive(Debug)]
pub struct RetryBudget {
    deposit: u64,
    reserve: i64,
    timeout_cost: u64,
    /// Deposits less withdrawals of the window, as `i64`.
    balance: RollingSum,
}

/// Steps in which the window moves.
const SLOTS: u32 = 10;

impl RetryBudget {
    /// A budget that holds its reserve: `min_rps` over one window.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: &BudgetConfig, now: Time) -> Result<RetryBudget, OutOfRange> {
        config.check()?;
        let reserve = u64::from(config.min_rps).saturating_mul(config.window.as_micros());
        Ok(RetryBudget {
            deposit: u64::from(config.ratio.millionths()),
            reserve: i64::try_from(reserve).unwrap_or(i64::MAX),
            timeout_cost: u64::from(config.timeout_cost) * RETRY,
            balance: RollingSum::new(config.window, SLOTS, now),
        })
    }

    /// A request was sent, for the first time.
    pub fn deposit(&self, now: Time) {
        self.balance.advance(now);
        self.balance.add(self.deposit);
    }

    /// Takes what `attempt` costs; false, and nothing taken, if that is not left.
    #[must_use = "without its withdrawal the attempt must not be made"]
    pub fn try_withdraw(&self, now: Time, attempt: Attempt) -> bool {
        self.balance.advance(now);
        self.balance.try_take(self.cost(attempt), -self.reserve)
    }

    /// Gives back what was just withdrawn for an `attempt` that is not made after all.
    pub fn give_back(&self, now: Time, attempt: Attempt) {
        self.balance.advance(now);
        self.balance.add(self.cost(attempt));
    }

    const fn cost(&self, attempt: Attempt) -> u64 {
        match attempt {
            Attempt::Retry | Attempt::Hedge => RETRY,
            Attempt::AfterTimeout => self.timeout_cost,
        }
    }

    /// What is left, in millionths of a retry: at least 0, at most the reserve and the deposits of the window.
    #[must_use]
    pub fn available(&self, now: Time) -> u64 {
        self.balance.advance(now);
        let left = self.balance.total().cast_signed().saturating_add(self.reserve);
        u64::try_from(left).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1_000_000_000);

    fn budget(config: &BudgetConfig) -> RetryBudget {
        RetryBudget::new(config, NOW).unwrap()
    }

    fn all(budget: &RetryBudget, now: Time, attempt: Attempt) -> usize {
        (0..100_000).take_while(|_| budget.try_withdraw(now, attempt)).count()
    }

    #[test]
    fn what_is_given_back_can_be_withdrawn_again() {
        let budget = budget(&BudgetConfig { ratio: Ratio::ZERO, min_rps: 1, ..BudgetConfig::default() });
        for attempt in [Attempt::Retry, Attempt::AfterTimeout, Attempt::Hedge] {
            let before = budget.available(NOW);
            assert!(budget.try_withdraw(NOW, attempt));
            budget.give_back(NOW, attempt);
            assert_eq!(budget.available(NOW), before);
        }
        assert_eq!(all(&budget, NOW, Attempt::Retry), 10);
    }

    #[test]
    fn every_percentage_acts_as_itself() {
        for percent in [1, 3, 20, 33, 50, 60, 70, 99, 100, 250] {
            let ratio = Ratio::from_percent(percent);
            let budget = budget(&BudgetConfig { ratio, min_rps: 0, ..BudgetConfig::default() });
            (0..1_000).for_each(|_| budget.deposit(NOW));
            let expected = usize::try_from(percent * 10).unwrap();
            assert_eq!(all(&budget, NOW, Attempt::Retry), expected, "{percent} %");
        }
    }

    #[test]
    fn the_reserve_lasts_for_a_window() {
        let budget = budget(&BudgetConfig::default());
        assert_eq!(all(&budget, NOW, Attempt::Retry), 100);
        let later = |secs| all(&budget, NOW + Span::from_secs(secs), Attempt::Hedge);
        assert_eq!((later(9), later(10)), (0, 100), "what was taken is forgotten after ten seconds");
    }

    #[test]
    fn a_retry_after_a_timeout_costs_double() {
        let budget = budget(&BudgetConfig::default());
        assert_eq!(all(&budget, NOW, Attempt::AfterTimeout), 50);
        assert_eq!(budget.available(NOW), 0);
    }

    #[test]
    fn deposits_expire() {
        let budget = budget(&BudgetConfig { min_rps: 0, ..BudgetConfig::default() });
        (0..100).for_each(|_| budget.deposit(NOW));
        assert_eq!(budget.available(NOW + Span::from_secs(9)), 20_000_000);
        assert_eq!(budget.available(NOW + Span::from_secs(10)), 0);
    }

    #[test]
    fn its_settings_have_ranges() {
        let error = |config| RetryBudget::new(&config, NOW).unwrap_err().to_string();
        let default = BudgetConfig::default();
        let ratio = Ratio::from_percent(1_001);
        assert_eq!(error(BudgetConfig { ratio, ..default }), "budget.ratio 10.01 is out of range: 0 to 10");
        let window = Span::from_secs(61);
        assert_eq!(error(BudgetConfig { window, ..default }), "budget.window 61s is out of range: 1s to 60s");
        assert!(error(BudgetConfig { timeout_cost: 0, ..default }).starts_with("budget.timeout_cost 0 "));
    }
}
