//! One message's checks, decided at one instant by one set of rules, as far as nothing has to be waited for.

use std::ops::DerefMut;

use tollgate_core::time::Time;

use super::memo::{Found, Memo, Question};
use super::read::{self, Outline};
use super::write::{Message, Told};
use crate::access::Scope;
use crate::config::ruleset::Ruleset;
use crate::engine::{Engine, Manner};
use crate::telemetry::metrics::{Answered, Api};

/// The checks of one message.
pub(super) struct Turn<'t, M> {
    engine: &'t Engine,
    scope: Option<&'t Scope>,
    rules: Option<&'t Ruleset>,
    memo: M,
    now: Time,
    /// Checks that passed, and that did not: counted at the end.
    passed: u64,
    refused: u64,
}

impl<'t, M: DerefMut<Target = Memo>> Turn<'t, M> {
    /// For a caller who may ask about the domains of `scope` alone.
    pub(super) fn new(
        (engine, scope): (&'t Engine, Option<&'t Scope>),
        rules: Option<&'t Ruleset>,
        mut memo: M,
    ) -> Turn<'t, M> {
        if let Some(rules) = rules {
            memo.of(rules.generation());
        }
        Turn { engine, scope, rules, memo, now: engine.now(), passed: 0, refused: 0 }
    }

    /// Answers the usual check, if nothing has to be waited for. `false` has done nothing.
    pub(super) fn answer(&mut self, id: u64, check: &[u8], answers: &mut Message) -> bool {
        let Some((rules, outline)) = self.rules.zip(read::outline(check)) else { return false };
        // the general way refuses, and counts
        let permitted =
            |scope: &Scope| str::from_utf8(outline.domain).is_ok_and(|domain| scope.permits(domain));
        if !self.scope.is_none_or(permitted) {
            return false;
        }
        let passed = match self.by_memory(rules, &outline, (id, answers)) {
            Some(passed) => passed,
            None => match self.in_full(rules, &outline, (id, answers)) {
                Some(passed) => passed,
                None => return false,
            },
        };
        self.passed += u64::from(passed);
        self.refused += u64::from(!passed);
        true
    }

    /// Decides a question that was asked before. Whether it passes.
    #[inline]
    fn by_memory(
        &mut self,
        rules: &Ruleset,
        outline: &Outline<'_>,
        (id, answers): (u64, &mut Message),
    ) -> Option<bool> {
        let found = self.memo.find(question(outline)?)?;
        let ask = outline.ask(found.cost)?;
        let decision = self.engine.decide_known(rules, &found.known, ask, self.now)?;
        self.engine.metrics().noticed(&decision, || outline.query());
        answers.decided(id, Told { decision: &decision, explain: outline.explain });
        Some(decision.allowed())
    }

    /// Decides any other, and remembers what it met. Whether it passes.
    fn in_full(
        &mut self,
        rules: &Ruleset,
        outline: &Outline<'_>,
        (id, answers): (u64, &mut Message),
    ) -> Option<bool> {
        let query = outline.query()?;
        let manner = Manner { now: Some(self.now), answer_within: Some(outline.answer_within()), id: None };
        let decision = self.engine.decide_now(rules, &query, manner)?.ok()?;
        answers.decided(id, Told { decision: &decision, explain: outline.explain });
        if let Some(question) = question(outline)
            && self.memo.has_place(question)
            && let Some(known) = self.engine.known(rules, &query)
            && let Some(cost) = read::own_cost(question.descriptor)
        {
            self.memo.learn(question, Found { known, cost });
        }
        Some(decision.allowed())
    }
}

impl<M> Drop for Turn<'_, M> {
    fn drop(&mut self) {
        let counts = [(Answered::Ok, self.passed), (Answered::OverLimit, self.refused)];
        for (answered, times) in counts.into_iter().filter(|(_, times)| *times > 0) {
            self.engine.metrics().requests(Api::CheckStream, answered, times);
        }
    }
}

/// The question of a check with one descriptor.
fn question<'q>(outline: &Outline<'q>) -> Option<Question<'q>> {
    match *outline.descriptors {
        [descriptor] => Some(Question { domain: outline.domain, descriptor }),
        _ => None,
    }
}
