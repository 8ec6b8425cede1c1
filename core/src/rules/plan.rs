//! What a request will be charged, and what the answers add up to.

use std::ops::Deref;

use smallvec::SmallVec;

use super::Rule;
use super::decision::{Answer, Decision, Outcome, Refusal, Status, refusal, unknown};
use super::key::{Key, bounded};
use super::matcher::{Defaults, Together};
use super::query::{Descriptor, Query};
use super::spec::{Charge, OnFailure};
use crate::limit::{Ask, Cost};
use crate::time::Span;

/// A rule of the matcher, or the limit that came with the request.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleRef<'m> {
    /// Configured.
    Configured(&'m Rule),
    /// Sent by the caller.
    Override(Box<Rule>),
}

impl Deref for RuleRef<'_> {
    type Target = Rule;

    fn deref(&self) -> &Rule {
        match self {
            RuleRef::Configured(rule) => rule,
            RuleRef::Override(rule) => rule,
        }
    }
}

/// One charge to one counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit<'m> {
    /// The counter.
    pub key: Key,
    /// The rule that limits it; it has a limit.
    pub rule: RuleRef<'m>,
    /// How much, and how long the caller can wait.
    pub ask: Ask,
    /// A refusal counts for nothing.
    pub shadow: bool,
    /// A refusal counts only if all alternatives refuse.
    pub alternative: bool,
    /// Counters with one partition live on one node of a cluster, so that one step can charge them all.
    pub partition: Option<Box<str>>,
}

/// One descriptor of a request, as it met its rule.
#[derive(Clone, Copy)]
pub(super) struct Asked<'q, 'a> {
    pub(super) query: &'q Query<'a>,
    pub(super) descriptor: &'q Descriptor<'a>,
    /// The pattern that stands for the value of the partition's entry: who shares a counter shares its place.
    pub(super) partition: Option<&'q str>,
}

/// What became of one descriptor before any counter was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slot<'m> {
    UnknownDomain,
    Unmatched,
    Replaced,
    Unlimited(&'m Rule),
    /// The next hit in order.
    Hit,
}

