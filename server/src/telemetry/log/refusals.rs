//! Refusals in the log: a few of them, however many there are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;
use tollgate_core::rules::{Decision, Outcome, Query, RuleRef, Status};

use crate::telemetry::meter::{Striped, Stripes};

/// So many lines in each second; the others are counted.
#[derive(Debug)]
pub(in crate::telemetry) struct Refusals {
    per_second: u32,
    began: Instant,
    /// Second and lines in it; only raised under the lock, read without.
    spent: AtomicU64,
    raising: Mutex<()>,
    left_out: Striped<1>,
    told: AtomicU64,
}

impl Refusals {
    pub(in crate::telemetry) fn new(per_second: u32, stripes: Stripes) -> Refusals {
        Refusals {
            per_second,
            began: Instant::now(),
            spent: AtomicU64::new(0),
            raising: Mutex::new(()),
            left_out: Striped::new(stripes),
            told: AtomicU64::new(0),
        }
    }

    /// Writes a refusal if there is room for it. Names rules, never what the request holds.
    #[cold]
    pub(in crate::telemetry) fn refused(&self, query: &Query<'_>, decision: &Decision<'_>) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let Some(left_out) = self.take() else { return };
        let rules: Vec<&str> = decision.outcomes.iter().filter_map(refusing).collect();
        let rules = rules.join(", ");
        match left_out {
            0 => tracing::info!(domain = query.domain, rules, "refused"),
            _ => tracing::info!(domain = query.domain, rules, left_out, "refused"),
        }
    }

    /// Room for one line: how many were left out before it.
    fn take(&self) -> Option<u64> {
        let second = self.began.elapsed().as_secs();
        if self.is_spent(second) || !self.spend(second) {
            self.left_out.add(0, 1);
            return None;
        }
        let total = self.left_out.sum(0);
        Some(total.saturating_sub(self.told.swap(total, Relaxed)))
    }

    fn is_spent(&self, second: u64) -> bool {
        let spent = self.spent.load(Relaxed);
        spent >> 32 == second && spent & u64::from(u32::MAX) >= u64::from(self.per_second)
    }

    fn spend(&self, second: u64) -> bool {
        let Ok(_raising) = self.raising.lock() else { return false };
        if self.per_second == 0 || self.is_spent(second) {
            return false;
        }
        let spent = self.spent.load(Relaxed);
        let lines = if spent >> 32 == second { spent & u64::from(u32::MAX) } else { 0 };
        self.spent.store((second << 32) | (lines + 1), Relaxed);
        true
    }
}

fn refusing<'d>(outcome: &'d Outcome<'_>) -> Option<&'d str> {
    match outcome {
        Outcome::Decided { rule: RuleRef::Configured(rule), status: Status::OverLimit, .. } => {
            Some(&rule.path)
        }
        Outcome::Decided { rule: RuleRef::Override(_), status: Status::OverLimit, .. } => Some("override"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_has_room_for_so_many_lines() {
        let refusals = Refusals::new(3, Stripes::for_threads(1));
        let taken = |times: usize| (0..times).filter_map(|_| refusals.take()).collect::<Vec<_>>();
        assert_eq!(taken(10), [0, 0, 0]);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(taken(5), [0; 0]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(taken(4), [12, 0, 0], "the first line says how many were left out");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(1), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn none_is_none() {
        let refusals = Refusals::new(0, Stripes::for_threads(1));
        assert_eq!(refusals.take(), None);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(refusals.take(), None);
    }
}
