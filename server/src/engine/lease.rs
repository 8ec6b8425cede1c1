//! Leases: charged at once, spent by the client alone, given back if not.
//!
//! A grant looks at every limit, sizes the lease and charges all of them or none; what it charges and why the
//! spends stay within the limit is `tollgate_core::lease`.

use smallvec::SmallVec;
use tollgate_core::lease::{Draft, Draw, MAX_TTL, Offer};
use tollgate_core::limit::{Ask, Cost, FixedWindow, Limit, Refused, Retry, Verdict, Window};
use tollgate_core::rules::{Answer, By, Charge, Decision, Hit, Key, OnFailure, Plan, Query, Rule, RuleRef};
use tollgate_core::time::{Span, Time};

use super::{Engine, Undecided, charged, refund_of};
use crate::config::ruleset::Ruleset;
use crate::store::{Answers, Fault, REMEMBERED, Replies, Request};
use crate::telemetry::metrics::{LeaseResult, ReturnResult};

/// The life of a lease whose client names none.
const DEFAULT_TTL: Span = Span::from_secs(10);
/// When to ask again for a lease that the store's state did not allow.
const PAUSE: Span = Span::SECOND;
/// What is given back has to reach its counter within this after it was accepted, or within a fifth of the
/// time in which it may, if that is less.
const LONGEST_WAY: Span = Span::from_millis(100);
/// How far the clocks of two servers may be apart.
const CLOCKS_APART: Span = Span::SECOND;

/// What a client wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Tokens, at least 1.
    pub tokens: u64,
    /// How long it would keep them; `None` leaves that to us.
    pub ttl: Option<Span>,
    /// How long it waits for the answer.
    pub answer_within: Span,
}

/// What a client got.
#[derive(Clone, Debug)]
pub struct Leased<'m> {
    /// Tokens, or why there are none.
    pub grant: Grant,
    /// The limits afterwards.
    pub decision: Decision<'m>,
}

/// Tokens, or why there are none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Grant {
    /// Tokens.
    Granted {
        /// What was charged.
        ticket: Ticket,
        /// The tokens are worth nothing after this, counted from the moment at which the client asked.
        ttl: Span,
        /// Some limit is near its end.
        near: bool,
    },
    /// A limit has no token left; when there will be one if nobody else comes.
    Exhausted(Retry),
    /// These limits are not leased; when that may be otherwise, if ever.
    NotLeasable(Option<Span>),
    /// There is no limit; nothing need be asked for this long.
    Unlimited(Span),
}

/// What was charged for a lease, and how it may be given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// Tokens.
    pub tokens: u64,
    /// When it was granted, by this server's clock.
    pub issued: Time,
    /// The last instant, by the same clock, at which something of it is accepted back.
    pub ends: Time,
    /// Which counters were charged: a hash of their names and of what they hold.
    pub counters: [u8; 16],
}

/// What a client gives back.
#[derive(Clone, Copy, Debug)]
pub struct GivenBack {
    /// What was charged.
    pub ticket: Ticket,
    /// The name of the lease; no other one ever had it.
    pub name: [u8; 16],
    /// Tokens that were not spent, at most [`Ticket::tokens`].
    pub unspent: u64,
    /// Another server granted it, whose clock may differ by a second.
    pub foreign: bool,
    /// How long the client waits for the answer.
    pub answer_within: Span,
}

/// What came of giving back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Returned {
    /// So many tokens are back.
    Tokens(u64),
    /// Too late: the lease has ended, or is about to.
    Ended,
    /// The lease is of other descriptors, or the rules have changed.
    Other,
    /// It was given back before.
    Again,
}

/// One request for a lease on its way.
struct Asking<'a, 'm> {
    engine: &'a Engine,
    rules: &'m Ruleset,
    domain: &'a str,
    plan: &'a Plan<'m>,
    draft: Draft<'m>,
    /// When the client goes away, by our clock.
    until: Time,
}

/// What the limits said.
struct Told {
    replies: Replies,
    /// One for each; `None` if a limit could not be asked that might have refused.
    answers: Option<Answers>,
}

