//! What is counted besides decisions: requests, connections, loads of rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tollgate_core::time::Time;

use crate::telemetry::meter::{Striped, Stripes};

/// Where a request came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Api {
    /// Envoy's gRPC.
    Rls,
    /// `POST /json`.
    Json,
    /// `/auth/…`.
    Auth,
    /// The native API: one call, one check.
    Check,
    /// The native API's stream.
    CheckStream,
    /// `/v1/check`.
    HttpCheck,
    /// The native API's leases.
    Lease,
}

/// What a request was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answered {
    /// It may go on.
    Ok,
    /// It was refused.
    OverLimit,
    /// It could not be decided.
    Error(ErrorKind),
}

/// Why a request could not be decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// The request makes no sense, or no rules are loaded: the reference's `service_error`.
    Service,
    /// The store could not answer: the reference's `redis_error`.
    Store,
    /// It could not be read: the reference does not count it.
    Malformed,
    /// Its domain is not bound to the caller.
    Forbidden,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionKind {
    /// gRPC.
    Grpc,
    /// The HTTP port.
    Http,
}

const APIS: [(Api, &str); 7] = [
    (Api::Rls, "rls"),
    (Api::Json, "json"),
    (Api::Auth, "auth"),
    (Api::Check, "check"),
    (Api::CheckStream, "check_stream"),
    (Api::HttpCheck, "http_check"),
    (Api::Lease, "lease"),
];
const ANSWERS: [(Answered, &str); 6] = [
    (Answered::Ok, "ok"),
    (Answered::OverLimit, "over_limit"),
    (Answered::Error(ErrorKind::Service), "service_error"),
    (Answered::Error(ErrorKind::Store), "store_error"),
    (Answered::Error(ErrorKind::Malformed), "malformed"),
    (Answered::Error(ErrorKind::Forbidden), "forbidden"),
];
const KINDS: [(ConnectionKind, &str); 2] = [(ConnectionKind::Grpc, "grpc"), (ConnectionKind::Http, "http")];

impl Answered {
    fn place(self) -> usize {
        match self {
            Answered::Ok => 0,
            Answered::OverLimit => 1,
            Answered::Error(ErrorKind::Service) => 2,
            Answered::Error(ErrorKind::Store) => 3,
            Answered::Error(ErrorKind::Malformed) => 4,
            Answered::Error(ErrorKind::Forbidden) => 5,
        }
    }
}

/// Requests by API and answer.
#[derive(Debug)]
pub(in crate::telemetry) struct Requests(Striped<{ APIS.len() * ANSWERS.len() }>);

/// How often one kind of request was answered in one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::telemetry) struct Requested {
    pub(in crate::telemetry) api: Api,
    pub(in crate::telemetry) answered: Answered,
    pub(in crate::telemetry) times: u64,
}

impl Requests {
    pub(super) fn new(stripes: Stripes) -> Requests {
        Requests(Striped::new(stripes))
    }

    #[inline]
    pub(super) fn count(&self, api: Api, answered: Answered, times: u64) {
        self.0.add(api as usize * ANSWERS.len() + answered.place(), times);
    }

    pub(in crate::telemetry) fn all(&self) -> impl Iterator<Item = Requested> {
        let sums = self.0.sums();
        let pairs =
            APIS.iter().flat_map(|(api, _)| ANSWERS.iter().map(move |(answered, _)| (*api, *answered)));
        pairs.zip(sums).map(|((api, answered), times)| Requested { api, answered, times })
    }
}

impl Requested {
    pub(in crate::telemetry) fn api_name(&self) -> &'static str {
        APIS[self.api as usize].1
    }

    pub(in crate::telemetry) fn result_name(&self) -> &'static str {
        ANSWERS[self.answered.place()].1
    }
}

/// Upper bounds of the buckets, in microseconds: Prometheus' defaults, 5 ms to 10 s.
const BOUNDS: [u64; 11] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];
const SUM: usize = BOUNDS.len() + 1;

/// Durations by size.
#[derive(Debug)]
pub(in crate::telemetry) struct Durations {
    counters: Striped<{ SUM + 1 }>,
    unit: Unit,
}

/// What the reference's histogram counts in, whatever its name says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// A histogram, ready to be shown.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Histogram {
    /// Upper bound, and how many were not above it.
    pub(in crate::telemetry) buckets: Vec<(f64, u64)>,
    pub(in crate::telemetry) count: u64,
    pub(in crate::telemetry) sum: f64,
}

impl Durations {
    pub(super) fn new(unit: Unit, stripes: Stripes) -> Durations {
        Durations { counters: Striped::new(stripes), unit }
    }

    /// With milliseconds, the buckets stay as they are named: a "5" is then 5 ms.
    fn micros_per_unit(&self) -> u64 {
        match self.unit {
            Unit::Seconds => 1_000_000,
            Unit::Milliseconds => 1_000,
        }
    }

