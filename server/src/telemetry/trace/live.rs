//! A request while it is followed.

use std::fmt;
use std::future::Future;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::random;
use super::told::{Attribute, Finished, Outcome, Part, Said};
use super::{Named, Tracer};
use crate::clock::{Clock as _, SystemClock};

tokio::task_local! {
    static CURRENT: Trace;
}

/// The trace of the request that is worked for, if it is followed.
#[must_use]
pub fn current() -> Option<Trace> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Begins a step of the request that is worked for; it ends when the answer is dropped. `None` if the request is
/// not followed, which costs one look at a thread's variable.
#[inline]
#[must_use]
pub fn step(name: &'static str) -> Option<Step> {
    CURRENT.try_with(|trace| trace.step(name)).ok()
}

/// A request that is followed.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    id: [u8; 16],
    span: [u8; 8],
    state: String,
    shows_values: bool,
    began: Began,
    parts: Mutex<Parts>,
}

/// One reading of each clock: all other times are distances from it.
struct Began {
    at: Instant,
    unix_nanos: u64,
}

struct Parts {
    server: Part,
    steps: Vec<Part>,
    /// Identifiers of the steps that are not over, the outermost first.
    open: Vec<[u8; 8]>,
}

/// The trace, and the caller's span.
pub(super) type Origin = ([u8; 16], Option<[u8; 8]>);

impl Trace {
    pub(super) fn begin((id, parent): Origin, state: &str, named: Named, shows_values: bool) -> Trace {
        let unix_nanos = SystemClock.now().as_micros().saturating_mul(1_000);
        let span = random::span_id();
        let attributes = named.attributes.iter();
        let server = Part {
            id: span,
            parent,
            name: named.span,
            began: unix_nanos,
            attributes: attributes.map(|(key, value)| Attribute { key, value: (*value).into() }).collect(),
            ..Part::default()
        };
        let parts = Mutex::new(Parts { server, steps: Vec::new(), open: Vec::new() });
        let began = Began { at: Instant::now(), unix_nanos };
        Trace(Arc::new(Inner { id, span, state: state.to_owned(), shows_values, began, parts }))
    }

    /// The trace's identifier.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.0.id
    }

    /// The identifier of the request's span.
    #[must_use]
    pub fn span(&self) -> [u8; 8] {
        self.0.span
    }

    /// Begins a step, inside the step that is open.
    #[must_use]
    pub fn step(&self, name: &'static str) -> Step {
        let part = Part { id: random::span_id(), name, began: self.now(), ..Part::default() };
        let mut parts = self.parts();
        let parent = parts.open.last().copied().or(Some(self.0.span));
        parts.open.push(part.id);
        drop(parts);
        Step { trace: self.clone(), part: Part { parent, ..part } }
    }

    /// Says something of the request.
    pub(in crate::telemetry) fn set(&self, key: &'static str, value: impl Into<Said>) {
        self.parts().server.attributes.push(Attribute { key, value: value.into() });
    }

    /// Says that the request failed.
    pub(in crate::telemetry) fn fail(&self, kind: &'static str) {
        self.set("error.type", kind);
        self.parts().server.outcome = Outcome::Failed;
    }

    /// Unix time in nanoseconds.
    fn now(&self) -> u64 {
        let nanos = u64::try_from(self.0.began.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.began.unix_nanos.saturating_add(nanos)
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) -> Finished {
        let ended = self.now();
        let mut parts = self.parts();
        let server = Part { ended, ..take(&mut parts.server) };
        Finished { trace: self.0.id, state: self.0.state.clone(), server, steps: take(&mut parts.steps) }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:032x})", u128::from_be_bytes(self.0.id))
    }
}

/// Part of the work for a request; it ends when this is dropped.
#[derive(Debug)]
pub struct Step {
    trace: Trace,
    part: Part,
}

impl Step {
    /// Says something of this step.
    pub(crate) fn set_text(&mut self, key: &'static str, text: &'static str) {
        self.part.attributes.push(Attribute { key, value: text.into() });
    }

    /// Says something of this step that has several values.
    pub(crate) fn set_texts(&mut self, key: &'static str, texts: Vec<String>) {
        self.part.attributes.push(Attribute { key, value: texts.into() });
    }

    /// Whether it may show what clients send.
    pub(crate) fn shows_values(&self) -> bool {
        self.trace.0.shows_values
    }

    /// Says that the step failed.
    pub(crate) fn fail(&mut self, kind: &'static str) {
        self.set_text("error.type", kind);
        self.part.outcome = Outcome::Failed;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let ended = self.trace.now();
        let part = Part { ended, ..take(&mut self.part) };
        let mut parts = self.trace.parts();
        parts.open.retain(|open| *open != part.id);
        parts.steps.push(part);
    }
}

/// A request that is followed until this is dropped.
#[derive(Debug)]
pub struct Live {
    trace: Trace,
    tracer: Tracer,
}

impl Live {
    pub(super) fn new(trace: Trace, tracer: Tracer) -> Live {
        Live { trace, tracer }
    }

    /// The request's trace.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Does `work` for the request: whatever it calls finds the trace.
    pub fn within<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.trace.clone(), work)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tracer.finish(self.trace.finish());
    }
}
