//! Envoy's rate limit service (RLS v3).

mod decode;
mod encode;
mod server;

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::rules::Decision;
use tollgate_core::time::Span;
use tollgate_proto::envoy::service::ratelimit::v3 as wire;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

pub use self::encode::Metadata;
pub use self::server::RlsServer;
use super::Invalid;
use super::headers::ResponseHeaders;
use crate::access;
use crate::engine::Engine;
use crate::telemetry::metrics::{Answered, Api, ErrorKind};

/// Time that an answer needs on its way: a held caller is answered this much before its deadline.
const RETURN_TRIP: Duration = Duration::from_millis(2);

/// What answers carry besides the verdicts.
#[derive(Clone, Debug, Default)]
pub struct RlsOptions {
    /// Headers for the client's response.
    pub headers: ResponseHeaders,
    /// Whether `dynamic_metadata` is filled.
    pub metadata: Metadata,
}

/// The service.
#[derive(Clone)]
pub struct RlsService {
    engine: Arc<Engine>,
    options: Arc<RlsOptions>,
}

impl RlsService {
    /// A service that asks `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, options: Arc<RlsOptions>) -> RlsService {
        RlsService { engine, options }
    }

    /// Answers one request whose caller waits at most `deadline`.
    ///
    /// # Errors
    /// Requests that cannot be decided, see [`Invalid`].
    pub async fn answer(
        &self,
        request: &wire::RateLimitRequest,
        deadline: Option<Duration>,
    ) -> Result<wire::RateLimitResponse, Invalid> {
        let mut query = decode::query(request)?;
        query.patience = deadline.map_or(Span::MAX, patience);
        let rules = self.engine.rules();
        let rules = rules.as_deref().ok_or(Invalid::NoRules)?;
        let decision: Decision<'_> = self.engine.decide(rules, &query).await.map_err(Invalid::Undecided)?;
        Ok(encode::response(request, &decision, &self.options))
    }
}

#[tonic::async_trait]
impl RateLimitService for RlsService {
    async fn should_rate_limit(
        &self,
        request: Request<wire::RateLimitRequest>,
    ) -> Result<Response<wire::RateLimitResponse>, Status> {
        let metrics = self.engine.metrics();
        let began = metrics.wants_response_time().then(tokio::time::Instant::now);
        let deadline = deadline(request.metadata());
        let answer = match permitted(request.extensions(), &request.get_ref().domain) {
            Ok(()) => self.answer(request.get_ref(), deadline).await,
            Err(forbidden) => Err(forbidden),
        };
        metrics.request(Api::Rls, answered(&answer));
        if let Some(began) = began {
            metrics.response_time(began.elapsed());
        }
        // the reference returns plain errors, which gRPC calls UNKNOWN
        answer.map(Response::new).map_err(|invalid| match invalid {
            Invalid::Forbidden { .. } => Status::permission_denied(invalid.to_string()),
            _ => Status::unknown(invalid.to_string()),
        })
    }
}

/// Whether whoever sent a request with `extensions` may ask about `domain`.
pub(super) fn permitted(extensions: &http::Extensions, domain: &str) -> Result<(), Invalid> {
    if access::permits(extensions, domain) {
        return Ok(());
    }
    Err(Invalid::Forbidden { domain: domain.to_owned() })
}

/// How an answer is counted.
pub(super) fn answered(answer: &Result<wire::RateLimitResponse, Invalid>) -> Answered {
    match answer {
        Ok(response) if response.overall_code == i32::from(Code::OverLimit) => Answered::OverLimit,
        Ok(_) => Answered::Ok,
        Err(Invalid::Undecided(_)) => Answered::Error(ErrorKind::Store),
        Err(Invalid::Forbidden { .. }) => Answered::Error(ErrorKind::Forbidden),
        Err(_) => Answered::Error(ErrorKind::Service),
    }
}

pub(super) fn patience(deadline: Duration) -> Span {
    let left = deadline.saturating_sub(RETURN_TRIP);
    Span::from_micros(u64::try_from(left.as_micros()).unwrap_or(u64::MAX))
}

/// The caller's deadline from `grpc-timeout`: at most eight digits and a unit. Anything else is no deadline.
pub(super) fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let legal = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| legal)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        deadline(&metadata)
    }

    #[test]
    fn a_deadline_has_eight_digits_and_a_unit() {
        assert_eq!(parsed("20m"), Some(Duration::from_millis(20)));
        assert_eq!(parsed("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        for wrong in ["", "m", "20", "123456789m", "-1m", "2x"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_held_answer_leaves_time_for_its_way_back() {
        assert_eq!(patience(Duration::from_millis(20)), Span::from_millis(18));
        assert_eq!(patience(Duration::from_millis(1)), Span::ZERO);
    }
}
