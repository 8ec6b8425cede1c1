//! The one place where the parts meet: rules, store, clock, metrics.

pub mod lease;
mod traced;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio::runtime::Handle;
use tollgate_core::limit::{Ask, Cost, Limit};
use tollgate_core::rules::{By, Charge, Decision, Hit, Key, Known, Plan, Query, RuleRef};
use tollgate_core::time::Span;

use tollgate_core::time::Time;

use crate::clock::Clock;
use crate::config::ruleset::Ruleset;
use crate::fallback::Fallback;
use crate::store::{Fault, Replies, Request, Store};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace;

/// Decides requests by the rules in force.
pub struct Engine {
    rules: ArcSwapOption<Ruleset>,
    store: Arc<dyn Store>,
    fallback: Arc<Fallback>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// A request that could be neither admitted nor refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rate limit store: {fault}")]
pub struct Undecided {
    /// The first of the store's faults.
    pub fault: Fault,
}

/// Why a request is undecided, as far as its caller can act on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// No answer came in time; the request may have been charged.
    Timeout,
    /// Too much waits for the store.
    Overloaded,
    /// The store cannot be used.
    Unavailable,
}

impl Undecided {
    /// What the caller can act on.
    #[must_use]
    pub const fn trouble(&self) -> Trouble {
        match self.fault {
            Fault::Timeout => Trouble::Timeout,
            Fault::Overloaded => Trouble::Overloaded,
            _ => Trouble::Unavailable,
        }
    }
}

/// How a request is asked, besides what it asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner<'a> {
    /// The caller's name for the request, 1 to 256 bytes: the same question asked again with the same name
    /// is answered as before and charges nothing, see [`Request::id`].
    pub id: Option<&'a [u8]>,
    /// How long the caller waits for the answer; `None` is as long as the query's patience.
    pub answer_within: Option<Span>,
    /// The instant of the request, if the caller has just read the engine's clock ([`Engine::now`]).
    pub now: Option<Time>,
}

/// What one descriptor's counter is called and holds.
#[derive(Clone, Debug)]
pub struct Counter {
    /// Its name.
    pub key: Key,
    /// Its algorithm, as in rules files.
    pub algorithm: &'static str,
}

/// The rules in force; one request sees one set of them.
pub type Rules = Guard<Option<Arc<Ruleset>>>;

