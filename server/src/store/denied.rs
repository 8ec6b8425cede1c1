//! Refusals that still hold, answered from memory.
//!
//! A refused key is refused again, without asking the store, until the instant that the store named. What a
//! refusal says: for a fixed window, that this cost and every larger one are refused until then; for the
//! others, that this cost is. Smaller costs, looks, refunds, rules in shadow and requests with an id go to
//! the store. A refusal dies with the rules that it was made under, with another limit for the same key, and
//! with a refund that this server passes on; refusals of `all_or_nothing` requests with several hits are not learned; another server's refund is seen when the refusal ends. A refusal
//! from memory is not charged, as with the reference's local cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use foldhash::quality::RandomState;
use moka::ops::compute::Op;
use moka::sync::Cache;
use smallvec::SmallVec;
use tokio::time::Instant;
use tollgate_core::limit::{Cost, Limit, Retry, Verdict};
use tollgate_core::rules::{Answer, By, Charge, Hit};
use tollgate_core::time::{Span, Time};

use super::{Charging, Clearing, Denials, Fault, Forgetting, Replies, Request, Store, Usage};

/// Bytes that a refusal takes besides its key, by estimate.
const OVERHEAD: usize = 288;
/// Shorter refusals are not worth an entry.
const SHORTEST: Span = Span::from_micros(500);
/// Costs of one key whose refusals are remembered at a time.
const MAX_COSTS: usize = 4;
/// Slots of the filter in front of the cache.
const SLOTS: usize = 8_192;

/// A store behind a cache of its refusals.
pub struct Denied {
    store: Arc<dyn Store>,
    cache: Cache<Box<[u8]>, Denial>,
    /// Spares most requests the look into the cache.
    filter: Box<[Slot]>,
    hasher: RandomState,
    hits: AtomicU64,
    saved: AtomicU64,
}

/// Keys that hash alike.
#[derive(Default)]
struct Slot {
    /// No refusal of these keys holds after this, in microseconds of this server's clock. Only a hint.
    until: AtomicU64,
    /// Grows with every refund, so that no older refusal is remembered after it.
    refunds: AtomicU32,
}

/// What is known of one key.
#[derive(Clone, Debug)]
struct Denial {
    generation: u64,
    capacity: u64,
    algorithm: &'static str,
    refused: SmallVec<[Refused; 1]>,
}

/// One refused cost.
#[derive(Clone, Copy, Debug)]
struct Refused {
    cost: u64,
    /// The caller could not have waited longer than this (leaky bucket).
    patience: Span,
    until: Instant,
    /// The window's end, or when nothing would be in use.
    reset: Instant,
    verdict: Verdict,
}

/// A refusal from memory per hit.
type Found = SmallVec<[Option<Answer>; 2]>;