    pub(super) fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let scaled = micros.saturating_mul(1_000_000 / self.micros_per_unit());
        let bucket = BOUNDS.iter().position(|bound| scaled <= *bound).unwrap_or(BOUNDS.len());
        self.counters.add(bucket, 1);
        self.counters.add(SUM, micros);
    }

    pub(in crate::telemetry) fn histogram(&self) -> Histogram {
        let sums = self.counters.sums();
        let mut count = 0;
        let buckets = BOUNDS.iter().zip(&sums).map(|(bound, fitting)| {
            count += fitting;
            (*bound as f64 / 1e6, count)
        });
        let buckets = buckets.collect();
        let count = count + sums[BOUNDS.len()];
        Histogram { buckets, count, sum: sums[SUM] as f64 / self.micros_per_unit() as f64 }
    }
}

/// Something open, and how many of its kind are.
#[derive(Debug)]
pub struct Open(Arc<AtomicU64>);

impl Open {
    fn one_more(count: &Arc<AtomicU64>) -> Open {
        count.fetch_add(1, Relaxed);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What is open now.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Opened {
    connections: [Arc<AtomicU64>; KINDS.len()],
    held: Arc<AtomicU64>,
}

impl Opened {
    pub(super) fn connection(&self, kind: ConnectionKind) -> Open {
        Open::one_more(&self.connections[kind as usize])
    }

    pub(super) fn held(&self) -> Open {
        Open::one_more(&self.held)
    }

    pub(in crate::telemetry) fn connections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().zip(&self.connections).map(|((_, name), open)| (*name, open.load(Relaxed)))
    }

    pub(in crate::telemetry) fn held_now(&self) -> u64 {
        self.held.load(Relaxed)
    }
}

/// A set of rules that was put in force.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Loaded {
    /// When.
    pub at: Time,
    /// Its rules.
    pub rules: usize,
    /// Its domains.
    pub domains: usize,
    /// Its warnings.
    pub warnings: usize,
}

/// Loads of rules.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Loads {
    pub(in crate::telemetry) good: AtomicU64,
    pub(in crate::telemetry) bad: AtomicU64,
    last_was_bad: AtomicBool,
    pub(in crate::telemetry) at_micros: AtomicU64,
    pub(in crate::telemetry) rules: AtomicU64,
    pub(in crate::telemetry) domains: AtomicU64,
    pub(in crate::telemetry) warnings: AtomicU64,
}

impl Loads {
    pub(super) fn succeeded(&self, loaded: Loaded) {
        self.good.fetch_add(1, Relaxed);
        self.last_was_bad.store(false, Relaxed);
        self.at_micros.store(loaded.at.as_micros(), Relaxed);
        self.rules.store(loaded.rules as u64, Relaxed);
        self.domains.store(loaded.domains as u64, Relaxed);
        self.warnings.store(loaded.warnings as u64, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.bad.fetch_add(1, Relaxed);
        self.last_was_bad.store(true, Relaxed);
    }

    /// Whether the last load was good; `None` before the first.
    pub(in crate::telemetry) fn last_ok(&self) -> Option<bool> {
        let any = self.good.load(Relaxed) + self.bad.load(Relaxed) > 0;
        any.then(|| !self.last_was_bad.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripes() -> Stripes {
        Stripes::for_threads(2)
    }

    #[test]
    fn every_kind_of_request_has_its_own_counter() {
        let requests = Requests::new(stripes());
        for (api, _) in APIS {
            for (answered, _) in ANSWERS {
                requests.count(api, answered, 1);
            }
        }
        assert!(requests.all().all(|requested| requested.times == 1));
        requests.count(Api::Auth, Answered::Error(ErrorKind::Store), 1);
        let most = requests.all().max_by_key(|requested| requested.times).unwrap();
        assert_eq!((most.api_name(), most.result_name(), most.times), ("auth", "store_error", 2));
    }

    #[test]
    fn durations_fall_into_cumulative_buckets() {
        let durations = Durations::new(Unit::Seconds, stripes());
        for millis in [1, 5, 6, 20_000] {
            durations.count(Duration::from_millis(millis));
        }
        let histogram = durations.histogram();
        assert_eq!(histogram.buckets[..2], [(0.005, 2), (0.01, 3)]);
        assert_eq!(histogram.buckets.last(), Some(&(10.0, 3)));
        assert_eq!((histogram.count, histogram.sum), (4, 20.012));
    }

    #[test]
    fn durations_in_milliseconds_keep_the_bounds() {
        let durations = Durations::new(Unit::Milliseconds, stripes());
        durations.count(Duration::from_micros(700));
        durations.count(Duration::from_millis(3));
        let histogram = durations.histogram();
        assert_eq!(histogram.buckets.iter().find(|(bound, _)| *bound == 1.0), Some(&(1.0, 1)));
        assert_eq!((histogram.count, histogram.sum), (2, 3.7));
    }

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let opened = Opened::default();
        let connection = opened.connection(ConnectionKind::Http);
        let _held = opened.held();
        assert_eq!(opened.connections().collect::<Vec<_>>(), [("grpc", 0), ("http", 1)]);
        assert_eq!(opened.held_now(), 1);
        drop(connection);
        assert!(opened.connections().all(|(_, open)| open == 0));
    }

    #[test]
    fn nothing_is_said_of_loads_before_the_first() {
        let loads = Loads::default();
        assert_eq!(loads.last_ok(), None);
        loads.failed();
        assert_eq!(loads.last_ok(), Some(false));
        loads.succeeded(Loaded::default());
        assert_eq!(loads.last_ok(), Some(true));
    }
}