impl Engine {
    /// Grants a lease on the limits that `query` meets; its costs are not looked at.
    ///
    /// # Errors
    /// The store could not be asked about a limit whose `on_failure` is `error`.
    pub async fn lease<'m>(
        &'m self,
        rules: &'m Ruleset,
        query: &Query<'_>,
        wish: Wish,
    ) -> Result<Leased<'m>, Undecided> {
        let plan = rules.matcher().plan(&costing(query, Cost::Take(0)));
        let draft = Draft::of(&plan);
        if draft.is_unlimited() {
            let grant = Grant::Unlimited(wish.ttl.unwrap_or(DEFAULT_TTL).min(MAX_TTL));
            self.metrics.leased(LeaseResult::Unlimited, 0);
            return Ok(Leased { grant, decision: plan.settle::<Fault>(&[]) });
        }
        let until = self.clock.now() + wish.answer_within;
        let asking = Asking { engine: self, rules, domain: query.domain, plan: &plan, draft, until };
        let (grant, replies) = asking.grant(wish).await?;
        let own = replies.get(..plan.hits().len()).unwrap_or(&replies);
        let decision = match grant {
            Grant::Granted { ticket, .. } => {
                let query = costing(query, Cost::Take(ticket.tokens));
                let decision = rules.matcher().plan(&query).settle(own);
                self.metrics.decided(rules, &query, &decision);
                decision
            }
            _ => plan.clone().settle(own),
        };
        self.count(grant);
        Ok(Leased { grant, decision })
    }

    fn count(&self, grant: Grant) {
        match grant {
            Grant::Granted { ticket, .. } => self.metrics.leased(LeaseResult::Granted, ticket.tokens),
            Grant::Exhausted(_) => self.metrics.leased(LeaseResult::Exhausted, 0),
            Grant::NotLeasable(_) => self.metrics.leased(LeaseResult::NotLeasable, 0),
            Grant::Unlimited(_) => self.metrics.leased(LeaseResult::Unlimited, 0),
        }
    }

    /// Takes back what a lease on the limits that `query` meets has left. Once: the same lease given back
    /// again changes nothing.
    ///
    /// # Errors
    /// The store could not be asked; what was given back may have been taken.
    pub async fn take_back(
        &self,
        rules: &Ruleset,
        query: &Query<'_>,
        back: GivenBack,
    ) -> Result<Returned, Undecided> {
        let returned = self.try_take_back(rules, query, back).await?;
        let (result, tokens) = match returned {
            Returned::Tokens(tokens) => (ReturnResult::Returned, tokens),
            Returned::Ended => (ReturnResult::Ended, 0),
            Returned::Other => (ReturnResult::Other, 0),
            Returned::Again => (ReturnResult::Again, 0),
        };
        self.metrics.lease_returned(result, tokens);
        Ok(returned)
    }

    async fn try_take_back(
        &self,
        rules: &Ruleset,
        query: &Query<'_>,
        back: GivenBack,
    ) -> Result<Returned, Undecided> {
        let GivenBack { ticket, name, unspent, foreign, answer_within } = back;
        let now = self.clock.now();
        let margin = if foreign { CLOCKS_APART } else { Span::ZERO };
        if now + margin > ticket.ends || now + margin < ticket.issued {
            return Ok(Returned::Ended);
        }
        let query = costing(query, Cost::Refund(unspent));
        let plan = rules.matcher().plan(&query);
        let Some(first) = plan.hits().first() else { return Ok(Returned::Other) };
        if counters(query.domain, plan.hits()) != ticket.counters {
            return Ok(Returned::Other);
        }
        if unspent == 0 {
            return Ok(Returned::Tokens(0));
        }
        // a charge that is admitted once decides over the refunds, in one step
        let hits: SmallVec<[Hit<'_>; 4]> =
            [once(first, &name)].into_iter().chain(plan.hits().iter().cloned()).collect();
        let request = Request {
            patience: answer_within.min(way_after(ticket.ends - ticket.issued)),
            generation: rules.generation(),
            ..Request::new(Charge::AllOrNothing, &hits, now)
        };
        let replies = self.store.charge(request).await;
        if let Some(fault) = replies.iter().find_map(|reply| reply.err()) {
            return Err(Undecided { fault });
        }
        if replies.first().is_some_and(|reply| reply.is_ok_and(|answer| !answer.verdict.allowed)) {
            return Ok(Returned::Again);
        }
        let decision = plan.settle(replies.get(1..).unwrap_or_default());
        self.metrics.decided(rules, &query, &decision);
        Ok(Returned::Tokens(unspent))
    }
}

impl Asking<'_, '_> {
    async fn grant(&self, wish: Wish) -> Result<(Grant, Replies), Undecided> {
        let looks = self.ask(0).await?;
        let not_now = Grant::NotLeasable(Some(PAUSE));
        let Some(answers) = looks.answers else { return Ok((not_now, looks.replies)) };
        let (mut tokens, near) = match self.draft.offer(wish.tokens, &answers) {
            Offer::Barred => return Ok((Grant::NotLeasable(None), looks.replies)),
            Offer::TooShort(left) => return Ok((Grant::NotLeasable(Some(left)), looks.replies)),
            Offer::Tokens { tokens, near } => (tokens, near),
        };
        loop {
            // from before the charge: nothing ends here later than in the store
            let issued = self.engine.clock.now();
            let told = self.ask(tokens).await?;
            let Some(answers) = told.answers else { return Ok((not_now, told.replies)) };
            match self.draft.draw(&answers) {
                Draw::Granted { ttl, ends } => {
                    let counters = counters(self.domain, self.plan.hits());
                    let ends = issued + (ends - way_within(ends));
                    let ticket = Ticket { tokens, issued, ends, counters };
                    let ttl = ttl.min(wish.ttl.unwrap_or(DEFAULT_TTL));
                    return Ok((Grant::Granted { ticket, ttl, near }, told.replies));
                }
                Draw::Uncounted => {
                    self.give_back(tokens, &told.replies);
                    return Ok((not_now, told.replies));
                }
                Draw::Refused(retry) if tokens == 1 => return Ok((Grant::Exhausted(retry), told.replies)),
                // others were faster: whether there is one at all
                Draw::Refused(_) => tokens = 1,
            }
        }
    }

