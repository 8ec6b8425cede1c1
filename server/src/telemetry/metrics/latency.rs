//! How long calls and the store take, by the semantic conventions of OpenTelemetry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tollgate_core::time::Time;

use crate::store::Fault;
use crate::telemetry::meter::{Striped, Stripes};

/// Upper bounds of the buckets in microseconds. The conventions advise 5 ms to 10 s; most of our calls are faster
/// than the first of these.
pub(in crate::telemetry) const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
const SUM: usize = BOUNDS.len() + 1;

/// One histogram.
#[derive(Debug)]
pub(in crate::telemetry) struct Histogram {
    counters: Striped<{ SUM + 1 }>,
    exemplar: Mutex<Option<Exemplar>>,
}

/// The last followed request of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::telemetry) struct Exemplar {
    pub(in crate::telemetry) trace: [u8; 16],
    pub(in crate::telemetry) span: [u8; 8],
    pub(in crate::telemetry) took: Duration,
    pub(in crate::telemetry) at: Time,
}

/// A histogram as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Reading {
    /// How many fell into each bucket; the last one has no upper bound.
    pub(in crate::telemetry) buckets: [u64; BOUNDS.len() + 1],
    pub(in crate::telemetry) sum_seconds: f64,
    pub(in crate::telemetry) exemplar: Option<Exemplar>,
}

impl Histogram {
    fn new(stripes: Stripes) -> Histogram {
        Histogram { counters: Striped::new(stripes), exemplar: Mutex::default() }
    }

    fn count(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= bound * 1_000).unwrap_or(BOUNDS.len());
        self.counters.add(bucket, 1);
        self.counters.add(SUM, nanos);
    }

    fn exemplify(&self, exemplar: Exemplar) {
        *self.exemplar.lock().unwrap_or_else(PoisonError::into_inner) = Some(exemplar);
    }

    pub(in crate::telemetry) fn read(&self) -> Reading {
        let sums = self.counters.sums();
        let mut buckets = [0; BOUNDS.len() + 1];
        buckets.copy_from_slice(&sums[..=BOUNDS.len()]);
        let exemplar = *self.exemplar.lock().unwrap_or_else(PoisonError::into_inner);
        Reading { buckets, sum_seconds: sums[SUM] as f64 / 1e9, exemplar }
    }
}

impl Reading {
    pub(in crate::telemetry) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Every gRPC method of this server, as `package.Service/Method`.
pub(in crate::telemetry) const METHODS: [&str; 24] = [
    "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    "tollgate.v1.RateLimiter/Check",
    "tollgate.v1.RateLimiter/CheckStream",
    "tollgate.v1.RateLimiter/Lease",
    "tollgate.v1.RateLimiter/ReturnLease",
    "tollgate.v1.CircuitBreakers/Sync",
    "tollgate.v1.CircuitBreakers/ReportOutcomes",
    "tollgate.v1.CircuitBreakers/AcquireProbe",
    "tollgate.v1.CircuitBreakers/GetCircuit",
    "tollgate.v1.CircuitBreakers/ListCircuits",
    "tollgate.v1.CircuitBreakers/SetOverride",
    "tollgate.v1.Admin/ResetKey",
    "tollgate.v1.Admin/ReadKey",
    "tollgate.v1.Peers/Relay",
    "tollgate.v1.Peers/ReportOwnOutcomes",
    "tollgate.v1.Peers/AcquireOwnProbe",
    "tollgate.v1.Peers/GetOwnCircuit",
    "tollgate.v1.Peers/ListOwnCircuits",
    "tollgate.v1.Peers/SetOwnOverride",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "_OTHER",
];
/// The methods that answer with a stream: they last as long as it does.
const STREAMS: [usize; 6] = [2, 5, 13, 20, 21, 22];
const OTHER: usize = METHODS.len() - 1;

/// Names of gRPC's status codes, by number.
pub(in crate::telemetry) const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A gRPC method of this server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Method(usize);

impl Method {
    /// Envoy's question.
    pub const SHOULD_RATE_LIMIT: Method = Method(0);

    /// The method that a request's path names; whatever we do not have is one and the same.
    #[must_use]
    pub fn of(path: &str) -> Method {
        let name = path.strip_prefix('/').unwrap_or_default();
        Method(METHODS[..OTHER].iter().position(|method| *method == name).unwrap_or(OTHER))
    }

    /// `package.Service/Method`
    #[must_use]
    pub fn name(self) -> &'static str {
        METHODS[self.0]
    }

    /// Whether the answer is a stream.
    #[must_use]
    pub fn streams(self) -> bool {
        STREAMS.contains(&self.0)
    }
}

/// What an HTTP request was, and how it was answered.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct HttpCall {
    /// Its method, or `_OTHER`.
    pub method: &'static str,
    /// The route that it met, or nothing.
    pub route: &'static str,
    /// The status that it got, 100 to 999.
    pub status: u16,
}

/// Whether the store answered.
const ANSWERED: &str = "ok";

