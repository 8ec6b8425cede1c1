//! Everything that is counted.

mod console;
mod event;
mod exports;
mod fallbacks;
mod known;
mod latency;
mod leases;
mod meters;
mod naming;
mod ports;
mod series;
mod serving;
mod split;
mod watched;
mod xds;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tollgate_core::limit::Cost;
use tollgate_core::rules::{Decision, Descriptor, Hit, Matcher, Outcome, Query, Rule, RuleRef};

pub use self::console::{FallenBack, RuleUse, Totals};
use self::event::Event;
pub use self::exports::ExportCounts;
pub(super) use self::exports::{Export, Signal};
use self::fallbacks::Fallbacks;
pub(super) use self::latency::{BOUNDS, Exemplar, Latencies, Reading};
pub use self::latency::{HttpCall, Method};
use self::leases::Leases;
pub use self::leases::{LeaseResult, ReturnResult};
pub use self::meters::Meters;
use self::meters::Missed;
pub(super) use self::meters::{Path, Registry};
pub use self::ports::PortFigures;
pub(super) use self::series::{Series, UnknownDomains};
use self::serving::Unit;
pub use self::serving::{Answered, Api, ConnectionKind, ErrorKind, Loaded, Open};
pub(super) use self::serving::{Durations, Loads, Opened, Requests};
use self::split::NearRatio;
use super::hot::HotKeys;
use super::log::Refusals;
use super::meter::{Striped, Stripes};
use super::page::Page;
pub(super) use crate::breaker::BreakerFigures as BreakerSeries;
use crate::config::ruleset::Ruleset;
use crate::overload::OverloadFigures;
use crate::store::{Fault, Replies, Store};

/// How to count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricOptions {
    /// Share of a limit from which hits count as near it.
    pub near_limit_ratio: f32,
    /// The page also has the reference's names.
    pub reference_names: bool,
    /// Threads that decide.
    pub stripes: usize,
    /// The reference's response time counts milliseconds.
    pub response_time_as_milliseconds: bool,
}

/// All counters of the process, and the page that shows them.
#[derive(Debug)]
pub struct Metrics {
    counts: Arc<Counts>,
    hot: HotKeys,
    page: Page,
}

/// All counters of the process.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) registry: Registry,
    /// Only if the reference's names are served.
    pub(super) series: Option<Series>,
    pub(super) unknown_domains: UnknownDomains,
    /// Requests that only the global shadow mode let pass.
    pub(super) shadowed: Striped<1>,
    pub(super) fallbacks: Fallbacks,
    pub(super) leases: Leases,
    pub(super) requests: Requests,
    pub(super) durations: Durations,
    pub(super) opened: Opened,
    pub(super) loads: Loads,
    pub(super) watched: Watched,
    /// Only if calls are timed.
    pub(super) latencies: OnceLock<Latencies>,
    pub(super) exports: ExportCounts,
    /// Only if refusals are logged.
    refusals: OnceLock<Refusals>,
    stripes: Stripes,
    near: NearRatio,
}

/// What others count: shown once they say where.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) store: OnceLock<Arc<dyn Store>>,
    pub(super) authorities: OnceLock<Box<dyn Fn() -> Authorities + Send + Sync>>,
    pub(super) ports: OnceLock<Box<dyn Fn() -> [PortFigures; 3] + Send + Sync>>,
    pub(super) breakers: OnceLock<Box<dyn Fn() -> BreakerSeries + Send + Sync>>,
    pub(super) overload: OnceLock<Box<dyn Fn() -> OverloadFigures + Send + Sync>>,
    pub(super) xds: OnceLock<xds::Read>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = self.store.get().map(|store| store.usage());
        let authorities = self.authorities.get().map(|read| read());
        f.debug_struct("Watched")
            .field("usage", &usage)
            .field("authorities", &authorities)
            .finish_non_exhaustive()
    }
}

