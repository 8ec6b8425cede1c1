//! Traces: which requests are followed, and what is kept of them.
//!
//! Whether a request is followed is decided before anything is made for it: by the caller's `traceparent`, or by
//! chance. One that is not followed costs that decision; one that is carries a [`Trace`], which whoever works for
//! it finds by [`step`] and [`current`].

mod context;
mod live;
mod random;
mod sample;
mod told;

use http::HeaderMap;
use tokio::sync::mpsc::{Receiver, Sender, channel};

pub use self::context::Parent;
pub use self::live::{Live, Step, Trace, current, step};
pub use self::sample::Sampler;
pub(super) use self::told::{Finished, Outcome, Part, Said};
use super::metrics::ExportCounts;

/// Headers of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Most bytes of a `tracestate` that are passed on: what every implementation has to carry.
const MAX_STATE: usize = 512;

/// What one kind of request is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Named {
    /// Name of the span.
    pub span: &'static str,
    /// Attributes that all such spans have.
    pub attributes: &'static [(&'static str, &'static str)],
}

/// Follows requests, and hands what it has seen to the exporter.
#[derive(Clone, Debug)]
pub struct Tracer {
    sampler: Sampler,
    finished: Sender<Finished>,
    counts: ExportCounts,
    shows_values: bool,
}

/// How to follow requests.
#[derive(Clone, Copy, Debug)]
pub struct TraceOptions {
    /// Which ones.
    pub sampler: Sampler,
    /// Most traces that wait for the exporter; more are dropped and counted.
    pub queue: usize,
    /// Spans show the values of descriptors.
    pub shows_values: bool,
}

impl Tracer {
    /// A tracer, and where its traces come out.
    pub(super) fn new(options: TraceOptions, counts: ExportCounts) -> (Tracer, Receiver<Finished>) {
        let (finished, traces) = channel(options.queue.max(1));
        let TraceOptions { sampler, shows_values, .. } = options;
        (Tracer { sampler, finished, counts, shows_values }, traces)
    }

    /// Follows a request with these headers, if it is to be followed.
    #[inline]
    pub fn begin(&self, headers: &HeaderMap, named: impl FnOnce() -> Named) -> Option<Live> {
        let parent = headers.get(TRACEPARENT).and_then(|text| Parent::read(text.as_bytes()));
        let low = self.sampler.picks(parent.as_ref(), random::next)?;
        Some(self.follow(parent, low, headers, named()))
    }

    #[cold]
    fn follow(&self, parent: Option<Parent>, low: u64, headers: &HeaderMap, named: Named) -> Live {
        let id = parent.as_ref().map_or_else(|| random::trace_id(low), |parent| parent.trace);
        let state = parent.as_ref().and_then(|_| headers.get(TRACESTATE)?.to_str().ok());
        let state = state.filter(|state| state.len() <= MAX_STATE).unwrap_or_default();
        let trace = Trace::begin((id, parent.map(|parent| parent.span)), state, named, self.shows_values);
        Live::new(trace, self.clone())
    }

    fn finish(&self, finished: Finished) {
        if self.finished.try_send(finished).is_err() {
            self.counts.dropped(1);
        }
    }
}

#[cfg(test)]
mod tests;
