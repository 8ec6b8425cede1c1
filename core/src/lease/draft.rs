//! One request for a lease: what it charges, how large it may be, how long it lives.

use std::collections::BTreeMap;

use super::{MAX_TTL, MIN_TTL, Pool, Terms};
use crate::limit::{Ask, Cost, FixedWindow, Limit, Refused, Retry, Verdict};
use crate::rules::{Answer, By, Hit, Plan, Refusal, Rule, RuleRef, refuses};
use crate::time::Span;

/// A lease gets at most this part of what a limit has left, so that others find some too.
const SHARE: u64 = 4;
/// And this part of what the pool can grant at once.
const POOL_SHARE: u64 = 2;
/// A limit with less than one part in this many left is near its end.
const NEAR: u64 = 8;

/// What a lease charges: the limits that its descriptors meet, and the pools of those that have one.
#[derive(Clone, Debug)]
pub struct Draft<'m> {
    hits: Vec<Hit<'m>>,
    /// How the limit of each hit bounds the lease.
    bounds: Vec<Bound>,
    /// Hits of the plan; those after them are the pools'.
    own: usize,
    /// Some limit cannot be leased.
    barred: bool,
}

/// How one hit bounds the lease.
#[derive(Clone, Debug)]
struct Bound {
    /// `None`: not at all, for a rule in shadow.
    terms: Option<Terms>,
    /// How often the counter is hit by one token.
    uses: u64,
}

/// How large a lease may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// A limit is never leased.
    Barred,
    /// The window ends too soon; the next one begins after this.
    TooShort(Span),
    /// So many tokens, at least 1: whether they are there is seen when they are charged.
    Tokens {
        /// How many.
        tokens: u64,
        /// Some limit is near its end.
        near: bool,
    },
}

/// What came of charging a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Draw {
    /// Granted.
    Granted {
        /// How long it may be spent, from the moment at which it was asked for: at most [`MAX_TTL`].
        ttl: Span,
        /// How long something of it may be given back.
        ends: Span,
    },
    /// Refused, and nothing charged; when 1 token would be admitted if nobody else came.
    Refused(Retry),
    /// Admitted, but not counted by every limit: no lease can be made of that.
    Uncounted,
}

impl<'m> Draft<'m> {
    /// What a lease of the descriptors of `plan` charges.
    #[must_use]
    pub fn of(plan: &Plan<'m>) -> Draft<'m> {
        let own = plan.hits().len();
        let mut draft = Draft { hits: Vec::with_capacity(own), bounds: Vec::new(), own, barred: false };
        let mut pools = Vec::new();
        for hit in plan.hits() {
            let enforced = plan.enforced() && !hit.shadow;
            let terms = hit.rule.lease.clone().filter(|_| enforced);
            draft.barred |= enforced && (terms.is_none() || hit.alternative);
            if let Some(Terms::Pool(pool)) = &terms {
                pools.push((pool_hit(hit, pool), terms.clone()));
            }
            draft.push(if enforced { uncounted_if_refused(hit) } else { in_shadow(hit) }, terms);
        }
        pools.into_iter().for_each(|(hit, terms)| draft.push(hit, terms));
        draft.count_uses();
        draft
    }

    fn push(&mut self, hit: Hit<'m>, terms: Option<Terms>) {
        self.hits.push(hit);
        self.bounds.push(Bound { terms, uses: 1 });
    }

    /// Two descriptors may meet one counter: a token then pays for both.
    fn count_uses(&mut self) {
        let mut uses: BTreeMap<&[u8], u64> = BTreeMap::new();
        for hit in &self.hits {
            *uses.entry(hit.key.as_bytes()).or_default() += 1;
        }
        for (hit, bound) in self.hits.iter().zip(&mut self.bounds) {
            bound.uses = uses.get(hit.key.as_bytes()).copied().unwrap_or(1);
        }
    }

    /// Whether there is no limit at all.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.hits.is_empty()
    }

    /// How many of the hits are the plan's, in its order; they come first.
    #[must_use]
    pub const fn own(&self) -> usize {
        self.own
    }