impl Engine {
    /// An engine without rules.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        fallback: Arc<Fallback>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Engine {
        Engine { rules: ArcSwapOption::empty(), store, fallback, clock, metrics }
    }

    /// The rules in force; `None` until a set has been loaded.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules.load()
    }

    /// Puts `rules` in force for every request that begins from now on.
    pub fn use_rules(&self, rules: Arc<Ruleset>) {
        self.rules.store(Some(rules));
    }

    /// What the engine's clock shows.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The counts that this engine keeps.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Decides one request. A request that a leaky bucket admits for later is answered when its turn has
    /// come; if the caller goes away before that, it gives its place back.
    ///
    /// # Errors
    /// The store could not be asked about a limit whose `on_failure` is `error`, and no other limit refuses.
    pub async fn decide<'m>(
        &'m self,
        rules: &'m Ruleset,
        query: &Query<'_>,
    ) -> Result<Decision<'m>, Undecided> {
        self.decide_as(rules, query, Manner::default()).await
    }

    /// The same for a caller with a manner of its own. One who waits for its turn by itself
    /// ([`Query::waits_itself`]) is answered at once and keeps its place.
    ///
    /// # Errors
    /// As [`Engine::decide`].
    pub async fn decide_as<'m>(
        &'m self,
        rules: &'m Ruleset,
        query: &Query<'_>,
        manner: Manner<'_>,
    ) -> Result<Decision<'m>, Undecided> {
        let mut step = trace::step("tollgate.decide");
        let now = manner.now.unwrap_or_else(|| self.clock.now());
        let plan = rules.matcher().plan(query);
        let id = manner.id.map(|id| question(id, plan.hits()));
        let request = request(rules, query, manner, (&plan, id.as_ref()), now);
        let replies = match self.store.charge_now(&request) {
            Some(replies) => replies,
            None => self.charge(request).await,
        };
        let settled = self.settle((rules, query), plan, replies, now);
        if let Some(mut step) = step.take() {
            traced::tell(&mut step, query, settled.as_ref().map(|settled| &settled.decision));
        }
        let Settled { decision, queued } = settled?;
        if !queued.is_empty() && !query.waits_itself {
            self.hold(queued, &decision, now).await;
        }
        Ok(decision)
    }

    /// Decides the request of a caller who waits for its turn by itself, if the store need not be waited for
    /// either. `None` decides nothing and charges nothing.
    pub fn decide_now<'m>(
        &'m self,
        rules: &'m Ruleset,
        query: &Query<'_>,
        manner: Manner<'_>,
    ) -> Option<Result<Decision<'m>, Undecided>> {
        if query.waits_itself { self.decide_unheld(rules, query, manner) } else { None }
    }

    /// Decides any request at once, without holding its caller back: the caller sees to [`Decision::wait`].
    /// `None` as with [`Engine::decide_now`].
    pub fn decide_unheld<'m>(
        &'m self,
        rules: &'m Ruleset,
        query: &Query<'_>,
        manner: Manner<'_>,
    ) -> Option<Result<Decision<'m>, Undecided>> {
        let now = manner.now.unwrap_or_else(|| self.clock.now());
        let plan = rules.matcher().plan(query);
        let id = manner.id.map(|id| question(id, plan.hits()));
        let replies = self.store.charge_now(&request(rules, query, manner, (&plan, id.as_ref()), now))?;
        Some(self.settle((rules, query), plan, replies, now).map(|settled| settled.decision))
    }

    /// What `query` meets, for [`Engine::decide_known`]; `None` if it has to be decided in full.
    #[must_use]
    pub fn known(&self, rules: &Ruleset, query: &Query<'_>) -> Option<Known> {
        let plan = self.metrics.counts_rules_alone().then(|| rules.matcher().plan(query))?;
        Known::of(&plan)
    }

    /// [`Engine::decide_now`] for a request whose limit is known by these `rules`. `None` decides nothing and
    /// charges nothing.
    #[inline]
    pub fn decide_known<'m>(
        &self,
        rules: &'m Ruleset,
        known: &Known,
        ask: Ask,
        now: Time,
    ) -> Option<Decision<'m>> {
        let rule = known.rule(rules.matcher())?;
        let answer = self.store.charge_key((known.key(), rule.limit.as_ref()?), ask, now)?;
        let decision = known.settle(rule, ask, answer);
        self.metrics.decided_known(rules, &decision);
        Some(decision)
    }

    /// What the replies add up to, after policies have answered for the store where it could not.
    #[inline]
    fn settle<'m>(
        &'m self,
        (rules, query): (&'m Ruleset, &Query<'_>),
        plan: Plan<'m>,
        mut replies: Replies,
        now: Time,
    ) -> Result<Settled<'m>, Undecided> {
        let mut fault = None;
        if replies.iter().any(Result::is_err) {
            fault = replies.iter().find_map(|reply| reply.err());
            let _step = trace::step("tollgate.fallback");
            let faults = replies.clone();
            self.fallback.answer(&plan, now, &mut replies);
            self.metrics.fell_back(plan.hits(), &faults, &replies);
        }
        let queued = replies.iter().flatten().any(|answer| !answer.verdict.wait.is_zero());
        let together = fault.is_some() && plan.charge() == Charge::AllOrNothing;
        let charged = if queued || together { charged(plan.hits(), &replies) } else { Vec::new() };
        let decision = plan.settle(&replies);
        self.metrics.decided(rules, query, &decision);
        if together && (!decision.allowed() || decision.undecided) {
            self.give_back(charged.iter().cloned().map(refund_of).collect());
        }
        match fault.filter(|_| decision.undecided) {
            Some(fault) => Err(Undecided { fault }),
            None => Ok(Settled { decision, queued: if queued { charged } else { Vec::new() } }),
        }
    }

    /// The counters that `query` is about, one for each descriptor; `None` where no limit matches.
    #[must_use]
    pub fn counters(&self, rules: &Ruleset, query: &Query<'_>) -> Vec<Option<Counter>> {
        let plan = rules.matcher().plan(query);
        let mut hits = plan.hits().iter();
        let limited = plan.limited();
        let counter = |hit: &Hit<'_>| {
            let limit = hit.rule.limit.as_ref()?;
            Some(Counter { key: hit.key.clone(), algorithm: limit.algorithm() })
        };
        limited.map(|limited| if limited { hits.next().and_then(counter) } else { None }).collect()
    }

    /// Forgets what the counters that `query` is about have used: they are as new.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn forget(&self, rules: &Ruleset, query: &Query<'_>) -> Result<(), Undecided> {
        let plan = rules.matcher().plan(query);
        let forgotten = self.store.forget(plan.hits(), self.clock.now()).await;
        forgotten.map_err(|fault| Undecided { fault })
    }

    /// Gives back what some limits were charged before others, which the store could not ask, refused by their
    /// policies: with `all_or_nothing` a refused request charges nothing.
    fn give_back(&self, charged: Vec<Hit<'static>>) {
        if !charged.is_empty() {
            let (store, now) = (self.store.clone(), self.clock.now());
            tokio::spawn(async move { store.charge(Request::new(Charge::Admitted, &charged, now)).await });
        }
    }

    /// Keeps an admitted request waiting for its turn.
    async fn hold(&self, hits: Vec<Hit<'_>>, decision: &Decision<'_>, now: Time) {
        let wait = decision.wait();
        if wait.is_zero() || !decision.allowed() {
            return;
        }
        let queued = |hit: &Hit<'_>| matches!(hit.rule.limit, Some(Limit::LeakyBucket(_)));
        let places = hits.into_iter().filter(queued).map(refund_of).collect();
        let _held = self.metrics.holding();
        let mut held = Held { store: self.store.clone(), clock: self.clock.clone(), due: now + wait, places };
        tokio::time::sleep(Duration::from_micros(wait.as_micros())).await;
        held.places.clear();
    }
}

