//! Whether requests should come here: one state, told over gRPC and HTTP.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// gRPC service names that tell the state; `""` is always serving while the process lives.
const SERVICES: [&str; 2] = ["ratelimit", "envoy.service.ratelimit.v3.RateLimitService"];

/// What readiness depends on. Liveness depends on nothing.
#[derive(Debug)]
pub struct Health {
    draining: AtomicBool,
    domain_wanted: bool,
    /// Not serving before the first rules.
    rules_wanted: bool,
    rules: AtomicBool,
    any_domain: AtomicBool,
    /// Whether the store can be asked, if that matters; if not, always true.
    store: AtomicBool,
    reporter: HealthReporter,
    /// One report at a time, so that an older one never comes last.
    reporting: Mutex<()>,
}

impl Health {
    /// Serving at once, or (`domain_wanted`) once a set of rules with at least one domain is in force.
    #[must_use]
    pub fn new(domain_wanted: bool, reporter: HealthReporter) -> Health {
        Health {
            draining: AtomicBool::new(false),
            domain_wanted,
            rules_wanted: false,
            rules: AtomicBool::new(false),
            any_domain: AtomicBool::new(false),
            store: AtomicBool::new(true),
            reporter,
            reporting: Mutex::new(()),
        }
    }

    /// The same, which serves only once there are rules, be they empty.
    #[must_use]
    pub fn wanting_rules(self, rules_wanted: bool) -> Health {
        Health { rules_wanted, ..self }
    }

    /// What the reference calls healthy: not leaving, with rules if they were asked for, and with a store that
    /// can be reached if that was.
    #[must_use]
    pub fn serving(&self) -> bool {
        let domain_missing = self.domain_wanted && !self.any_domain.load(Ordering::Relaxed);
        let rules_missing = self.rules_wanted && !self.rules.load(Ordering::Relaxed);
        let store = self.store.load(Ordering::Relaxed);
        !self.draining.load(Ordering::Relaxed) && !domain_missing && !rules_missing && store
    }

    /// Why requests should not come here. Unlike the reference's health this needs a set of rules: without
    /// one every call fails.
    #[must_use]
    pub fn not_ready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("shutting down");
        }
        if !self.store.load(Ordering::Relaxed) {
            return Some("the store cannot be reached");
        }
        (!self.rules.load(Ordering::Relaxed) || !self.serving()).then_some("no rules loaded")
    }

    /// Notes that rules are in force, and whether they have a domain.
    pub async fn rules_loaded(&self, any_domain: bool) {
        self.rules.store(true, Ordering::Relaxed);
        self.any_domain.store(any_domain, Ordering::Relaxed);
        self.report().await;
    }

    /// Notes whether the store can be asked.
    pub async fn store_reachable(&self, reachable: bool) {
        if self.store.swap(reachable, Ordering::Relaxed) != reachable {
            self.report().await;
        }
    }

    /// Begins to turn requests away, for good.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.report().await;
    }

    /// Ends every `Watch`: a caller that never hangs up must not hold up the shutdown.
    pub async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for service in ["", SERVICES[0], SERVICES[1]] {
            reporter.clear_service_status(service).await;
        }
    }

    /// Tells the gRPC health service.
    pub async fn report(&self) {
        let _one = self.reporting.lock().await;
        let status = if self.serving() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
