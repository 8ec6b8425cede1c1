//! What a request will be charged, and what the answers add up to.

use std::ops::Deref;

use smallvec::SmallVec;

use super::Rule;
use super::key::Key;
use super::matcher::Defaults;
use super::query::{Descriptor, Query};
use super::spec::Charge;
use crate::limit::{Ask, Cost, Retry, Verdict};
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
    any_replaces: bool,
}

/// Who answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// The counter in this process' memory.
    Memory,
    /// Nobody counted: the store has no room for a new key, and `on_full` answered.
    Full,
}

/// The answer to one [`Hit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// What the limit said.
    pub verdict: Verdict,
    /// Who said it.
    pub by: By,
}

/// What the caller is told of one descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Within the limit, or not enforced.
    Ok,
    /// Over the limit.
    OverLimit,
}

/// What became of one descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<'m> {
    /// No rules for this domain.
    UnknownDomain,
    /// No rule for these entries.
    Unmatched,
    /// Another rule of the request replaces the one that matched.
    Replaced,
    /// A rule says that there is no limit.
    Unlimited(&'m Rule),
    /// A limit was asked.
    Decided {
        /// Its rule.
        rule: RuleRef<'m>,
        /// What it was asked.
        ask: Ask,
        /// What it answered.
        answer: Answer,
        /// What the caller is told: a rule in shadow is never over its limit.
        status: Status,
        /// The descriptor is one of several alternatives.
        alternative: bool,
    },
}

/// The answer to one request: one outcome per descriptor, in the order asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<'m> {
    /// Whether the request is refused.
    pub status: Status,
    /// Whether only the global shadow mode kept it from being refused.
    pub shadowed: bool,
    /// Whether anything is enforced, so that callers are kept waiting for their turn.
    pub enforced: bool,
    /// Per descriptor.
    pub outcomes: SmallVec<[Outcome<'m>; 2]>,
}

impl<'m> Plan<'m> {
    pub(super) fn new(charge: Charge, defaults: Defaults) -> Plan<'m> {
        Plan { charge, hits: SmallVec::new(), slots: SmallVec::new(), defaults, any_replaces: false }
    }

    pub(super) fn unknown_domain(descriptors: usize, defaults: Defaults) -> Plan<'m> {
        let mut plan = Plan::new(Charge::Each, defaults);
        plan.slots.resize(descriptors, Slot::UnknownDomain);
        plan
    }

    pub(super) fn charge_rule(
        &mut self,
        rule: &'m Rule,
        key: Key,
        query: &Query<'_>,
        descriptor: &Descriptor<'_>,
    ) {
        self.any_replaces |= !rule.replaces.is_empty();
        if rule.limit.is_none() {
            self.slots.push(Slot::Unlimited(rule));
            return;
        }
        self.push(RuleRef::Configured(rule), key, query, descriptor);
    }

    pub(super) fn charge_override(
        &mut self,
        rule: Box<Rule>,
        key: Key,
        query: &Query<'_>,
        descriptor: &Descriptor<'_>,
    ) {
        self.push(RuleRef::Override(rule), key, query, descriptor);
    }

    fn push(&mut self, rule: RuleRef<'m>, key: Key, query: &Query<'_>, descriptor: &Descriptor<'_>) {
        let hits = query.hits_of(descriptor);
        let cost = if descriptor.refund { Cost::Refund(hits) } else { Cost::Take(hits) };
        let ask = Ask { cost, patience: query.patience.min(rule.max_hold) };
        let shadow = rule.shadow;
        let alternative = rule.alternative || self.defaults.alternative;
        self.slots.push(Slot::Hit);
        self.hits.push(Hit { key, rule, ask, shadow, alternative });
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

    /// Whether this request passes whatever its limits say: nothing is enforced, or one of its
    /// alternatives has no limit at all.
    fn never_refuses(&self) -> bool {
        let no_limit =
            |slot: &Slot<'_>| matches!(slot, Slot::UnknownDomain | Slot::Unmatched | Slot::Replaced);
        self.defaults.shadow || (self.defaults.alternative && self.slots.iter().any(no_limit))
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

    /// Puts the answers, one per hit and in their order, back into the order of the question.
    #[must_use]
    pub fn settle(self, answers: &[Answer]) -> Decision<'m> {
        let over = refuses(&self.hits, answers);
        let open_alternative = self.defaults.alternative
            && self.slots.iter().any(|slot| *slot != Slot::Hit && !matches!(slot, Slot::Unlimited(_)));
        let refused = over == Refusal::Certain || (over == Refusal::Alternatives && !open_alternative);
        let mut hits = self.hits.into_iter().zip(answers);
        let outcomes = self.slots.iter().filter_map(|slot| match slot {
            Slot::UnknownDomain => Some(Outcome::UnknownDomain),
            Slot::Unmatched => Some(Outcome::Unmatched),
            Slot::Replaced => Some(Outcome::Replaced),
            Slot::Unlimited(rule) => Some(Outcome::Unlimited(rule)),
            Slot::Hit => hits.next().map(|(hit, answer)| decided(hit, *answer)),
        });
        let outcomes = outcomes.collect();
        let shadowed = refused && self.defaults.shadow;
        let status = if refused && !shadowed { Status::OverLimit } else { Status::Ok };
        Decision { status, shadowed, enforced: !self.defaults.shadow, outcomes }
    }
}