/// All histograms.
#[derive(Debug)]
pub(in crate::telemetry) struct Latencies {
    stripes: Stripes,
    /// By method and status.
    rpc: Box<[OnceLock<Histogram>]>,
    /// As many as there are routes and statuses: both come from closed lists.
    http: RwLock<BTreeMap<HttpCall, Arc<Histogram>>>,
    /// Whether it answered, and the fault if not.
    store: [OnceLock<Histogram>; Fault::ALL.len() + 1],
}

impl Latencies {
    pub(super) fn new(stripes: Stripes) -> Latencies {
        let rpc = (0..METHODS.len() * STATUSES.len()).map(|_| OnceLock::new()).collect();
        Latencies { stripes, rpc, http: RwLock::default(), store: Default::default() }
    }

    fn rpc_cell(&self, method: Method, status: usize) -> &Histogram {
        // a status that gRPC does not know is UNKNOWN
        let status = if status < STATUSES.len() { status } else { 2 };
        self.rpc[method.0 * STATUSES.len() + status].get_or_init(|| Histogram::new(self.stripes))
    }

    pub(super) fn called(&self, method: Method, status: usize, took: Duration, example: Option<Exemplar>) {
        let histogram = self.rpc_cell(method, status);
        histogram.count(took);
        if let Some(example) = example {
            histogram.exemplify(example);
        }
    }

    pub(super) fn requested(&self, call: HttpCall, took: Duration, example: Option<Exemplar>) {
        let there = self.http.read().unwrap_or_else(PoisonError::into_inner).get(&call).cloned();
        let histogram = there.unwrap_or_else(|| {
            let mut http = self.http.write().unwrap_or_else(PoisonError::into_inner);
            http.entry(call).or_insert_with(|| Arc::new(Histogram::new(self.stripes))).clone()
        });
        histogram.count(took);
        if let Some(example) = example {
            histogram.exemplify(example);
        }
    }

    pub(super) fn stored(&self, fault: Option<Fault>, took: Duration) {
        let place = fault.map_or(0, |fault| fault as usize + 1);
        self.store[place].get_or_init(|| Histogram::new(self.stripes)).count(took);
    }

    pub(in crate::telemetry) fn rpc(&self) -> impl Iterator<Item = (&'static str, &'static str, Reading)> {
        self.rpc.iter().enumerate().filter_map(|(place, cell)| {
            let (method, status) = (place / STATUSES.len(), place % STATUSES.len());
            Some((METHODS[method], STATUSES[status], cell.get()?.read()))
        })
    }

    pub(in crate::telemetry) fn http(&self) -> Vec<(HttpCall, Reading)> {
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner);
        http.iter().map(|(call, histogram)| (*call, histogram.read())).collect()
    }

    pub(in crate::telemetry) fn store(&self) -> impl Iterator<Item = (&'static str, Reading)> {
        let names = [ANSWERED].into_iter().chain(Fault::ALL.into_iter().map(Fault::name));
        names.zip(&self.store).filter_map(|(name, cell)| Some((name, cell.get()?.read())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_by_its_path() {
        let path = |method: &str| format!("/{method}");
        for name in &METHODS[..OTHER] {
            assert_eq!(Method::of(&path(name)).name(), *name);
        }
        assert_eq!(Method::of("/any.Thing/At"), Method(OTHER));
        assert_eq!(Method::of(""), Method(OTHER));
        assert_eq!(Method::of(&path(METHODS[0])), Method::SHOULD_RATE_LIMIT);
    }

    #[test]
    fn the_methods_that_stream_are_those() {
        let streams: Vec<_> = METHODS.iter().filter(|name| Method::of(&path_of(name)).streams()).collect();
        let ends = ["CheckStream", "Sync", "Relay", "Watch", "ReflectionInfo", "ReflectionInfo"];
        assert_eq!(streams.len(), ends.len());
        assert!(streams.iter().zip(ends).all(|(name, end)| name.ends_with(end)), "{streams:?}");
    }

    fn path_of(name: &str) -> String {
        format!("/{name}")
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let latencies = Latencies::new(Stripes::for_threads(2));
        for micros in [100, 101, 20_000_000] {
            latencies.called(Method::SHOULD_RATE_LIMIT, 0, Duration::from_micros(micros), None);
        }
        latencies.called(Method::SHOULD_RATE_LIMIT, 99, Duration::from_micros(1), None);
        let all: Vec<_> = latencies.rpc().collect();
        assert_eq!(all.len(), 2);
        let (_, status, ok) = &all[0];
        assert_eq!((*status, ok.count()), ("OK", 3));
        assert_eq!((ok.buckets[0], ok.buckets[1], ok.buckets[BOUNDS.len()]), (1, 1, 1));
        assert!((ok.sum_seconds - 20.000_201).abs() < 1e-9);
        assert_eq!((all[1].1, all[1].2.count()), ("UNKNOWN", 1));
    }

    #[test]
    fn the_store_is_timed_by_what_came_of_it() {
        let latencies = Latencies::new(Stripes::for_threads(1));
        latencies.stored(None, Duration::from_micros(300));
        latencies.stored(Some(Fault::Timeout), Duration::from_millis(20));
        let names: Vec<_> = latencies.store().map(|(name, reading)| (name, reading.count())).collect();
        assert_eq!(names, [("ok", 1), (Fault::Timeout.name(), 1)]);
    }
}
