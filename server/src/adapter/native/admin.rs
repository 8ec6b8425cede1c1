//! What operators do to keys.

use std::sync::Arc;

use tollgate_core::rules::Outcome;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::admin_server::Admin;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{NotDecided, decode, encode};
use crate::admin::{Denied, Writes};
use crate::engine::Engine;

/// The service.
#[derive(Clone)]
pub struct AdminService {
    engine: Arc<Engine>,
    writes: Arc<Writes>,
}

impl AdminService {
    /// A service for whoever `writes` lets.
    #[must_use]
    pub fn new(engine: Arc<Engine>, writes: Arc<Writes>) -> AdminService {
        AdminService { engine, writes }
    }

    fn permit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.writes.permit(metadata.as_ref()).map_err(|denied| match denied {
            Denied::NoToken(text) => Status::permission_denied(text),
            Denied::WrongToken(text) => Status::unauthenticated(text),
        })
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn reset_key(
        &self,
        request: Request<wire::ResetKeyRequest>,
    ) -> Result<Response<wire::ResetKeyResponse>, Status> {
        self.permit(request.metadata())?;
        let request = request.get_ref();
        let query = decode::question(&request.domain, &request.descriptors)?;
        let rules = self.engine.rules();
        let rules = rules.as_deref().ok_or(NotDecided::NoRules)?;
        let counters = self.engine.counters(rules, &query);
        self.engine.forget(rules, &query).await.map_err(NotDecided::from)?;
        for counter in counters.iter().flatten() {
            tracing::info!(domain = request.domain, key = ?counter.key, "a key was reset by hand");
        }
        let reset = counters.iter().map(Option::is_some).collect();
        Ok(Response::new(wire::ResetKeyResponse { reset }))
    }

    async fn read_key(
        &self,
        request: Request<wire::ReadKeyRequest>,
    ) -> Result<Response<wire::ReadKeyResponse>, Status> {
        self.permit(request.metadata())?;
        let request = request.get_ref();
        let query = decode::question(&request.domain, &request.descriptors)?;
        let rules = self.engine.rules();
        let rules = rules.as_deref().ok_or(NotDecided::NoRules)?;
        let counters = self.engine.counters(rules, &query);
        let decision = self.engine.decide(rules, &query).await.map_err(NotDecided::from)?;
        let keys = decision.outcomes.iter().zip(counters).map(|(outcome, counter)| {
            let used = match outcome {
                Outcome::Decided { answer, .. } => answer.verdict.used,
                _ => 0,
            };
            let (key, algorithm) = counter
                .map(|counter| (counter.key.as_bytes().to_vec(), counter.algorithm.to_owned()))
                .unwrap_or_default();
            wire::KeyState { status: Some(encode::limit_status(outcome, true)), key, used, algorithm }
        });
        Ok(Response::new(wire::ReadKeyResponse { keys: keys.collect() }))
    }
}