    /// The hits for `tokens`; 0 looks.
    #[must_use]
    pub fn hits(&self, tokens: u64) -> Vec<Hit<'m>> {
        let ask = |hit: &Hit<'m>| Hit { ask: Ask { cost: Cost::Take(tokens), ..hit.ask }, ..hit.clone() };
        self.hits.iter().map(ask).collect()
    }

    /// Whether the hit at `place` can refuse the lease.
    #[must_use]
    pub fn is_enforced(&self, place: usize) -> bool {
        self.hits.get(place).is_some_and(|hit| !hit.shadow)
    }

    /// How large a lease may be of which `wanted` tokens are asked for, after a look at every limit: a
    /// quarter of what the tightest one has left, but at least 1, so that the last token is found.
    #[must_use]
    pub fn offer(&self, wanted: u64, looks: &[Answer]) -> Offer {
        if self.barred {
            return Offer::Barred;
        }
        let (mut tokens, mut near) = (wanted.max(1), false);
        for (place, (bound, look)) in self.bounds.iter().zip(looks).enumerate() {
            let Some(terms) = &bound.terms else { continue };
            let verdict = &look.verdict;
            let part = if place < self.own { SHARE } else { POOL_SHARE };
            if terms == &Terms::Window && verdict.reset_after < MIN_TTL {
                return Offer::TooShort(verdict.reset_after);
            }
            near |= place < self.own && verdict.remaining < verdict.limit / NEAR;
            tokens = tokens.min((verdict.remaining / (part * bound.uses)).max(1));
        }
        Offer::Tokens { tokens, near }
    }

    /// What the answers to charging the hits amount to.
    #[must_use]
    pub fn draw(&self, answers: &[Answer]) -> Draw {
        if refuses(&self.hits, answers) != Refusal::None {
            return Draw::Refused(self.retry(answers));
        }
        let counted = |answer: &Answer| matches!(answer.by, By::Memory | By::Redis);
        let mut bounds = self.bounds.iter().zip(answers).filter(|(bound, _)| bound.terms.is_some());
        if !bounds.clone().all(|(_, answer)| counted(answer)) {
            return Draw::Uncounted;
        }
        let shortest = |least: Span, of: fn(&Terms, &Verdict) -> Span| {
            let spans =
                bounds.clone().filter_map(|(bound, answer)| Some(of(bound.terms.as_ref()?, &answer.verdict)));
            spans.fold(least, Span::min)
        };
        let (ttl, ends) = (shortest(MAX_TTL, Terms::ttl), shortest(Span::MAX, Terms::period));
        let bounded = bounds.next().is_some();
        Draw::Granted { ttl, ends: if bounded { ends } else { MAX_TTL } }
    }

    fn retry(&self, answers: &[Answer]) -> Retry {
        let refused =
            self.hits.iter().zip(answers).filter(|(hit, answer)| !hit.shadow && !answer.verdict.allowed);
        refused.fold(Retry::After(Span::ZERO), |latest, (_, answer)| {
            match (latest, answer.verdict.retry_after) {
                (Retry::After(one), Retry::After(other)) => Retry::After(one.max(other)),
                _ => Retry::Never,
            }
        })
    }
}

/// A refused lease is not counted, whatever a refused request is.
fn uncounted_if_refused<'m>(hit: &Hit<'m>) -> Hit<'m> {
    match &hit.rule.limit {
        Some(Limit::FixedWindow(window)) if window.refused() == Refused::Counts => {
            with_limit(hit, Limit::FixedWindow(FixedWindow::refusing(window.clone(), Refused::Free)))
        }
        _ => hit.clone(),
    }
}

/// With `SHADOW_MODE` every rule is in shadow.
fn in_shadow<'m>(hit: &Hit<'m>) -> Hit<'m> {
    Hit { shadow: true, ..hit.clone() }
}

fn pool_hit<'m>(hit: &Hit<'m>, pool: &Pool) -> Hit<'m> {
    Hit { key: hit.key.of_pool(), ..with_limit(hit, pool.grants().clone()) }
}

fn with_limit<'m>(hit: &Hit<'m>, limit: Limit) -> Hit<'m> {
    let rule = Rule { limit: Some(limit), ..(*hit.rule).clone() };
    Hit { rule: RuleRef::Override(Box::new(rule)), ..hit.clone() }
}
