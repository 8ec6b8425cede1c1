//! `Lease` and `ReturnLease`: tokens that a client buys in advance and spends alone.

mod token;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tollgate_core::lease::MAX_TTL;
use tollgate_core::limit::Retry;
use tollgate_core::rules::Query;
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::lease_response::Reason;

use self::token::Token;
use super::NotDecided;
use super::decode::{question, span};
use super::encode::{duration, jitter, limit_status};
use crate::adapter::rls::patience;
use crate::config::ruleset::Ruleset;
use crate::engine::Engine;
use crate::engine::lease::{GivenBack, Grant, Leased, Returned, Wish};
use crate::telemetry::metrics::ReturnResult;

/// Most tokens of one lease.
const MAX_TOKENS: u64 = u32::MAX as u64;

/// What the key for the leases of servers that share a secret is derived for.
const CONTEXT: &str = "tollgate.v1 lease token";

/// Grants leases and takes them back.
#[derive(Clone)]
pub struct Leases {
    engine: Arc<Engine>,
    /// Proves that a lease is ours.
    key: [u8; 32],
    /// Tells this server and life from all others.
    server: [u8; 8],
    /// Leases named so far.
    named: Arc<AtomicU64>,
}

impl Leases {
    /// Leases on the limits of `engine`. Servers with one key take back each other's.
    #[must_use]
    pub fn new(engine: Arc<Engine>, key: [u8; 32]) -> Leases {
        Leases { engine, key, server: random().to_be_bytes(), named: Arc::default() }
    }

    /// The key of all servers that know `secret`, a text of any length that cannot be guessed.
    #[must_use]
    pub fn shared_key(secret: &str) -> [u8; 32] {
        blake3::derive_key(CONTEXT, secret.as_bytes())
    }

    /// A key that nobody else has: leases of another server, or of this one before it was started, cannot be
    /// given back; they end.
    #[must_use]
    pub fn own_key() -> [u8; 32] {
        let random: Vec<u8> = (0..4).flat_map(|_| random().to_be_bytes()).collect();
        blake3::derive_key(CONTEXT, &random)
    }

    /// Grants a lease to a caller who waits at most `deadline`. What the one before has left is taken back
    /// first.
    ///
    /// # Errors
    /// The request makes no sense, no rules are loaded, or a limit could not be asked; see [`NotDecided`].
    pub async fn lease(
        &self,
        request: &wire::LeaseRequest,
        deadline: Option<Duration>,
    ) -> Result<wire::LeaseResponse, NotDecided> {
        let mut query = question(&request.domain, &request.descriptors)?;
        let wish = wish(request, deadline)?;
        query.patience = wish.answer_within;
        let rules = self.engine.rules();
        let rules = rules.as_deref().ok_or(NotDecided::NoRules)?;
        if let Some(previous) = &request.previous {
            self.take_back(
                rules,
                &query,
                Back { field: "previous", wire: previous, within: wish.answer_within },
            )
            .await?;
        }
        let leased = self.engine.lease(rules, &query, wish).await?;
        Ok(self.response(&leased, wish.tokens))
    }

    /// Takes back what a lease has left, for a caller who waits at most `deadline`.
    ///
    /// # Errors
    /// As [`Leases::lease`]. A lease that is not ours, has ended or was given back before is no error: nothing
    /// comes of it.
    pub async fn return_lease(
        &self,
        request: &wire::ReturnLeaseRequest,
        deadline: Option<Duration>,
    ) -> Result<wire::ReturnLeaseResponse, NotDecided> {
        let query = question(&request.domain, &request.descriptors)?;
        let lease = request.lease.as_ref().ok_or_else(|| NotDecided::field("lease", "must be set"))?;
        let rules = self.engine.rules();
        let rules = rules.as_deref().ok_or(NotDecided::NoRules)?;
        let within = deadline.map_or(Span::MAX, patience);
        let returned = self.take_back(rules, &query, Back { field: "lease", wire: lease, within }).await?;
        Ok(wire::ReturnLeaseResponse { returned })
    }

    async fn take_back(&self, rules: &Ruleset, query: &Query<'_>, back: Back<'_>) -> Result<u64, NotDecided> {
        let Some(Token { name, ticket }) = Token::open(&back.wire.lease, &self.key) else {
            self.engine.metrics().lease_returned(ReturnResult::Unknown, 0);
            return Ok(0);
        };
        let unspent = back.wire.unspent;
        if unspent > ticket.tokens {
            let why = format!("{unspent} is more than the {} tokens that were granted", ticket.tokens);
            return Err(NotDecided::field(format!("{}.unspent", back.field), why));
        }
        let foreign = !name.starts_with(&self.server);
        let back = GivenBack { ticket, name, unspent, foreign, answer_within: back.within };
        match self.engine.take_back(rules, query, back).await? {
            Returned::Tokens(tokens) => Ok(tokens),
            Returned::Ended | Returned::Other | Returned::Again => Ok(0),
        }
    }

    fn response(&self, leased: &Leased<'_>, wanted: u64) -> wire::LeaseResponse {
        let limits = leased.decision.outcomes.iter().map(|outcome| limit_status(outcome, false)).collect();
        let mut response = wire::LeaseResponse { limits, ..wire::LeaseResponse::default() };
        match leased.grant {
            Grant::Granted { ticket, ttl, near } => {
                response.lease = Token { name: self.name(), ticket }.seal(&self.key);
                response.granted = ticket.tokens;
                response.ttl = Some(duration(ttl));
                response.reason = match ticket.tokens < wanted {
                    false => Reason::Unspecified,
                    true if near => Reason::Exhausted,
                    true => Reason::Capped,
                }
                .into();
            }
            Grant::Exhausted(retry) => {
                response.reason = Reason::Exhausted.into();
                if let Retry::After(retry) = retry {
                    response.retry_after = Some(duration(retry));
                    response.retry_jitter = Some(duration(jitter(&leased.decision)));
                }
            }
            Grant::NotLeasable(retry) => {
                response.reason = Reason::NotLeasable.into();
                response.retry_after = retry.map(duration);
                response.retry_jitter = retry.map(|_| duration(jitter(&leased.decision)));
            }
            Grant::Unlimited(ttl) => {
                response.reason = Reason::Unlimited.into();
                response.ttl = Some(duration(ttl));
            }
        }
        response
    }

    /// A name that no other lease has.
    fn name(&self) -> [u8; 16] {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.server);
        name[8..].copy_from_slice(&self.named.fetch_add(1, Relaxed).to_be_bytes());
        name
    }
}

/// A lease that comes back, in a field of a request.
struct Back<'r> {
    field: &'static str,
    wire: &'r wire::LeaseReturn,
    within: Span,
}

fn wish(request: &wire::LeaseRequest, deadline: Option<Duration>) -> Result<Wish, NotDecided> {
    let tokens = request.tokens;
    if !(1..=MAX_TOKENS).contains(&tokens) {
        return Err(NotDecided::field("tokens", format!("{tokens} is out of range: 1 to {MAX_TOKENS}")));
    }
    let ttl = span("ttl", request.ttl.as_ref())?;
    if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > MAX_TTL) {
        return Err(NotDecided::field("ttl", format!("is out of range: 1us to {MAX_TTL}")));
    }
    Ok(Wish { tokens, ttl, answer_within: deadline.map_or(Span::MAX, patience) })
}

/// The standard library's hasher is keyed by the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
