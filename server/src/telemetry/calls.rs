//! One call of a client: how long it takes, and its span.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::metrics::{Exemplar, HttpCall, Method, Metrics};
use super::trace::{Live, Named, Tracer};
use crate::clock::{Clock as _, SystemClock};

const RPC: &[(&str, &str)] = &[("rpc.system.name", "grpc")];
/// gRPC's number for a call that its caller has left.
const CANCELLED: usize = 1;
/// Statuses that mean that the server failed; the others are between the caller and the rules. By gRPC's number:
/// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const FAILURES: [usize; 6] = [2, 4, 12, 13, 14, 15];

/// Watches calls: the same for all of them.
#[derive(Clone, Debug)]
pub struct Calls {
    metrics: Arc<Metrics>,
    tracer: Option<Tracer>,
}

/// A gRPC call, from its headers to its status.
#[derive(Debug)]
pub struct RpcCall {
    calls: Arc<Calls>,
    method: Method,
    began: Option<Instant>,
    live: Option<Box<Live>>,
    status: usize,
}

/// An HTTP request, from its headers to those of the answer.
#[derive(Debug)]
pub struct WebCall<'c> {
    calls: &'c Calls,
    began: Option<Instant>,
    method: &'static str,
    route: &'static str,
    live: Option<Box<Live>>,
}

impl Calls {
    /// Counts in `metrics`, and follows some calls if there is a tracer.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, tracer: Option<Tracer>) -> Calls {
        Calls { metrics, tracer }
    }

    /// A gRPC call begins.
    #[inline]
    #[must_use]
    pub fn rpc(self: &Arc<Calls>, method: Method, headers: &HeaderMap) -> RpcCall {
        let named = || Named { span: method.name(), attributes: RPC };
        let live = self.tracer.as_ref().and_then(|tracer| tracer.begin(headers, named)).map(Box::new);
        if let Some(live) = &live {
            live.trace().set("rpc.method", method.name());
        }
        let began = self.metrics.times_calls().then(Instant::now);
        RpcCall { calls: self.clone(), method, began, live, status: CANCELLED }
    }

    /// An HTTP request begins.
    #[must_use]
    pub fn web(&self, method: &'static str, route: &'static str, headers: &HeaderMap) -> WebCall<'_> {
        let span = if route.is_empty() { method } else { route };
        let named = || Named { span, attributes: &[("url.scheme", "http")] };
        let live = self.tracer.as_ref().and_then(|tracer| tracer.begin(headers, named)).map(Box::new);
        let began = self.metrics.times_calls().then(Instant::now);
        WebCall { calls: self, began, method, route, live }
    }
}

impl RpcCall {
    /// The call as it is followed, if it is.
    #[must_use]
    pub fn live(&self) -> Option<&Live> {
        self.live.as_deref()
    }

    /// The call ends with gRPC's `status` when this is dropped; one that nobody says it of was left by its caller.
    pub fn ends(&mut self, status: usize) {
        self.status = status;
    }
}

impl Drop for RpcCall {
    fn drop(&mut self) {
        let live = self.live.as_deref();
        if let Some(live) = live {
            let name = super::metrics::status_name(self.status);
            live.trace().set("rpc.response.status_code", name);
            if FAILURES.contains(&self.status) {
                live.trace().fail(name);
            }
        }
        if let Some(began) = self.began {
            let took = began.elapsed();
            let example = live.map(|live| example_of(live, took));
            self.calls.metrics.called(self.method, self.status, took, example);
        }
    }
}

impl WebCall<'_> {
    /// The request as it is followed, if it is.
    #[must_use]
    pub fn live(&self) -> Option<&Live> {
        self.live.as_deref()
    }

    /// The request was answered with `status`.
    pub fn ends(self, status: u16) {
        if let Some(live) = &self.live {
            live.trace().set("http.request.method", self.method);
            live.trace().set("http.route", self.route);
            live.trace().set("http.response.status_code", status);
            if status >= 500 {
                live.trace().fail("5xx");
            }
        }
        let Some(began) = self.began else { return };
        let took = began.elapsed();
        let example = self.live.as_deref().map(|live| example_of(live, took));
        let call = HttpCall { method: self.method, route: self.route, status };
        self.calls.metrics.requested(call, took, example);
    }
}

fn example_of(live: &Live, took: Duration) -> Exemplar {
    Exemplar { trace: live.trace().id(), span: live.trace().span(), took, at: SystemClock.now() }
}