impl Denied {
    /// A cache of at most `max_bytes` (by estimate) in front of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, max_bytes: u64) -> Denied {
        #[expect(clippy::borrowed_box, reason = "what the cache hands out")]
        let weigh = |key: &Box<[u8]>, _: &Denial| u32::try_from(key.len() + OVERHEAD).unwrap_or(u32::MAX);
        Denied {
            store,
            cache: Cache::builder().max_capacity(max_bytes).weigher(weigh).build(),
            filter: (0..SLOTS).map(|_| Slot::default()).collect(),
            hasher: RandomState::default(),
            hits: AtomicU64::new(0),
            saved: AtomicU64::new(0),
        }
    }

    fn slot(&self, hit: &Hit<'_>) -> &Slot {
        #[expect(clippy::cast_possible_truncation, reason = "a hash: any bits do")]
        let hash = hit.key.hash_with(&self.hasher) as usize;
        &self.filter[hash % SLOTS]
    }

    /// The refusals that hold for the hits of `request`.
    fn find(&self, request: &Request<'_>) -> Option<Found> {
        let maybe = |hit: &Hit<'_>| self.slot(hit).until.load(Relaxed) > request.now.as_micros();
        if request.id.is_some() || !request.hits.iter().any(maybe) {
            return None;
        }
        let now = Instant::now();
        let found: Found =
            request.hits.iter().map(|hit| self.refusal(hit, request.generation, now)).collect();
        let useful = match request.charge {
            // what refuses a request for certain refuses it alone; alternatives do so together
            Charge::AllOrNothing => {
                found.iter().all(Option::is_some)
                    || found.iter().zip(request.hits).any(|(found, hit)| found.is_some() && !hit.alternative)
            }
            _ => found.iter().any(Option::is_some),
        };
        useful.then_some(found)
    }

    fn refusal(&self, hit: &Hit<'_>, generation: u64, now: Instant) -> Option<Answer> {
        let Cost::Take(units @ 1..) = hit.ask.cost else { return None };
        let limit = hit.rule.limit.as_ref().filter(|_| !hit.shadow)?;
        let denial = self.cache.get(hit.key.as_bytes()).filter(|denial| denial.is_of(limit, generation))?;
        let refused = denial.refused.iter().find(|refused| refused.covers(limit, units, hit.ask.patience))?;
        (refused.until > now).then(|| Answer { verdict: refused.told(limit, units, now), by: By::Denial })
    }

    /// Asks the store only about the hits that no refusal holds for.
    async fn charge_rest(&self, request: Request<'_>, found: Found) -> Replies {
        let together = request.charge == Charge::AllOrNothing;
        let rest: SmallVec<[Hit<'_>; 2]> = request
            .hits
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(hit, _)| if together { looking(hit) } else { hit.clone() })
            .collect();
        let mut replies = self.ask(Request { hits: &rest, ..request }).await.into_iter();
        let merged = found.into_iter().map(|found| match found {
            Some(answer) => Ok(answer),
            None => replies.next().unwrap_or(Err(Fault::Garbled)),
        });
        merged.collect()
    }

    /// Asks the store and remembers what it refuses.
    async fn ask(&self, request: Request<'_>) -> Replies {
        let refunds: SmallVec<[u32; 4]> =
            request.hits.iter().map(|hit| self.slot(hit).refunds.load(Relaxed)).collect();
        // from before the question: a refusal ends here no later than in the store
        let asked = Instant::now();
        let replies = self.store.charge(request).await;
        for ((hit, reply), refunds) in request.hits.iter().zip(&replies).zip(refunds) {
            match (hit.ask.cost, reply) {
                (Cost::Refund(_), _) => self.forget(hit),
                (Cost::Take(1..), Ok(answer)) if self.slot(hit).refunds.load(Relaxed) == refunds => {
                    self.learn(hit, answer, &request, asked);
                }
                _ => {}
            }
        }
        replies
    }

    fn forget(&self, hit: &Hit<'_>) {
        self.slot(hit).refunds.fetch_add(1, Relaxed);
        self.cache.invalidate(hit.key.as_bytes());
    }

    fn learn(&self, hit: &Hit<'_>, answer: &Answer, request: &Request<'_>, asked: Instant) {
        let Retry::After(retry) = answer.verdict.retry_after else { return };
        let counted = answer.by == By::Redis || answer.by == By::Memory;
        let (Cost::Take(cost), Some(limit)) = (hit.ask.cost, &hit.rule.limit) else { return };
        // a replay tells an old instant, and a refusal among several hits may be of charges that are taken back
        let alone =
            request.id.is_none() && (request.charge != Charge::AllOrNothing || request.hits.len() == 1);
        if answer.verdict.allowed || !alone || !counted || hit.shadow || retry < SHORTEST {
            return;
        }
        let after = |span: Span| asked.checked_add(Duration::from_micros(span.as_micros())).unwrap_or(asked);
        let refused = Refused {
            cost,
            patience: hit.ask.patience,
            until: after(retry),
            reset: after(answer.verdict.reset_after),
            verdict: answer.verdict,
        };
        let fresh = Denial::new(limit, request.generation);
        self.cache.entry(hit.key.as_bytes().into()).and_compute_with(|known| {
            let known = known.map(moka::Entry::into_value);
            let known = known.filter(|known| known.is_of(limit, request.generation));
            Op::Put(known.unwrap_or(fresh).with(refused, asked))
        });
        self.slot(hit).until.fetch_max((request.now + retry).as_micros(), Relaxed);
    }
}