/// How often the transport had to do something about an `:authority` that h2 would refuse.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Authorities {
    /// Header blocks in which one was replaced.
    pub mended: u64,
    /// Header blocks written anew.
    pub reencoded: u64,
    /// Connections that could not be followed.
    pub stopped: u64,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(options: MetricOptions) -> Metrics {
        let counts = Arc::new(Counts::new(options));
        let page = Page::new(&counts);
        let hot = HotKeys::new(Stripes::for_threads(options.stripes));
        Metrics { counts, hot, page }
    }

    /// The counters for the rules of `matcher`; a rule that was there before keeps its counts.
    #[must_use]
    pub fn meters(&self, matcher: &Matcher) -> Meters {
        self.counts.registry.meters(matcher, self.counts.series.as_ref())
    }

    /// Counts one decision.
    pub fn decided(&self, rules: &Ruleset, query: &Query<'_>, decision: &Decision<'_>) {
        self.counts.decided(rules.meters(), query, decision);
        if !decision.allowed()
            && let Some(refusals) = self.counts.refusals.get()
        {
            refusals.refused(query, decision);
        }
        self.hot.decided(query, decision);
    }

    /// Counts what was replied to hits that the store had no answer for.
    pub fn fell_back(&self, hits: &[Hit<'_>], before: &Replies, after: &Replies) {
        for ((hit, before), after) in hits.iter().zip(before).zip(after) {
            if let Err(fault) = before {
                self.counts.fallbacks.count(hit, *fault, after.as_ref().ok());
            }
        }
    }

    /// Counts one request for a lease and the tokens that it got.
    pub fn leased(&self, result: LeaseResult, tokens: u64) {
        self.counts.leases.leased(result, tokens);
    }

    /// Counts one lease that was given back and the tokens that came back with it.
    pub fn lease_returned(&self, result: ReturnResult, tokens: u64) {
        self.counts.leases.returned(result, tokens);
    }

    /// Counts one request. A request that a [`Metrics::rls_error`] ended is counted there.
    #[inline]
    pub fn request(&self, api: Api, answered: Answered) {
        self.requests(api, answered, 1);
    }

    /// Counts as many requests that were answered alike.
    #[inline]
    pub fn requests(&self, api: Api, answered: Answered, times: u64) {
        self.counts.requests.count(api, answered, times);
    }

    /// Counts one gRPC request that ended in an error.
    pub fn rls_error(&self, kind: ErrorKind) {
        self.request(Api::Rls, Answered::Error(kind));
    }

    /// Whether anybody wants to know how long requests take. If not, no clock need be read.
    #[must_use]
    pub fn wants_response_time(&self) -> bool {
        self.counts.series.is_some()
    }

    /// Counts how long one gRPC request took.
    pub fn response_time(&self, took: Duration) {
        self.counts.durations.count(took);
    }

    /// Writes from now on so many refusals per second to the log.
    pub fn log_refusals(&self, per_second: u32) {
        self.counts.refusals.get_or_init(|| Refusals::new(per_second, self.counts.stripes));
    }

    /// Times calls and the store from now on.
    pub fn time_calls(&self) {
        self.counts.latencies.get_or_init(|| Latencies::new(self.counts.stripes));
    }

    /// Whether calls are timed. If not, no clock need be read.
    #[inline]
    #[must_use]
    pub fn times_calls(&self) -> bool {
        self.counts.latencies.get().is_some()
    }

    /// Counts how long a gRPC call took.
    pub(super) fn called(&self, method: Method, status: usize, took: Duration, example: Option<Exemplar>) {
        if let Some(latencies) = self.counts.latencies.get() {
            latencies.called(method, status, took, example);
        }
    }

    /// Counts how long an HTTP request took.
    pub(super) fn requested(&self, call: HttpCall, took: Duration, example: Option<Exemplar>) {
        if let Some(latencies) = self.counts.latencies.get() {
            latencies.requested(call, took, example);
        }
    }

    /// Counts how long a store took that had to be waited for, by the first fault of its replies.
    pub fn stored(&self, fault: Option<Fault>, took: Duration) {
        if let Some(latencies) = self.counts.latencies.get() {
            latencies.stored(fault, took);
        }
    }

    /// Counts rules that were put in force.
    pub fn config_loaded(&self, loaded: Loaded) {
        self.counts.loads.succeeded(loaded);
    }

    /// Counts rules that could not be loaded.
    pub fn config_failed(&self) {
        self.counts.loads.failed();
    }

    /// Counts a connection as open until the answer is dropped.
    #[must_use]
    pub fn connected(&self, kind: ConnectionKind) -> Open {
        self.counts.opened.connection(kind)
    }

    /// Counts a request as waiting for its turn until the answer is dropped.
    #[must_use]
    pub fn holding(&self) -> Open {
        self.counts.opened.held()
    }

    /// Open connections by kind.
    pub fn connections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.opened.connections()
    }

    /// Requests that wait for their turn.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.counts.opened.held_now()
    }

    /// Descriptors of domains that no file names, by domain: at most a hundred, the rest as `other`.
    #[must_use]
    pub fn unknown_domains(&self) -> Vec<(Box<str>, u64)> {
        self.counts.unknown_domains.all()
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    pub(super) fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.page.families()
    }

    /// The keys that are asked about and refused most.
    #[must_use]
    pub fn hot(&self) -> &HotKeys {
        &self.hot
    }

    /// The metrics page. With many rules this takes milliseconds: call it where it can block.
    #[must_use]
    pub fn render(&self) -> String {
        self.page.render()
    }
}

