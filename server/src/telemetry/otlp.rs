//! Metrics and traces for a collector, over OTLP (gRPC, or protobuf over HTTP).
//!
//! Messages are built here and not by the SDK of OpenTelemetry: what is counted lies in counters of our own, and
//! a collector is told exactly what the page shows. Whatever happens to the collector, no call waits for it: a
//! message that cannot be sent is superseded (metrics) or dropped and counted (traces).

mod client;
mod endpoint;
mod metrics;
mod resource;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tollgate_core::time::Time;

use self::client::{Client, Failure};
pub use self::endpoint::{Endpoint, Protocol, Target, headers, pairs};
pub use self::resource::Resource;
use super::metrics::{Export, ExportCounts, Metrics, Signal};
use super::trace::{Finished, TraceOptions, Tracer};
use crate::clock::{Clock as _, SystemClock};

/// Most traces in one message.
const BATCH: usize = 512;
/// A batch waits this long for more traces.
const GATHER: Duration = Duration::from_secs(1);
/// How often a batch is offered before it is dropped.
const ATTEMPTS: u32 = 5;
/// Time before the second attempt; it doubles.
const BACKOFF: Duration = Duration::from_secs(1);

/// What to send where.
#[derive(Clone, Debug)]
pub struct OtlpOptions {
    /// The collector.
    pub target: Target,
    /// Who we are.
    pub resource: Resource,
    /// How often metrics are sent; `None` is never.
    pub metrics_every: Option<Duration>,
    /// What is followed; `None` is nothing.
    pub traces: Option<TraceOptions>,
}

/// Sends metrics and traces to a collector.
#[derive(Debug)]
pub struct Exporter {
    target: Target,
    resource: Resource,
    metrics: Arc<Metrics>,
    metrics_every: Option<Duration>,
    traces: Option<Receiver<Finished>>,
}

impl Exporter {
    /// An exporter of what `metrics` counts, and the tracer whose traces it sends.
    #[must_use]
    pub fn new(options: OtlpOptions, metrics: Arc<Metrics>) -> (Exporter, Option<Tracer>) {
        let OtlpOptions { target, resource, metrics_every, traces } = options;
        let counts = metrics.counts().exports.clone();
        counts.used();
        let (tracer, traces) = traces.map(|options| Tracer::new(options, counts)).unzip();
        (Exporter { target, resource, metrics, metrics_every, traces }, tracer)
    }

    /// Sends until `stop` is cancelled; then what is left, which takes at most one timeout of the target.
    pub async fn run(self, stop: CancellationToken) {
        let Exporter { target, resource, metrics, metrics_every, traces } = self;
        let counts = metrics.counts().exports.clone();
        let figures = async {
            if let Some(every) = metrics_every {
                let link = Link::new(&target, counts.clone(), Signal::Metrics);
                Figures { link, metrics: metrics.clone(), resource: &resource }
                    .send_every(every, &stop)
                    .await;
            }
        };
        let spans = async {
            if let Some(traces) = traces {
                let link = Link::new(&target, counts.clone(), Signal::Traces);
                Spans { link, traces, resource: &resource }.send_all(&stop).await;
            }
        };
        tokio::join!(figures, spans);
    }
}

/// One signal's way to the collector; it says once that it fails, and once that it works again.
struct Link {
    client: Client,
    counts: ExportCounts,
    signal: Signal,
    fails: bool,
}

impl Link {
    fn new(target: &Target, counts: ExportCounts, signal: Signal) -> Link {
        Link { client: Client::new(target.clone()), counts, signal, fails: false }
    }

    async fn send(&mut self, message: &impl prost::Message) -> Result<(), Failure> {
        let sent = self.client.send(self.signal, message).await;
        let signal = self.signal.name();
        match &sent {
            Ok(rejected) => {
                self.counts.count(self.signal, Export::Sent);
                if self.fails {
                    tracing::info!(signal, "the collector takes telemetry again");
                }
                if let Some(rejected) = rejected.as_ref().filter(|_| !self.fails) {
                    tracing::debug!(signal, rejected, "the collector has rejected a part");
                }
            }
            Err(failure) => {
                self.counts.count(self.signal, Export::Failed);
                if !self.fails {
                    tracing::warn!(signal, error = failure.why, "the collector takes no telemetry");
                }
            }
        }
        self.fails = sent.is_err();
        sent.map(drop)
    }
}

