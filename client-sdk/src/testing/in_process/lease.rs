//! Leases of fixed windows: what is granted is charged, and the window's end is the lease's.

use std::sync::atomic::Ordering::Relaxed;

use tollgate_core::limit::{Limit, Retry};
use tollgate_core::rules::{Answer, Outcome, Plan};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1::lease_response::Reason;
use tollgate_proto::tollgate::v1::{
    Descriptor, LeaseRequest, LeaseResponse, LeaseReturn, ReturnLeaseRequest, ReturnLeaseResponse,
};
use tonic::Status;

use super::decide::{query, span, status, to_wire};
use super::{InProcessLimiter, States};

/// The longest that a lease is kept.
const LONGEST: Span = Span::from_secs(60);
/// At most this part of what is left goes into one lease.
const SHARE: u64 = 4;

/// A lease that was given out.
#[derive(Debug)]
pub(super) struct Granted {
    tokens: u64,
    until: Time,
}

impl InProcessLimiter {
    pub(super) fn lease(&self, request: &LeaseRequest) -> Result<LeaseResponse, Status> {
        self.0.purchases.fetch_add(1, Relaxed);
        if let Some(previous) = &request.previous {
            self.give_back(&request.domain, &request.descriptors, previous)?;
        }
        let now = self.0.clock.now();
        let mut states = self.states();
        states.leases.retain(|_, lease| lease.until > now);
        let look = query(&request.domain, &plain(&request.descriptors), 0, false)
            .map(|query| self.peek(&mut states, now, &self.0.matcher.plan(&query)))?;
        let (remaining, ttl) = match look {
            Look::NotLeasable => return Ok(refusal(Reason::NotLeasable, None)),
            Look::Unlimited => {
                return Ok(LeaseResponse { ttl: Some(to_wire(LONGEST)), ..refusal(Reason::Unlimited, None) });
            }
            Look::Limited { remaining, ttl } => (remaining, ttl),
        };
        let ttl = ttl.min(request.ttl.as_ref().map_or(LONGEST, span)).min(LONGEST);
        let tokens = request.tokens.min((remaining / SHARE).max(1));
        let descriptors = plain(&request.descriptors);
        let query = query(&request.domain, &descriptors, tokens, false)?;
        let plan = self.0.matcher.plan(&query);
        let answers = self.charge_at(&mut states, now, &plan);
        Ok(grant(&mut states, plan, &answers, (request.tokens, tokens), (now + ttl, ttl)))
    }

    pub(super) fn return_lease(&self, request: &ReturnLeaseRequest) -> Result<ReturnLeaseResponse, Status> {
        let back = request.lease.as_ref().ok_or_else(|| Status::invalid_argument("lease is needed"))?;
        let returned = self.give_back(&request.domain, &request.descriptors, back)?;
        Ok(ReturnLeaseResponse { returned })
    }

    fn give_back(&self, domain: &str, descriptors: &[Descriptor], back: &LeaseReturn) -> Result<u64, Status> {
        let id: [u8; 8] =
            back.lease.as_slice().try_into().map_err(|_| Status::invalid_argument("not a lease"))?;
        let now = self.0.clock.now();
        let mut states = self.states();
        let Some(lease) = states.leases.remove(&u64::from_le_bytes(id)) else { return Ok(0) };
        if lease.until <= now {
            return Ok(0);
        }
        let tokens = back.unspent.min(lease.tokens);
        let descriptors = plain(descriptors);
        let query = query(domain, &descriptors, tokens, true)?;
        self.charge_at(&mut states, now, &self.0.matcher.plan(&query));
        Ok(tokens)
    }

    fn peek(&self, states: &mut States, now: Time, plan: &Plan<'_>) -> Look {
        let fixed = |limit: &Option<Limit>| matches!(limit, Some(Limit::FixedWindow(_)));
        if plan.hits().is_empty() {
            return Look::Unlimited;
        }
        if !plan.hits().iter().all(|hit| fixed(&hit.rule.limit)) {
            return Look::NotLeasable;
        }
        let answers = self.charge_at(states, now, plan);
        let remaining = answers.iter().map(|answer| answer.verdict.remaining).min().unwrap_or(0);
        let ttl = answers.iter().map(|answer| answer.verdict.reset_after).min().unwrap_or(Span::ZERO);
        Look::Limited { remaining, ttl }
    }
}

enum Look {
    NotLeasable,
    Unlimited,
    Limited { remaining: u64, ttl: Span },
}

/// Costs are ignored.
fn plain(descriptors: &[Descriptor]) -> Vec<Descriptor> {
    descriptors.iter().map(|descriptor| Descriptor { cost: None, ..descriptor.clone() }).collect()
}

fn refusal(reason: Reason, retry_after: Option<Span>) -> LeaseResponse {
    let retry_after = retry_after.map(to_wire);
    LeaseResponse { reason: reason.into(), retry_after, ..LeaseResponse::default() }
}

fn grant(
    states: &mut States,
    plan: Plan<'_>,
    answers: &[Answer],
    (wanted, tokens): (u64, u64),
    (until, ttl): (Time, Span),
) -> LeaseResponse {
    let settled: Vec<Result<Answer, ()>> = answers.iter().copied().map(Ok).collect();
    let decision = plan.settle(&settled);
    let limits = decision.outcomes.iter().map(|outcome: &Outcome<'_>| status(outcome, false)).collect();
    if !decision.allowed() {
        let retry_after = match decision.retry_after() {
            Some(Retry::After(after)) => Some(after),
            _ => None,
        };
        return LeaseResponse { limits, ..refusal(Reason::Exhausted, retry_after) };
    }
    states.next_lease += 1;
    let id = states.next_lease;
    states.leases.insert(id, Granted { tokens, until });
    LeaseResponse {
        lease: id.to_le_bytes().to_vec(),
        granted: tokens,
        ttl: Some(to_wire(ttl)),
        reason: if tokens < wanted { Reason::Exhausted } else { Reason::Unspecified }.into(),
        limits,
        ..LeaseResponse::default()
    }
}
