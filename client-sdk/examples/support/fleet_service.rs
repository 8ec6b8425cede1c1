//! The service itself: streams, and single calls.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tollgate_client::clock::{Clock, SystemClock};
use tollgate_proto::tollgate::v1 as proto;
use tollgate_proto::tollgate::v1::circuit_breakers_server::CircuitBreakers;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, FleetServer, Hub, mapping};

type Down<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl CircuitBreakers for FleetServer {
    type SyncStream = Down<proto::SyncResponse>;

    async fn sync(
        &self,
        request: Request<Streaming<proto::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (down, answers) = mpsc::unbounded_channel();
        let mut resets = self.0.resets.subscribe();
        resets.mark_unchanged();
        let (hub, up) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            let number = {
                let mut state = hub.lock();
                state.last += 1;
                state.last
            };
            let why = tokio::select! {
                end = listen(&hub, number, up, &down) => end.err(),
                _ = resets.changed() => Some(Status::unavailable("reset")),
            };
            hub.lock().streams.remove(&number);
            if let Some(why) = why {
                let _gone = down.send(Err(why));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }

    async fn report_outcomes(
        &self,
        request: Request<proto::ReportOutcomesRequest>,
    ) -> Result<Response<proto::ReportOutcomesResponse>, Status> {
        let proto::ReportOutcomesRequest { reporter, deltas, claims } = request.into_inner();
        let reporter = reporter.ok_or_else(|| Status::invalid_argument("reporter is missing"))?;
        let said = proto::SyncRequest { deltas, claims, ..Default::default() };
        let directives = self.0.hear(&reporter, &said)?;
        Ok(Response::new(proto::ReportOutcomesResponse { directives }))
    }

    async fn acquire_probe(
        &self,
        request: Request<proto::AcquireProbeRequest>,
    ) -> Result<Response<proto::AcquireProbeResponse>, Status> {
        let directive = self.0.ask(request.get_ref())?;
        Ok(Response::new(proto::AcquireProbeResponse { directive }))
    }

    async fn get_circuit(
        &self,
        request: Request<proto::GetCircuitRequest>,
    ) -> Result<Response<proto::Circuit>, Status> {
        let key = mapping::key_of(request.get_ref().key.as_ref().unwrap_or(&proto::CircuitKey::default()));
        let state = self.0.lock();
        let circuit = state.circuits.get(&key).ok_or_else(|| Status::not_found("nobody has reported"))?;
        let seen = circuit.snapshot(SystemClock.now());
        let local_faults = state.blamed.iter().cloned().collect();
        Ok(Response::new(mapping::circuit(&key, &seen, local_faults)))
    }

    async fn list_circuits(
        &self,
        _: Request<proto::ListCircuitsRequest>,
    ) -> Result<Response<proto::ListCircuitsResponse>, Status> {
        Err(Status::unimplemented("clients do not list"))
    }

    async fn set_override(
        &self,
        _: Request<proto::SetOverrideRequest>,
    ) -> Result<Response<proto::Circuit>, Status> {
        Err(Status::unimplemented("clients do not override"))
    }
}

/// Takes what comes up a stream.
async fn listen(
    hub: &Hub,
    number: u64,
    mut up: Streaming<proto::SyncRequest>,
    down: &Answers,
) -> Result<(), Status> {
    let mut reporter = None;
    while let Some(Ok(said)) = up.next().await {
        reporter = said.reporter.clone().or(reporter);
        let from = reporter.as_ref().ok_or_else(|| Status::invalid_argument("reporter is missing"))?;
        hub.lock().subscribe(number, from, &said, down);
        let directives = hub.hear(from, &said)?;
        hub.lock().send(down, directives);
    }
    Ok(())
}