struct Figures<'r> {
    link: Link,
    metrics: Arc<Metrics>,
    resource: &'r Resource,
}

impl Figures<'_> {
    async fn send_every(mut self, every: Duration, stop: &CancellationToken) {
        let since = unix_nanos();
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopped = tokio::select! {
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            let left = self.link.client.timeout();
            let sent = self.send(since);
            if stopped {
                let _in_time = timeout(left, sent).await;
                return;
            }
            tokio::select! {
                () = sent => {}
                // what is sent at the end is newer
                () = stop.cancelled() => {}
            }
        }
    }

    /// What is not taken is left out: the next message has it too.
    async fn send(&mut self, since: u64) {
        let metrics = self.metrics.clone();
        let resource = self.resource.clone();
        let made = tokio::task::spawn_blocking(move || metrics::messages(&metrics, &resource, since)).await;
        for message in made.unwrap_or_default() {
            if self.link.send(&message).await.is_err() {
                return;
            }
        }
    }
}

struct Spans<'r> {
    link: Link,
    traces: Receiver<Finished>,
    resource: &'r Resource,
}

impl Spans<'_> {
    async fn send_all(mut self, stop: &CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let more = tokio::select! {
                more = self.traces.recv() => more,
                () = stop.cancelled() => break,
            };
            let Some(first) = more else { return };
            batch.push(first);
            self.gather(&mut batch, stop).await;
            tokio::select! {
                () = self.offer(&mut batch) => {}
                () = stop.cancelled() => break,
            }
        }
        let left = self.link.client.timeout();
        if timeout(left, self.flush(&mut batch)).await.is_err() {
            self.drop_all(&batch);
        }
    }

    async fn gather(&mut self, batch: &mut Vec<Finished>, stop: &CancellationToken) {
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH {
            tokio::select! {
                more = self.traces.recv() => match more {
                    Some(trace) => batch.push(trace),
                    None => return,
                },
                () = tokio::time::sleep_until(until) => return,
                () = stop.cancelled() => return,
            }
        }
    }

    /// Sends the batch or drops it. Traces that come meanwhile wait in the queue, which is bounded.
    async fn offer(&mut self, batch: &mut Vec<Finished>) {
        let message = self.message(batch);
        let mut pause = BACKOFF;
        for attempt in 1..=ATTEMPTS {
            match self.link.send(&message).await {
                Ok(()) => return batch.clear(),
                Err(failure) if !failure.may_pass => break,
                Err(_) if attempt == ATTEMPTS => break,
                Err(_) => sleep(pause).await,
            }
            pause *= 2;
        }
        self.drop_all(batch);
        batch.clear();
    }

    /// Sends the batch and all that waits, each once.
    async fn flush(&mut self, batch: &mut Vec<Finished>) {
        loop {
            while batch.len() < BATCH
                && let Ok(trace) = self.traces.try_recv()
            {
                batch.push(trace);
            }
            if batch.is_empty() {
                return;
            }
            let message = self.message(batch);
            if self.link.send(&message).await.is_err() {
                self.drop_all(batch);
            }
            batch.clear();
        }
    }

    fn drop_all(&self, batch: &[Finished]) {
        self.link.counts.dropped(batch.len() as u64);
    }

    fn message(&self, batch: &[Finished]) -> ExportTraceServiceRequest {
        let spans = ResourceSpans {
            resource: Some(self.resource.message()),
            scope_spans: vec![spans::scope(batch)],
            schema_url: String::new(),
        };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }
}

/// Unix time in nanoseconds.
fn unix_nanos() -> u64 {
    nanos(SystemClock.now())
}

const fn nanos(time: Time) -> u64 {
    time.as_micros().saturating_mul(1_000)
}
