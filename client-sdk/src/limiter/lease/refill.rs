//! Buying tokens, and giving back what is not used.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1::lease_response::Reason;
use tollgate_proto::tollgate::v1::limit_status::Outcome;
use tollgate_proto::tollgate::v1::{Accuracy, LeaseRequest, LeaseResponse, LeaseReturn, ReturnLeaseRequest};

use super::LeasedKey;
use super::key::Lease;
use crate::clock::span;
use crate::limiter::core::Core;
use crate::limiter::decision::{Decision, DecisionSource, tightest};
use crate::limiter::error::LimiterError;
use crate::limiter::wire;

/// Longest time for a purchase.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a key is not leased if the service does not say.
const NOT_LEASABLE: Duration = Duration::from_secs(10);
/// How long to wait after a purchase failed.
const FAILED: Duration = Duration::from_secs(1);
/// A key that nobody has asked for this long gives back its tokens.
const IDLE: Span = Span::SECOND;
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Buys tokens for `key`.
pub(in crate::limiter) async fn refill(core: Arc<Core>, key: Arc<LeasedKey>) {
    let _refilling = key.refilling();
    let now = core.clock.now();
    let previous = key.make_room(now);
    if let Some(previous) = &previous {
        core.counters.returned.add(previous.unspent);
    }
    let request = LeaseRequest {
        domain: key.domain.clone(),
        descriptors: key.descriptors.clone(),
        tokens: key.want(now, core.leases.max_lease),
        ttl: None,
        previous,
    };
    // the tokens' time counts from here
    let sent = core.clock.now();
    match core.channel.lease(&request, (key.affinity, TIMEOUT)).await {
        Ok(response) => settle(&core, &key, sent, (request.tokens, response)),
        Err(error) => failed(&core, &key, &error),
    }
}

fn failed(core: &Core, key: &LeasedKey, error: &LimiterError) {
    tracing::debug!(%error, "no tokens were bought");
    let wait = match error {
        LimiterError::Unsupported(_) | LimiterError::Invalid(_) => NOT_LEASABLE,
        error => error.retry_after().unwrap_or(FAILED).max(FAILED),
    };
    key.block(core.clock.now() + span(core.channel.random().around(wait)));
}

fn settle(core: &Arc<Core>, key: &Arc<LeasedKey>, sent: Time, (wanted, response): (u64, LeaseResponse)) {
    let now = core.clock.now();
    let reason = response.reason();
    let granted = response.granted.min(wanted);
    key.bought(granted, reason == Reason::Exhausted, now - sent);
    let retry_after = wire::optional(response.retry_after.as_ref());
    match reason {
        Reason::NotLeasable => return key.block(sent + span(retry_after.unwrap_or(NOT_LEASABLE))),
        Reason::Unlimited => {}
        _ if granted == 0 => {
            let wait = retry_after.unwrap_or(FAILED);
            key.block(sent + span(wait));
            return exhausted(core, key, sent, &response);
        }
        _ => {}
    }
    let unlimited = reason == Reason::Unlimited;
    let ttl = wire::optional(response.ttl.as_ref()).map(span).unwrap_or_default();
    core.counters.leases.add(1);
    core.counters.leased.add(granted);
    key.add(Lease {
        granted,
        tokens: (!unlimited).then(|| AtomicU64::new(granted)),
        until: sent + ttl,
        half: sent + Span::from_micros(ttl.as_micros() / 2),
        decision: decision(&response, unlimited),
        id: response.lease,
    });
    if core.leases.hold(key) {
        tokio::spawn(sweep(core.clone()));
    }
}

/// Refuses from memory until the limit has room again, if it has none at all.
fn exhausted(core: &Core, key: &LeasedKey, sent: Time, response: &LeaseResponse) {
    let empty = |limit: &tollgate_proto::tollgate::v1::LimitStatus| {
        limit.outcome() == Outcome::Decided && limit.remaining == 0 && !limit.shadowed
    };
    let Some(after) = wire::optional(response.retry_after.as_ref()) else { return };
    if response.reason() != Reason::Exhausted || !response.limits.iter().any(empty) {
        return;
    }
    let jitter = wire::optional(response.retry_jitter.as_ref()).unwrap_or_default();
    let advice = after.saturating_add(core.channel.random().part_of(jitter));
    let refused = Decision {
        allowed: false,
        retry_after: Some(after),
        retry_advice: Some(advice),
        remaining: 0,
        pressure: 1.0,
        ..decision(response, false)
    };
    core.denials.remember_exhausted(key, sent, &refused);
}

/// What whoever spends a token is told.
fn decision(response: &LeaseResponse, unlimited: bool) -> Decision {
    let mut decision = Decision::bare(true, DecisionSource::Lease);
    if let Some(tightest) = tightest(&response.limits).filter(|_| !unlimited) {
        decision.describe(tightest);
        decision.remaining = tightest.remaining;
        decision.pressure = pressure(tightest.limit, tightest.remaining);
    }
    decision.accuracy = Accuracy::Leased;
    decision
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn pressure(limit: u64, remaining: u64) -> f32 {
    if limit == 0 { 1.0 } else { (1.0 - remaining as f32 / limit as f32).clamp(0.0, 1.0) }
}

/// Gives back what keys hold that nobody asks for any more, until no key holds anything.
async fn sweep(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = core.channel.stopped().cancelled() => return,
        }
        let now = core.clock.now();
        let Some(idle) = core.leases.idle(now, now - IDLE) else { return };
        for key in idle {
            give_back(&core, &key).await;
        }
    }
}

/// Gives back everything.
pub(in crate::limiter) async fn give_all_back(core: &Arc<Core>) {
    for key in core.leases.all() {
        give_back(core, &key).await;
    }
}

async fn give_back(core: &Arc<Core>, key: &LeasedKey) {
    for back in key.empty(core.clock.now()) {
        let LeaseReturn { unspent, .. } = back;
        let request = ReturnLeaseRequest {
            domain: key.domain.clone(),
            descriptors: key.descriptors.clone(),
            lease: Some(back),
        };
        match core.channel.give_back(&request, (key.affinity, TIMEOUT)).await {
            Ok(_) => core.counters.returned.add(unspent),
            // the tokens' time ends by itself
            Err(error) => tracing::debug!(%error, "tokens were not given back"),
        }
    }
}