/// A decision, and what it charged if somebody has to wait for its turn.
struct Settled<'m> {
    decision: Decision<'m>,
    queued: Vec<Hit<'m>>,
}

/// What the store is asked.
fn request<'r, 'm: 'r>(
    rules: &Ruleset,
    query: &Query<'_>,
    manner: Manner<'_>,
    (plan, id): (&'r Plan<'m>, Option<&'r [u8; 16]>),
    now: Time,
) -> Request<'r> {
    Request {
        patience: manner.answer_within.unwrap_or(query.patience),
        generation: rules.generation(),
        id: id.map(|id| &id[..]),
        ..Request::new(plan.charge(), plan.hits(), now)
    }
}

/// Places in queues whose holder still waits; dropped early, they are given back.
struct Held {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// When the turn comes: a place that has been served is nobody's to give back.
    due: Time,
    places: Vec<Hit<'static>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.places.is_empty() || self.clock.now() >= self.due {
            return;
        }
        let (store, clock, places) =
            (self.store.clone(), self.clock.clone(), std::mem::take(&mut self.places));
        runtime.spawn(async move {
            store.charge(Request::new(Charge::Admitted, &places, clock.now())).await;
        });
    }
}

/// The hits that the store itself has charged.
fn charged<'m>(hits: &[Hit<'m>], replies: &Replies) -> Vec<Hit<'m>> {
    let charged = hits.iter().zip(replies).filter(|(hit, reply)| {
        let takes = matches!(hit.ask.cost, Cost::Take(1..));
        takes
            && reply.is_ok_and(|answer| answer.verdict.allowed && matches!(answer.by, By::Memory | By::Redis))
    });
    charged.map(|(hit, _)| hit.clone()).collect()
}

/// The caller's name for a request together with everything that it asks: the same name for another question
/// is another one. 128 bits, so that no two are ever alike.
fn question(id: &[u8], hits: &[Hit<'_>]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(id.len() as u64).to_le_bytes()).update(id);
    for hit in hits {
        let (kind, units) = match hit.ask.cost {
            Cost::Take(units) => (0_u8, units),
            Cost::Refund(units) => (1, units),
        };
        let key = hit.key.as_bytes();
        hasher.update(&(key.len() as u64).to_le_bytes()).update(key);
        hasher.update(&[kind]).update(&units.to_le_bytes());
    }
    let mut name = [0; 16];
    hasher.finalize_xof().fill(&mut name);
    name
}

fn refund_of(hit: Hit<'_>) -> Hit<'static> {
    let cost = match hit.ask.cost {
        Cost::Take(units) => Cost::Refund(units),
        Cost::Refund(_) => Cost::Take(0),
    };
    Hit {
        key: hit.key,
        rule: RuleRef::Override(Box::new((*hit.rule).clone())),
        ask: Ask { cost, patience: Span::ZERO },
        shadow: hit.shadow,
        alternative: hit.alternative,
        partition: hit.partition,
    }
}