fn decided<'m>(hit: Hit<'m>, answer: Answer) -> Outcome<'m> {
    let status = if answer.verdict.allowed || hit.shadow { Status::Ok } else { Status::OverLimit };
    Outcome::Decided { rule: hit.rule, ask: hit.ask, answer, status, alternative: hit.alternative }
}

/// What the verdicts on the hits of one request amount to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The request passes.
    None,
    /// Only alternatives refuse, but all of them.
    Alternatives,
    /// A limit that is no alternative refuses.
    Certain,
}

/// Whether `answers` refuse the request: one limit does that is neither in shadow nor an alternative, or
/// every alternative does. Also the rule by which `all_or_nothing` charges nothing.
#[must_use]
pub fn refuses(hits: &[Hit<'_>], answers: &[Answer]) -> Refusal {
    let over = |hit: &Hit<'_>, answer: &Answer| !answer.verdict.allowed && !hit.shadow;
    let pairs = || hits.iter().zip(answers);
    if pairs().any(|(hit, answer)| !hit.alternative && over(hit, answer)) {
        return Refusal::Certain;
    }
    let mut alternatives = pairs().filter(|(hit, _)| hit.alternative).peekable();
    if alternatives.peek().is_some() && alternatives.all(|(hit, answer)| over(hit, answer)) {
        return Refusal::Alternatives;
    }
    Refusal::None
}

impl Decision<'_> {
    /// Whether the request may go on.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.status == Status::Ok
    }

    /// How long an admitted request has to wait for its turn. Rules in shadow, looks and refunds keep nobody.
    #[must_use]
    pub fn wait(&self) -> Span {
        if !self.enforced {
            return Span::ZERO;
        }
        let waits = self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Decided { rule, ask, answer, status: Status::Ok, .. } => {
                let takes = matches!(ask.cost, Cost::Take(1..));
                (takes && !rule.shadow).then_some(answer.verdict.wait)
            }
            _ => None,
        });
        waits.max().unwrap_or(Span::ZERO)
    }

    /// When a refused request would pass if nobody else came; `None` if it was not refused.
    #[must_use]
    pub fn retry_after(&self) -> Option<Retry> {
        if self.allowed() {
            return None;
        }
        let over = |wanted: bool| {
            self.outcomes.iter().filter_map(move |outcome| match outcome {
                Outcome::Decided { answer, status: Status::OverLimit, alternative, .. }
                    if *alternative == wanted =>
                {
                    Some(answer.verdict.retry_after)
                }
                _ => None,
            })
        };
        // all certain refusals have to end, and one of the alternatives, if all of them refuse
        let certain = over(false).reduce(later);
        let alternatives = self.alternatives_exhausted().then(|| over(true).reduce(sooner)).flatten();
        [certain, alternatives].into_iter().flatten().reduce(later)
    }

    fn alternatives_exhausted(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| !matches!(outcome, Outcome::Decided { alternative: true, status: Status::Ok, .. }))
    }

    /// The outcome that the response headers describe: the first with the least remaining, except that
    /// every refusal that is no alternative takes over, the last of them for good.
    #[must_use]
    pub fn tightest(&self) -> Option<(&Rule, &Verdict)> {
        let mut tightest: Option<(&Rule, &Verdict)> = None;
        for outcome in &self.outcomes {
            let Outcome::Decided { rule, answer, status, alternative, .. } = outcome else { continue };
            let takes_over = *status == Status::OverLimit && !alternative;
            let remaining = told_remaining(&answer.verdict);
            let tighter = tightest.is_none_or(|(_, least)| remaining < told_remaining(least));
            if takes_over || tighter {
                tightest = Some((rule, &answer.verdict));
            }
        }
        tightest
    }
}

/// A refused verdict leaves nothing, whatever smaller requests would still find.
#[must_use]
pub fn told_remaining(verdict: &Verdict) -> u64 {
    if verdict.allowed { verdict.remaining } else { 0 }
}

fn later(one: Retry, two: Retry) -> Retry {
    match (one, two) {
        (Retry::After(one), Retry::After(two)) => Retry::After(one.max(two)),
        _ => Retry::Never,
    }
}

fn sooner(one: Retry, two: Retry) -> Retry {
    match (one, two) {
        (Retry::After(one), Retry::After(two)) => Retry::After(one.min(two)),
        (Retry::After(one), Retry::Never) | (Retry::Never, Retry::After(one)) => Retry::After(one),
        _ => Retry::Never,
    }
}
