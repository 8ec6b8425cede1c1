//! Clients that buy leases of one limit, spend them alone and ask for single units besides, on a virtual clock.

use std::collections::HashMap;
use std::rc::Rc;

use tollgate_core::invariant::Admission;
use tollgate_core::lease::{Draft, Draw, Offer, Terms};
use tollgate_core::limit::{Ask, Cost, Limit, State};
use tollgate_core::rules::{
    Accuracy, Answer, By, Defaults, Descriptor, DescriptorSpec, DomainSpec, Hit, Key, Matcher, OnFailure,
    Query, Quota, Refusal, RuleSpec, refuses,
};
use tollgate_core::time::{Span, Time};

/// A lease as its client sees it.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    /// It may be spent before this.
    until: Time,
    /// It may be given back before this.
    ends: Time,
    pub(crate) left: u64,
}

/// One limit, its counters and what was spent.
pub(crate) struct World {
    matcher: Rc<Matcher>,
    states: HashMap<Key, State>,
    pub(crate) now: Time,
    pub(crate) leases: Vec<Lease>,
    pub(crate) spent: Vec<Admission>,
}

/// The rule `k` in domain `d`.
pub(crate) fn matcher(limit: Limit, accuracy: Accuracy) -> Matcher {
    let rule = RuleSpec {
        limit: Some(limit),
        quota: Quota::default(),
        name: String::new(),
        replaces: Vec::new(),
        on_failure: OnFailure::Error,
        accuracy,
        max_hold: Span::ZERO,
    };
    let descriptor = DescriptorSpec { key: "k".into(), rule: Some(rule), ..DescriptorSpec::default() };
    let domain = DomainSpec { name: "d".into(), descriptors: vec![descriptor], ..DomainSpec::default() };
    Matcher::build(vec![domain], Defaults::default()).unwrap()
}

pub(crate) fn query() -> Query<'static> {
    let entries = [("k", "v")].into_iter().collect();
    let descriptor = Descriptor { entries, hits: Some(0), ..Descriptor::default() };
    Query { domain: "d", descriptors: [descriptor].into_iter().collect(), ..Query::default() }
}

impl World {
    pub(crate) fn new(limit: Limit, now: Time) -> World {
        let matcher = Rc::new(matcher(limit, Accuracy::Leased));
        World { matcher, states: HashMap::new(), now, leases: Vec::new(), spent: Vec::new() }
    }

    /// Charges all hits or none.
    fn charge(&mut self, hits: &[Hit<'_>]) -> Vec<Answer> {
        let mut states = self.states.clone();
        let mut answers = Vec::new();
        for hit in hits {
            let step = hit.rule.limit.as_ref().unwrap().step(states.get(&hit.key), self.now, hit.ask);
            if let Some(state) = step.state {
                states.insert(hit.key.clone(), state);
            }
            answers.push(Answer { verdict: step.verdict, by: By::Memory });
        }
        if refuses(hits, &answers) == Refusal::None {
            self.states = states;
        }
        answers
    }

    fn hit(&self, cost: Cost) -> Hit<'static> {
        let plan = self.matcher.plan(&query());
        let hit = plan.hits().first().unwrap();
        let rule = tollgate_core::rules::RuleRef::Override(Box::new((*hit.rule).clone()));
        Hit { ask: Ask { cost, patience: Span::ZERO }, rule, ..hit.clone() }
    }

    /// A request that asks the server itself.
    pub(crate) fn check(&mut self, units: u64) -> bool {
        let answers = self.charge(&[self.hit(Cost::Take(units))]);
        let allowed = answers[0].verdict.allowed;
        if allowed {
            self.spent.push(Admission { at: self.now, cost: units });
        }
        allowed
    }

    /// What a request could take at once.
    pub(crate) fn remaining(&mut self) -> u64 {
        self.charge(&[self.hit(Cost::Take(0))])[0].verdict.remaining
    }

    /// Buys a lease whose request has been on its way for `latency`. As the server does, with a second try for
    /// one token if somebody else was faster.
    pub(crate) fn buy(&mut self, wanted: u64, ttl: Span, latency: Span) -> Option<u64> {
        let matcher = self.matcher.clone();
        let plan = matcher.plan(&query());
        let draft = Draft::of(&plan);
        let looks = self.charge(&draft.hits(0));
        let Offer::Tokens { tokens, .. } = draft.offer(wanted, &looks) else { return None };
        let answers = self.charge(&draft.hits(tokens));
        let Draw::Granted { ttl: most, ends } = draft.draw(&answers) else { return None };
        let sent = self.now - latency;
        let lease = Lease { until: sent + ttl.min(most), ends: sent + ends, left: tokens };
        self.leases.push(lease);
        Some(tokens)
    }

    /// Spends of one lease; returns how much.
    pub(crate) fn spend(&mut self, lease: usize, units: u64) -> u64 {
        let now = self.now;
        let Some(lease) = self.leases.get_mut(lease).filter(|lease| now < lease.until) else { return 0 };
        let cost = units.min(lease.left);
        lease.left -= cost;
        self.spent.push(Admission { at: now, cost });
        cost
    }

    /// What lies in leases is never more than the pool.
    pub(crate) fn check_pool(&self) {
        let Some(Terms::Pool(pool)) = &self.matcher.rules()[0].lease else { return };
        let live = self.leases.iter().filter(|lease| self.now < lease.until);
        let outstanding: u64 = live.map(|lease| lease.left).sum();
        assert!(outstanding <= pool.size(), "{outstanding} of {}", pool.size());
    }

    /// Whether a lease can no longer be spent, but given back.
    pub(crate) fn has_ended(&self, lease: usize) -> bool {
        self.leases
            .get(lease)
            .is_some_and(|lease| lease.left > 0 && lease.until <= self.now && self.now < lease.ends)
    }

    /// Gives back what a lease has left.
    pub(crate) fn give_back(&mut self, lease: usize) {
        let now = self.now;
        let Some(lease) = self.leases.get_mut(lease).filter(|lease| now < lease.ends) else { return };
        let left = std::mem::take(&mut lease.left);
        let refund = self.hit(Cost::Refund(left));
        self.charge(&[refund]);
    }

    /// Spends everything that there is in leases and then everything that requests can have.
    pub(crate) fn spend_all(&mut self) {
        for lease in 0..self.leases.len() {
            self.spend(lease, u64::MAX);
        }
        let remaining = self.remaining();
        assert!(remaining == 0 || self.check(remaining), "what remains is admitted");
    }
}
