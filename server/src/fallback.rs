//! What a request is answered when the store has no answer: each rule's `on_failure`, or under overload its
//! domain's `on_overload`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smallvec::SmallVec;
use tollgate_core::limit::{Cost, Limit, Retry, Verdict};
use tollgate_core::rules::{Answer, By, Charge, Hit, OnFailure, Plan, RuleRef};
use tollgate_core::time::{Span, Time};

use crate::store::memory::{Bounds, MemoryStore, OnFull};
use crate::store::{Fault, Replies};

/// When a request that was refused because nobody could be asked may come again.
const RETRY: Span = Span::SECOND;

/// Most keys whose share is counted in this server; a new one beyond that is refused.
const MAX_SHARES: u64 = 1_000_000;
const MAX_SHARE_BYTES: u64 = 256 << 20;

/// How many servers share the limits, as far as this one knows; at least 1.
#[derive(Clone, Debug)]
pub struct Servers(Arc<AtomicU64>);

impl Servers {
    /// `count` servers; 0 counts as 1.
    #[must_use]
    pub fn new(count: u64) -> Servers {
        Servers(Arc::new(AtomicU64::new(count.max(1))))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// There are `count` now; 0 counts as 1.
    pub fn set(&self, count: u64) {
        self.0.store(count.max(1), Relaxed);
    }
}

/// Answers in place of the store.
#[derive(Debug)]
pub struct Fallback {
    shares: MemoryStore,
    servers: Servers,
}

impl Fallback {
    /// A fallback for one of `servers`.
    #[must_use]
    pub fn new(servers: Servers) -> Fallback {
        let bounds = Bounds { max_keys: MAX_SHARES, max_bytes: MAX_SHARE_BYTES, on_full: OnFull::Deny };
        Fallback { shares: MemoryStore::new(bounds), servers }
    }

    /// Replaces every fault whose policy has an answer; the others stay.
    pub fn answer(&self, plan: &Plan<'_>, now: Time, replies: &mut Replies) {
        let policy = |hit: &Hit<'_>, fault: Fault| match fault {
            Fault::Overloaded => plan.on_overload(),
            _ => hit.rule.on_failure,
        };
        let mut local: SmallVec<[usize; 4]> = SmallVec::new();
        for (place, (hit, reply)) in plan.hits().iter().zip(replies.iter_mut()).enumerate() {
            let Err(fault) = *reply else { continue };
            match policy(hit, fault) {
                OnFailure::Error => {}
                OnFailure::Allow => *reply = Ok(unasked(hit, true)),
                OnFailure::Deny => *reply = Ok(unasked(hit, false)),
                OnFailure::Local => local.push(place),
            }
        }
        if !local.is_empty() {
            self.share(plan, &local, now, replies);
        }
    }

    /// Charges this server's shares of the limits of some hits, together as the plan says.
    fn share(&self, plan: &Plan<'_>, places: &[usize], now: Time, replies: &mut Replies) {
        let servers = self.servers.count();
        let hits: SmallVec<[Hit<'_>; 4]> = places
            .iter()
            .filter_map(|&place| plan.hits().get(place))
            .map(|hit| shared(hit, servers))
            .collect();
        // what others have refused already is not to be spent here
        let refused = plan.charge() == Charge::AllOrNothing && refuse(plan.hits(), replies);
        let hits = if refused { hits.into_iter().map(looking).collect() } else { hits };
        let answers = self.shares.charge_at(plan.charge(), &hits, now);
        for (&place, answer) in places.iter().zip(answers) {
            replies[place] = Ok(Answer { by: By::Share, ..answer });
        }
    }

    /// Forgets shares that make no difference any more, for as long as it is polled.
    pub async fn sweep_forever(&self, clock: &dyn crate::clock::Clock) {
        self.shares.sweep_forever(clock).await;
    }
}

/// Whether the hits that have answers refuse the request already.
fn refuse(hits: &[Hit<'_>], replies: &Replies) -> bool {
    let over = |hit: &Hit<'_>, answer: &Answer| !answer.verdict.allowed && !hit.shadow && !hit.alternative;
    hits.iter().zip(replies).any(|(hit, reply)| reply.as_ref().is_ok_and(|answer| over(hit, answer)))
}

/// The same hit on one server's part of the limit.
fn shared<'m>(hit: &Hit<'m>, servers: u64) -> Hit<'m> {
    let mut rule = (*hit.rule).clone();
    rule.limit = rule.limit.map(|limit| limit.shared_by(servers));
    Hit { rule: RuleRef::Override(Box::new(rule)), ..hit.clone() }
}

fn looking(mut hit: Hit<'_>) -> Hit<'_> {
    hit.ask.cost = Cost::Take(0);
    hit
}

/// The verdict of a policy that counts nothing.
fn unasked(hit: &Hit<'_>, allowed: bool) -> Answer {
    let limit = hit.rule.limit.as_ref().map_or(u64::MAX, Limit::capacity);
    let takes = matches!(hit.ask.cost, Cost::Take(_));
    let allowed = allowed || !takes;
    let verdict = Verdict {
        allowed,
        limit,
        remaining: if allowed { limit } else { 0 },
        used_before: 0,
        used: 0,
        retry_after: Retry::After(if allowed { Span::ZERO } else { RETRY }),
        reset_after: if allowed { Span::ZERO } else { RETRY },
        wait: Span::ZERO,
    };
    Answer { verdict, by: By::Fallback }
}

#[cfg(test)]
mod tests;
