//! What the answers of the limits add up to.

use smallvec::SmallVec;

use super::Rule;
use super::plan::{Hit, RuleRef};
use crate::limit::{Ask, Cost, Retry, Verdict};
use crate::time::Span;

/// Who answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// The counter in this process' memory.
    Memory,
    /// Nobody counted: the store has no room for a new key, and `on_full` answered.
    Full,
    /// The counter in Redis.
    Redis,
    /// An earlier refusal that still holds; this request was not counted.
    Denial,
    /// Nobody counted: the store could not be asked, and the rule's `on_failure` or the domain's
    /// `on_overload` answered.
    Fallback,
    /// This server's share of the limit in its own memory, since the store could not be asked.
    Share,
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
    /// A limit could not be asked, and its rule says that this is the caller's to decide.
    Failed {
        /// Its rule.
        rule: RuleRef<'m>,
        /// What it should have been asked.
        ask: Ask,
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
    /// Whether a limit that could not be asked might have refused the request, and none that was asked did.
    pub undecided: bool,
    /// Per descriptor.
    pub outcomes: SmallVec<[Outcome<'m>; 2]>,
}

impl<'m> Outcome<'m> {
    /// What became of `hit`; without an answer its limit could not be asked.
    pub(super) fn of(hit: Hit<'m>, answer: Option<&Answer>) -> Outcome<'m> {
        let Some(&answer) = answer else { return Outcome::Failed { rule: hit.rule, ask: hit.ask } };
        let status = if answer.verdict.allowed || hit.shadow { Status::Ok } else { Status::OverLimit };
        Outcome::Decided { rule: hit.rule, ask: hit.ask, answer, status, alternative: hit.alternative }
    }
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
    let allowed = |answer: &Answer| Some(answer.verdict.allowed);
    refusal_of(hits.iter().zip(answers.iter().map(allowed)))
}

/// The same where some limits could not be asked: they refuse nothing.
pub(super) fn refusal<E>(hits: &[Hit<'_>], answers: &[Result<Answer, E>]) -> Refusal {
    refusal_of(hits.iter().zip(answers.iter().map(known)))
}

/// Whether a limit that could not be asked might have refused: one that is neither in shadow nor an
/// alternative, or all alternatives that were not asked, if those that were asked refuse and none is `open`.
pub(super) fn unknown<E>(hits: &[Hit<'_>], answers: &[Result<Answer, E>], open: bool) -> bool {
    let failed = |hit: &Hit<'_>, answer: &Result<Answer, E>| answer.is_err() && !hit.shadow;
    let mut pairs = hits.iter().zip(answers);
    if !pairs.clone().any(|(hit, answer)| failed(hit, answer)) {
        return false;
    }
    let passes = |hit: &Hit<'_>, answer: &Result<Answer, E>| match answer {
        Ok(answer) => answer.verdict.allowed || hit.shadow,
        Err(_) => hit.shadow,
    };
    let open = open || pairs.clone().any(|(hit, answer)| hit.alternative && passes(hit, answer));
    pairs.any(|(hit, answer)| failed(hit, answer) && !(hit.alternative && open))
}

fn known<E>(answer: &Result<Answer, E>) -> Option<bool> {
    answer.as_ref().ok().map(|answer| answer.verdict.allowed)
}

fn refusal_of<'h>(pairs: impl Iterator<Item = (&'h Hit<'h>, Option<bool>)> + Clone) -> Refusal {
    let over = |hit: &Hit<'_>, allowed: Option<bool>| allowed == Some(false) && !hit.shadow;
    if pairs.clone().any(|(hit, allowed)| !hit.alternative && over(hit, allowed)) {
        return Refusal::Certain;
    }
    let mut alternatives = pairs.filter(|(hit, _)| hit.alternative).peekable();
    if alternatives.peek().is_some() && alternatives.all(|(hit, allowed)| over(hit, allowed)) {
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