impl Denial {
    fn new(limit: &Limit, generation: u64) -> Denial {
        let (capacity, algorithm) = (limit.capacity(), limit.algorithm());
        Denial { generation, capacity, algorithm, refused: SmallVec::new() }
    }

    fn is_of(&self, limit: &Limit, generation: u64) -> bool {
        self.generation == generation
            && self.capacity == limit.capacity()
            && self.algorithm == limit.algorithm()
    }

    /// With one more refused cost, without those that have ended.
    fn with(mut self, refused: Refused, now: Instant) -> Denial {
        self.refused.retain(|known| known.cost != refused.cost && known.until > now);
        self.refused.truncate(MAX_COSTS - 1);
        self.refused.push(refused);
        self.refused.sort_unstable_by_key(|refused| refused.cost);
        self
    }
}

impl Refused {
    fn covers(&self, limit: &Limit, units: u64, patience: Span) -> bool {
        let cost = match limit {
            Limit::FixedWindow(_) => self.cost <= units,
            _ => self.cost == units,
        };
        cost && patience <= self.patience
    }

    /// The verdict as it stands at `now`.
    fn told(&self, limit: &Limit, units: u64, now: Instant) -> Verdict {
        let left = |until: Instant| {
            let micros = until.saturating_duration_since(now).as_nanos().div_ceil(1_000);
            Span::from_wide(micros)
        };
        let retry_after =
            if units > limit.capacity() { Retry::Never } else { Retry::After(left(self.until)) };
        Verdict { retry_after, reset_after: left(self.reset), used_before: self.verdict.used, ..self.verdict }
    }
}

fn looking<'m>(hit: &Hit<'m>) -> Hit<'m> {
    let mut look = hit.clone();
    look.ask.cost = Cost::Take(0);
    look
}

impl Store for Denied {
    fn charge_now(&self, request: &Request<'_>) -> Option<Replies> {
        if request.hits.is_empty() {
            return Some(Replies::new());
        }
        let found = self.find(request)?;
        let replies: Replies = found.into_iter().map(|found| found.map(Ok)).collect::<Option<_>>()?;
        self.hits.fetch_add(replies.len() as u64, Relaxed);
        self.saved.fetch_add(1, Relaxed);
        Some(replies)
    }

    fn charge<'a>(&'a self, request: Request<'a>) -> Charging<'a> {
        let Some(found) = self.find(&request) else { return Box::pin(self.ask(request)) };
        self.hits.fetch_add(found.iter().flatten().count() as u64, Relaxed);
        if found.iter().all(Option::is_some) {
            self.saved.fetch_add(1, Relaxed);
            let replies: Replies = found.into_iter().flatten().map(Ok).collect();
            return Box::pin(std::future::ready(replies));
        }
        Box::pin(self.charge_rest(request, found))
    }

    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], now: Time) -> Forgetting<'a> {
        Box::pin(async move {
            let forgotten = self.store.forget(hits, now).await;
            hits.iter().for_each(|hit| self.forget(hit));
            forgotten
        })
    }

    fn clear(&self) -> Clearing<'_> {
        Box::pin(async {
            let cleared = self.store.clear().await;
            // no answer that is on its way now may bring an old refusal back
            self.filter.iter().for_each(|slot| {
                slot.refunds.fetch_add(1, Relaxed);
            });
            self.cache.invalidate_all();
            cleared
        })
    }

    fn usage(&self) -> Usage {
        let denials = Denials {
            keys: self.cache.entry_count(),
            hits: self.hits.load(Relaxed),
            saved: self.saved.load(Relaxed),
        };
        Usage { denials: Some(denials), ..self.store.usage() }
    }

    fn call_times(&self) -> Option<super::times::Times> {
        self.store.call_times()
    }

    fn is_up(&self) -> bool {
        self.store.is_up()
    }
}

#[cfg(test)]
mod tests;