/// The hits of one request and how they are charged together.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<'m> {
    charge: Charge,
    hits: SmallVec<[Hit<'m>; 2]>,
    pub(super) slots: SmallVec<[Slot<'m>; 2]>,
    defaults: Defaults,
    on_overload: OnFailure,
    partition: Option<&'m str>,
    any_replaces: bool,
}

impl<'m> Plan<'m> {
    pub(super) fn new(together: &'m Together, defaults: Defaults) -> Plan<'m> {
        Plan {
            charge: together.charge,
            on_overload: together.on_overload,
            partition: together.partition.as_deref(),
            ..Plan::empty(defaults)
        }
    }

    fn empty(defaults: Defaults) -> Plan<'m> {
        Plan {
            charge: Charge::Each,
            hits: SmallVec::new(),
            slots: SmallVec::new(),
            defaults,
            on_overload: OnFailure::Local,
            partition: None,
            any_replaces: false,
        }
    }

    pub(super) fn unknown_domain(descriptors: usize, defaults: Defaults) -> Plan<'m> {
        let mut plan = Plan::empty(defaults);
        plan.slots.resize(descriptors, Slot::UnknownDomain);
        plan
    }

    pub(super) fn charge_rule(&mut self, rule: &'m Rule, key: Key, asked: Asked<'_, '_>) {
        let Some(rule) = rule.rolled_out(key.as_bytes()) else {
            self.slots.push(Slot::Unmatched);
            return;
        };
        self.any_replaces |= !rule.replaces.is_empty();
        if rule.limit.is_none() {
            self.slots.push(Slot::Unlimited(rule));
            return;
        }
        self.push(RuleRef::Configured(rule), key, asked);
    }

    pub(super) fn charge_override(&mut self, rule: Box<Rule>, key: Key, asked: Asked<'_, '_>) {
        self.push(RuleRef::Override(rule), key, asked);
    }

    fn push(&mut self, rule: RuleRef<'m>, key: Key, asked: Asked<'_, '_>) {
        let Asked { query, descriptor, partition: pattern } = asked;
        let hits = query.hits_of(descriptor);
        let cost = if descriptor.refund { Cost::Refund(hits) } else { Cost::Take(hits) };
        let most = if query.waits_itself { Span::MAX } else { rule.max_hold };
        let ask = Ask { cost, patience: query.patience.min(most) };
        let shadow = rule.shadow;
        let alternative = rule.alternative || self.defaults.alternative;
        let partition = self.partition.and_then(|key| pattern.or_else(|| descriptor.value_of(key)));
        let partition = partition.map(bounded);
        self.slots.push(Slot::Hit);
        self.hits.push(Hit { key, rule, ask, shadow, alternative, partition });
    }

    pub(super) fn finish(mut self) -> Plan<'m> {
        if self.any_replaces {
            self.drop_replaced();
        }
        if self.charge == Charge::AllOrNothing && self.never_refuses() {
            self.charge = Charge::Admitted;
        }
        self
    }

    /// Drops every hit whose rule is named by a matched rule, be that one dropped itself or not.
    fn drop_replaced(&mut self) {
        let unlimited = self.slots.iter().filter_map(|slot| match slot {
            Slot::Unlimited(rule) => Some(*rule),
            _ => None,
        });
        let matched = self.hits.iter().filter_map(|hit| match &hit.rule {
            RuleRef::Configured(rule) => Some(*rule),
            RuleRef::Override(_) => None,
        });
        let names: SmallVec<[&str; 4]> =
            matched.chain(unlimited).flat_map(|rule| rule.replaces.iter().map(|name| &**name)).collect();
        let mut kept = SmallVec::new();
        let mut hits = std::mem::take(&mut self.hits).into_iter();
        for slot in self.slots.iter_mut().filter(|slot| **slot == Slot::Hit) {
            let Some(hit) = hits.next() else { break };
            if !hit.rule.name.is_empty() && names.contains(&&*hit.rule.name) {
                *slot = Slot::Replaced;
            } else {
                kept.push(hit);
            }
        }
        self.hits = kept;
    }

    /// For each descriptor, in order, whether it has a hit.
    pub fn limited(&self) -> impl Iterator<Item = bool> + '_ {
        self.slots.iter().map(|slot| *slot == Slot::Hit)
    }

    /// Whether this request passes whatever its limits say: nothing is enforced, or one of its
    /// alternatives has no limit at all.
    fn never_refuses(&self) -> bool {
        let no_limit =
            |slot: &Slot<'_>| matches!(slot, Slot::UnknownDomain | Slot::Unmatched | Slot::Replaced);
        self.defaults.shadow || (self.defaults.alternative && self.slots.iter().any(no_limit))
    }

    /// Whether anything is enforced; not with `SHADOW_MODE`.
    #[must_use]
    pub const fn enforced(&self) -> bool {
        !self.defaults.shadow
    }

    /// How the hits are charged together.
    #[must_use]
    pub const fn charge(&self) -> Charge {
        self.charge
    }

    /// What to charge.
    #[must_use]
    pub fn hits(&self) -> &[Hit<'m>] {
        &self.hits
    }

    /// What to do with the hits of a request that the store has no time for.
    #[must_use]
    pub const fn on_overload(&self) -> OnFailure {
        self.on_overload
    }

    /// Puts the answers, one per hit and in their order, back into the order of the question. An error stands
    /// for a limit that could not be asked.
    #[must_use]
    pub fn settle<E>(self, answers: &[Result<Answer, E>]) -> Decision<'m> {
        let (over, open) = (refusal(&self.hits, answers), self.open_alternative());
        let refused = over == Refusal::Certain || (over == Refusal::Alternatives && !open);
        let undecided = !refused && !self.defaults.shadow && unknown(&self.hits, answers, open);
        let mut hits = self.hits.into_iter().zip(answers);
        let outcomes = self.slots.iter().filter_map(|slot| match slot {
            Slot::UnknownDomain => Some(Outcome::UnknownDomain),
            Slot::Unmatched => Some(Outcome::Unmatched),
            Slot::Replaced => Some(Outcome::Replaced),
            Slot::Unlimited(rule) => Some(Outcome::Unlimited(rule)),
            Slot::Hit => hits.next().map(|(hit, answer)| Outcome::of(hit, answer.as_ref().ok())),
        });
        let outcomes = outcomes.collect();
        let shadowed = refused && self.defaults.shadow;
        let status = if refused && !shadowed { Status::OverLimit } else { Status::Ok };
        Decision { status, shadowed, enforced: !self.defaults.shadow, undecided, outcomes }
    }

    /// Whether one of several alternatives has no limit.
    fn open_alternative(&self) -> bool {
        self.defaults.alternative
            && self.slots.iter().any(|slot| *slot != Slot::Hit && !matches!(slot, Slot::Unlimited(_)))
    }
}
