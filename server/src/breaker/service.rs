//! `tollgate.v1.CircuitBreakers`: what clients and people ask.

use std::sync::Arc;
use std::task::{Context, Poll};

use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::circuit_breakers_server::CircuitBreakers;
use tonic::{Request, Response, Status, Streaming};

use super::Breakers;
use super::counts::Streaming as Counted;
use super::decode::{self, invalid};
use super::exchange::{self, Exchange, Party};
use super::sessions::Session;
use crate::admin::Denied;

/// Directives that go out together.
const TOGETHER: usize = 256;

/// The service.
#[derive(Clone)]
pub struct BreakerService(Arc<Breakers>);

impl BreakerService {
    /// The service over `breakers`.
    #[must_use]
    pub fn new(breakers: Arc<Breakers>) -> BreakerService {
        BreakerService(breakers)
    }

    fn permit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let headers = request.metadata().clone().into_headers();
        self.0.writes.permit(&headers).map_err(|denied| match denied {
            Denied::WrongToken(why) => Status::unauthenticated(why),
            Denied::NoToken(why) => Status::permission_denied(why),
        })
    }
}

#[tonic::async_trait]
impl CircuitBreakers for BreakerService {
    type SyncStream = exchange::Said<wire::SyncResponse>;

    async fn sync(
        &self,
        request: Request<Streaming<wire::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let talk = Talk { counted: self.0.counts.streaming(), hub: self.0.clone(), session: None };
        Ok(Response::new(Box::pin(Exchange::new(request.into_inner(), talk, self.0.closing.clone()))))
    }

    async fn report_outcomes(
        &self,
        request: Request<wire::ReportOutcomesRequest>,
    ) -> Result<Response<wire::ReportOutcomesResponse>, Status> {
        self.0.report(request.into_inner()).await.map(Response::new)
    }

    async fn acquire_probe(
        &self,
        request: Request<wire::AcquireProbeRequest>,
    ) -> Result<Response<wire::AcquireProbeResponse>, Status> {
        self.0.probe(request.into_inner()).await.map(Response::new)
    }

    async fn get_circuit(
        &self,
        request: Request<wire::GetCircuitRequest>,
    ) -> Result<Response<wire::Circuit>, Status> {
        self.0.get(request.into_inner()).await.map(Response::new)
    }

    async fn list_circuits(
        &self,
        request: Request<wire::ListCircuitsRequest>,
    ) -> Result<Response<wire::ListCircuitsResponse>, Status> {
        self.0.list(request.into_inner()).await.map(Response::new)
    }

    async fn set_override(
        &self,
        request: Request<wire::SetOverrideRequest>,
    ) -> Result<Response<wire::Circuit>, Status> {
        self.permit(&request)?;
        self.0.force(request.into_inner()).await.map(Response::new)
    }
}

/// One client's stream.
struct Talk {
    hub: Arc<Breakers>,
    /// `None` until it says who it is.
    session: Option<Arc<Session>>,
    #[expect(dead_code, reason = "it counts until it is dropped")]
    counted: Counted,
}

impl Party for Talk {
    type Up = wire::SyncRequest;
    type Down = wire::SyncResponse;

    fn hear(&mut self, mut message: wire::SyncRequest) -> Result<(), Status> {
        let said = message.reporter.take();
        let session = match (&self.session, said) {
            (Some(known), None) => known,
            (Some(known), Some(said)) if said == known.reporter.wire => known,
            (Some(_), Some(_)) => {
                return Err(invalid("reporter is another one than at the beginning of the stream"));
            }
            (None, said) => self.session.insert(self.hub.sessions.begin(decode::reporter(said)?)),
        };
        let heard = decode::heard(message)?;
        self.hub.hear(session, heard);
        Ok(())
    }

    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<wire::SyncResponse> {
        let Some(session) = &self.session else { return Poll::Pending };
        let waiting = session.out.poll_take(TOGETHER, context);
        waiting.map(|all| wire::SyncResponse { directives: all.into_iter().map(|(_, told)| told).collect() })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            self.hub.end(session);
        }
    }
}