    /// Charges `tokens` to every limit or to none; 0 looks.
    async fn ask(&self, tokens: u64) -> Result<Told, Undecided> {
        let hits = self.draft.hits(tokens);
        let now = self.engine.clock.now();
        // looks have nothing to take back
        let charge = if tokens == 0 { Charge::Admitted } else { Charge::AllOrNothing };
        let request = Request {
            patience: self.until - now,
            generation: self.rules.generation(),
            ..Request::new(charge, &hits, now)
        };
        let replies = self.engine.store.charge(request).await;
        let failed: SmallVec<[(&Hit<'_>, Fault); 2]> = (0..)
            .zip(hits.iter().zip(&replies))
            .filter(|(place, _)| self.draft.is_enforced(*place))
            .filter_map(|(_, (hit, reply))| Some((hit, reply.err()?)))
            .collect();
        if failed.is_empty() {
            let answers = replies.iter().map(|reply| reply.unwrap_or_else(|_| unasked()));
            let answers = Some(answers.collect());
            return Ok(Told { replies, answers });
        }
        if !self.is_refused(&replies) {
            self.give_back(tokens, &replies);
        }
        // what else a rule's policy would answer is counted nowhere, so that no lease can be made of it
        let fails = |(hit, fault): &&(&Hit<'_>, Fault)| match fault {
            Fault::Overloaded => self.plan.on_overload() == OnFailure::Error,
            _ => hit.rule.on_failure == OnFailure::Error,
        };
        match failed.iter().find(fails) {
            Some(&(_, fault)) => Err(Undecided { fault }),
            None => Ok(Told { replies, answers: None }),
        }
    }

    /// Whether a limit that was asked refuses: the store has then taken everything back by itself.
    fn is_refused(&self, replies: &Replies) -> bool {
        let refuses = |place: usize, reply: &Result<Answer, Fault>| {
            self.draft.is_enforced(place) && reply.is_ok_and(|answer| !answer.verdict.allowed)
        };
        replies.iter().enumerate().any(|(place, reply)| refuses(place, reply))
    }

    /// Gives back what was charged of a lease that is not granted. Pools keep it: what was granted in a period
    /// only ever grows.
    fn give_back(&self, tokens: u64, replies: &Replies) {
        let hits = self.draft.hits(tokens);
        let own = self.draft.own().min(replies.len());
        let charged = charged(&hits[..own], replies);
        self.engine.give_back(charged.into_iter().map(refund_of).collect());
    }
}

/// The same question at another cost for every descriptor.
fn costing<'q>(query: &Query<'q>, cost: Cost) -> Query<'q> {
    let mut query = query.clone();
    for descriptor in &mut query.descriptors {
        (descriptor.hits, descriptor.refund) = match cost {
            Cost::Take(units) => (Some(units), false),
            Cost::Refund(units) => (Some(units), true),
        };
    }
    query
}

/// In place of what a rule in shadow did not say.
const fn unasked() -> Answer {
    let verdict = Verdict {
        allowed: true,
        limit: 0,
        remaining: 0,
        used_before: 0,
        used: 0,
        retry_after: Retry::After(Span::ZERO),
        reset_after: Span::ZERO,
        wait: Span::ZERO,
    };
    Answer { verdict, by: By::Fallback }
}

/// How long what is given back may be on its way, out of the whole time in which it counts.
fn way_within(span: Span) -> Span {
    LONGEST_WAY.min(Span::from_micros(span.as_micros() / 5))
}

/// The same, from what is left of that time without it.
fn way_after(span: Span) -> Span {
    LONGEST_WAY.min(Span::from_micros(span.as_micros() / 4))
}

/// A charge that is admitted once for each lease, longer than any lease lives.
fn once<'m>(beside: &Hit<'m>, name: &[u8; 16]) -> Hit<'m> {
    let limit = FixedWindow::new(1, Window::Anchored(REMEMBERED), Refused::Free).map(Limit::FixedWindow);
    let rule = Rule { limit: limit.ok(), ..(*beside.rule).clone() };
    Hit {
        key: Key::of_return(name),
        rule: RuleRef::Override(Box::new(rule)),
        ask: Ask { cost: Cost::Take(1), patience: Span::ZERO },
        shadow: false,
        alternative: false,
        partition: beside.partition.clone(),
    }
}

/// Which counters `hits` charge, and what these hold: a lease is taken back only by the same ones.
fn counters(domain: &str, hits: &[Hit<'_>]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    part(domain.as_bytes());
    for hit in hits {
        let Some(limit) = &hit.rule.limit else { continue };
        part(hit.key.as_bytes());
        part(limit.algorithm().as_bytes());
        part(&limit.capacity().to_le_bytes());
    }
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    hash
}
