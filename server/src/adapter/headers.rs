//! Response headers that the service makes itself, for callers that do not derive them.

use http::{HeaderName, HeaderValue};
use tollgate_core::limit::Retry;
use tollgate_core::rules::{Decision, told_remaining};

/// Which headers are made, each off by default. Names are valid by type; values are numbers of ours.
#[derive(Clone, Debug, Default)]
pub struct ResponseHeaders {
    /// The reference's three (`LIMIT_RESPONSE_HEADERS_ENABLED`).
    pub limits: Option<LimitHeaders>,
    /// `Retry-After` on a refusal, in whole seconds, rounded up.
    pub retry_after: bool,
}

/// Names of the three headers that tell of the tightest limit, spelled as configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LimitHeaders {
    /// Requests per unit.
    pub limit: Spelled,
    /// Requests left.
    pub remaining: Spelled,
    /// Seconds until the limit resets.
    pub reset: Spelled,
}

/// A valid header name that keeps the case it was written in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spelled(String);

impl Spelled {
    /// Takes a name as written.
    ///
    /// # Errors
    /// Not a header name by RFC 9110 §5.1.
    pub fn new(name: &str) -> Result<Spelled, String> {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(_) => Ok(Spelled(name.to_owned())),
            Err(_) => Err(format!("'{}' is no header name", name.escape_debug())),
        }
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ResponseHeaders {
    /// The headers that describe `decision`, in the reference's order.
    #[must_use]
    pub fn of(&self, decision: &Decision<'_>) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if let Some((names, (rule, verdict))) = self.limits.as_ref().zip(decision.tightest()) {
            let limit = rule.quota.requests_per_unit.to_string();
            headers.push((names.limit.0.clone(), limit));
            headers.push((names.remaining.0.clone(), told_remaining(verdict).to_string()));
            headers.push((names.reset.0.clone(), verdict.reset_after.as_secs_ceil().to_string()));
        }
        if self.retry_after {
            headers.extend(retry_after(decision).map(|seconds| ("Retry-After".into(), seconds.to_string())));
        }
        headers
    }
}

/// Seconds after which a refused request would pass; `None` if it was not refused or never passes.
#[must_use]
pub fn retry_after(decision: &Decision<'_>) -> Option<u64> {
    match decision.retry_after()? {
        Retry::After(span) => Some(span.as_secs_ceil().max(1)),
        Retry::Never => None,
    }
}

/// A header value from configuration text, which is never trusted to be one.
#[must_use]
pub fn value(text: &str) -> Option<HeaderValue> {
    let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    HeaderValue::from_str(text).ok().filter(|_| printable)
}