impl Counts {
    fn new(options: MetricOptions) -> Counts {
        let stripes = Stripes::for_threads(options.stripes);
        let unit = if options.response_time_as_milliseconds { Unit::Milliseconds } else { Unit::Seconds };
        Counts {
            registry: Registry::new(stripes),
            series: options.reference_names.then(|| Series::new(stripes)),
            unknown_domains: UnknownDomains::new(stripes),
            shadowed: Striped::new(stripes),
            fallbacks: Fallbacks::default(),
            leases: Leases::new(stripes),
            requests: Requests::new(stripes),
            durations: Durations::new(unit, stripes),
            opened: Opened::default(),
            loads: Loads::default(),
            watched: Watched::default(),
            latencies: OnceLock::new(),
            exports: ExportCounts::default(),
            refusals: OnceLock::new(),
            stripes,
            near: NearRatio(options.near_limit_ratio),
        }
    }

    fn decided(&self, meters: &Meters, query: &Query<'_>, decision: &Decision<'_>) {
        for (descriptor, outcome) in query.descriptors.iter().zip(&decision.outcomes) {
            self.came_out(meters, Asked { query, descriptor }, outcome);
        }
        if decision.shadowed {
            self.shadowed.add(0, 1);
        }
    }

    #[inline]
    fn came_out(&self, meters: &Meters, asked: Asked<'_, '_>, outcome: &Outcome<'_>) {
        let domain = asked.query.domain;
        match outcome {
            Outcome::Decided { rule, ask, answer, status, .. } => {
                let event = Event::of(*ask, answer, *status, self.near);
                match rule {
                    RuleRef::Configured(rule) => self.count(meters, rule, asked, event),
                    RuleRef::Override(_) => meters.overridden(domain, event),
                }
            }
            Outcome::Unlimited(rule) => self.count(meters, rule, asked, Event::unlimited(asked.cost())),
            Outcome::Failed { .. } => {}
            Outcome::Unmatched => meters.missed(domain, Missed::Unmatched),
            Outcome::Replaced => meters.missed(domain, Missed::Replaced),
            Outcome::UnknownDomain => self.unknown_domains.count(domain, 1),
        }
    }

    #[inline]
    fn count(&self, meters: &Meters, rule: &Rule, asked: Asked<'_, '_>, event: Event) {
        let Some(metered) = meters.rule(rule.id) else { return };
        event.count(&metered.meter);
        if let (Some(series), Some(valueless)) = (&self.series, &metered.valueless) {
            let name = naming::with_values(asked.query.domain, &rule.metric, asked.descriptor);
            series.count(&name, valueless, |meter| event.count(meter));
        }
    }
}

/// The name of gRPC's status `number`.
pub(super) fn status_name(number: usize) -> &'static str {
    latency::STATUSES.get(number).unwrap_or(&"UNKNOWN")
}

/// One descriptor of a request.
#[derive(Clone, Copy)]
struct Asked<'q, 'a> {
    query: &'q Query<'a>,
    descriptor: &'q Descriptor<'a>,
}

impl Asked<'_, '_> {
    fn cost(&self) -> Cost {
        let hits = self.query.hits_of(self.descriptor);
        if self.descriptor.refund { Cost::Refund(hits) } else { Cost::Take(hits) }
    }
}

#[cfg(test)]
mod tests;
