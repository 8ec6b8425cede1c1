//! What all clones of a client, and its tasks, share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::balance::Route;
use super::builder::{Checked, RateLimiterClientBuilder};
use super::channel::LimiterChannel;
use super::decision::Decision;
use super::denials::Denials;
use super::error::{ConfigError, LimiterError};
use super::failure::Fallback;
use super::lease::{Leases, Outcome, Spent, refill};
use super::metrics::Counters;
use super::request::{Ask, Request};
use crate::clock::Clock;

#[derive(Debug)]
pub(super) struct Core {
    domain: String,
    pub(super) deadline: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) channel: Arc<LimiterChannel>,
    pub(super) leases: Leases,
    pub(super) denials: Denials,
    fallback: Fallback,
    pub(super) counters: Arc<Counters>,
    /// Somebody has been told of a request that makes no sense.
    complained: AtomicBool,
}

impl Core {
    pub(super) fn new(mut builder: RateLimiterClientBuilder) -> Result<Core, ConfigError> {
        let Checked { resolver, settings } = builder.check()?;
        let fallback = Fallback::new(&builder.failure_mode, builder.max_keys)?;
        let counters = Arc::new(Counters::default());
        let channel = LimiterChannel::new(resolver, settings, builder.clock.clone(), counters.clone())?;
        Ok(Core {
            leases: Leases::new(builder.lease, builder.max_lease, builder.max_keys),
            denials: Denials::new(builder.max_keys),
            domain: builder.domain,
            deadline: builder.deadline,
            clock: builder.clock,
            channel,
            fallback,
            counters,
            complained: AtomicBool::new(false),
        })
    }

    pub(super) fn prepare(&self, request: Request) -> Result<Ask, LimiterError> {
        request.prepare(&self.domain, self.deadline)
    }

    /// Decides, or says why not.
    pub(super) async fn decide(self: &Arc<Core>, ask: &Ask) -> Result<Decision, LimiterError> {
        let Outcome { spent, refill: buys } = self.leases.spend(ask, &*self.clock);
        if let Some(key) = buys {
            tokio::spawn(refill(self.clone(), key));
        }
        let route = match spent {
            Spent::Decided(decision) => return Ok(decision),
            Spent::Ask { leased: true } => Route::Owner(ask.key.affinity()),
            Spent::Ask { leased: false } => Route::Fastest,
        };
        if let Some(denial) = self.denials.find(ask, || self.clock.now()) {
            return Ok(denial);
        }
        self.ask(ask, route).await
    }

    async fn ask(self: &Arc<Core>, ask: &Ask, route: Route) -> Result<Decision, LimiterError> {
        let asked = self.clock.now();
        let response = self.channel.check(ask, route).await?;
        let decision = Decision::from_service(response, |jitter| self.channel.random().part_of(jitter));
        if ask.wire.refund {
            self.denials.forget(&ask.key);
        }
        self.denials.remember(ask, asked, &decision);
        self.fallback.remember(ask, asked, &decision);
        Ok(decision)
    }

    /// Counts what came of a question.
    pub(super) fn counted(&self, outcome: &Result<Decision, LimiterError>) {
        match outcome {
            Ok(decision) => self.counters.decided(decision),
            Err(error) => self.counters.failed(error),
        }
    }

    /// Answers in place of the limiter.
    pub(super) fn fall_back(&self, ask: &Ask, error: &LimiterError) -> Decision {
        if matches!(error, LimiterError::Invalid(_)) {
            self.complain(error);
        }
        let decision = self.fallback.answer(ask, self.clock.now(), error);
        self.counters.decided(&decision);
        decision
    }

    /// Says once in the log that requests make no sense; the rest is counted.
    pub(super) fn complain(&self, error: &LimiterError) {
        if !self.complained.swap(true, Relaxed) {
            tracing::warn!(%error, "the failure mode answers requests that the limiter cannot understand");
        }
    }

    /// Answers a request that cannot even be asked.
    pub(super) fn fall_back_unasked(&self, error: &LimiterError) -> Decision {
        self.complain(error);
        let decision = self.fallback.unasked();
        self.counters.decided(&decision);
        decision
    }
}
