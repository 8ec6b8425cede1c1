//! The conversation in single calls.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tollgate_proto::tollgate::v1 as proto;
use tonic::{Response, Status};

use super::book::Batch;
use super::key::FleetKey;
use super::link::{End, GAP, Link};
use crate::clock::{Clock, SystemClock};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);

impl Link {
    /// Reports until the server does not answer.
    pub(super) async fn report(&mut self) -> End {
        let mut not_before = Instant::now();
        loop {
            if let Some(end) = self.next(not_before).await {
                return end;
            }
            if Instant::now() < not_before {
                continue;
            }
            if let Err(status) = self.exchange().await {
                return End::Lost(status);
            }
            not_before = Instant::now() + GAP;
        }
    }

    /// One call for every message that is due, and one for every probe that is asked for.
    async fn exchange(&mut self) -> Result<(), Status> {
        loop {
            let now = SystemClock.now();
            let mut batch = self.book.due(now);
            // a report is what makes a server watch, if it only answers
            batch.watch.clear();
            batch.unwatch.clear();
            if batch.is_empty() {
                break;
            }
            self.book.claim_all(&mut batch, now);
            self.send(batch).await?;
        }
        for key in self.book.take_asks() {
            self.ask(&key).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: Batch) -> Result<(), Status> {
        self.greeted = true;
        self.stats.sent(batch.deltas.len());
        let Batch { deltas, claims, .. } = batch;
        let reporter = Some(self.reporter.clone());
        let request = proto::ReportOutcomesRequest { reporter, deltas, claims };
        let answer = within(self.service.report_outcomes(request)).await?;
        self.obey(proto::SyncResponse { directives: answer.directives });
        Ok(())
    }

    async fn ask(&mut self, key: &FleetKey) -> Result<(), Status> {
        self.stats.asked();
        let request =
            proto::AcquireProbeRequest { reporter: Some(self.reporter.clone()), key: Some(key.to_wire()) };
        let answer = within(self.service.acquire_probe(request)).await?;
        self.obey(proto::SyncResponse { directives: answer.directive.into_iter().collect() });
        Ok(())
    }
}

async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the server does not answer")),
    }
}
