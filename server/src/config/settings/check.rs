//! What single values cannot show: settings that contradict one another.

use super::auth::{Auth, AuthMapping};
use super::listen::Grpc;
use super::origin::{Origin, Origins};
use super::problem::Problem;
use super::text::Host;
use super::{Rules, Settings, access, breaker, overload, redis, telemetry, tls, xds};

/// Everything that is wrong with settings whose values are sound one by one.
pub(super) fn problems(settings: &Settings, origins: &Origins) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(redis::problems(&settings.store, origins));
    problems.extend(breaker::problems(&settings.breaker, &settings.peers, origins));
    problems.extend(telemetry::problems(&settings.telemetry, origins));
    problems.extend(keepalive(&settings.grpc, origins));
    problems.extend(overload::problems(&settings.overload, origins));
    problems.extend(shared_ports(settings, origins));
    problems.extend(mappings(&settings.auth, origins));
    problems.extend(tls::problems(settings, origins));
    problems.extend(access::problems(settings, origins));
    problems.extend(xds::problems(&settings.xds, origins));
    problems
}

/// What was set but has no effect, beyond the reference's variables.
pub(super) fn warnings(settings: &Settings, origins: &Origins) -> Vec<String> {
    let mut warnings = overruled(&settings.rules, origins);
    warnings.extend(xds::warnings(settings, origins));
    warnings.extend(redis::warnings(&settings.store, origins));
    warnings.extend(breaker::warnings(&settings.peers, &settings.store, origins));
    warnings
}

fn keepalive(grpc: &Grpc, origins: &Origins) -> Option<Problem> {
    let why =
        "grpc.keepalive_timeout must be longer than 0s; set grpc.keepalive_interval = \"0s\" to send no PING";
    (!grpc.keepalive_interval.is_zero() && grpc.keepalive_timeout.is_zero())
        .then(|| refused(origins.of("grpc.keepalive_timeout"), why))
}

/// A port that a part of the server listens on.
struct Listener<'a> {
    key: &'static str,
    host: &'a Host,
    port: u16,
}

impl Listener<'_> {
    fn collides_with(&self, other: &Listener<'_>) -> bool {
        let is_same_host = self.host == other.host || self.host.is_any() || other.host.is_any();
        self.port == other.port && self.port != 0 && is_same_host
    }
}

/// Two settings with one port: named here by setting, where a failed bind would name only an address.
fn shared_ports(settings: &Settings, origins: &Origins) -> Vec<Problem> {
    let Settings { grpc, http, admin, metrics, .. } = settings;
    let mut listeners = vec![
        Listener { key: "http.port", host: &http.host, port: http.port },
        Listener { key: "admin.port", host: &admin.host, port: admin.port },
    ];
    if grpc.uds.is_none() {
        listeners.push(Listener { key: "grpc.port", host: &grpc.host, port: grpc.port });
    }
    if let Some((host, port)) = metrics.prometheus_addr.listen() {
        listeners.push(Listener { key: "metrics.prometheus_addr", host, port });
    }
    let mut problems = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let taken = listeners[..index].iter().filter(|other| listener.collides_with(other));
        problems.extend(taken.map(|other| {
            let set = if origins.is_set(listener.key) { listener.key } else { other.key };
            let why = format!("{} and {} are both {}", other.key, listener.key, listener.port);
            refused(origins.of(set), &why)
        }));
    }
    problems
}

fn mappings(auth: &Auth, origins: &Origins) -> Vec<Problem> {
    let domains = auth.domains.iter().map(|(domain, mapping)| (format!("auth.domains.{domain}"), mapping));
    let default = ("auth.default.descriptors".to_owned(), &auth.default);
    let broken = domains.chain([default]).filter(|(_, mapping)| is_broken(mapping));
    let why = |key: &str| format!("{key}: a descriptor needs an entry, and each entry a key");
    broken.map(|(key, _)| refused(origins.of(&key), &why(&key))).collect()
}

fn is_broken(mapping: &AuthMapping) -> bool {
    mapping
        .descriptors
        .iter()
        .any(|entries| entries.is_empty() || entries.iter().any(|entry| entry.key.is_empty()))
}

/// Parts of `rules.runtime` that `rules.dir` overrules.
fn overruled(rules: &Rules, origins: &Origins) -> Vec<String> {
    if rules.dir.is_none() {
        return Vec::new();
    }
    let winner = origins.of("rules.dir");
    let says =
        |(key, origin): (&str, &Origin)| format!("{key} ({origin}) has no effect: rules.dir ({winner}) wins");
    origins.below("rules.runtime").map(says).collect()
}

fn refused(origin: &Origin, why: &str) -> Problem {
    Problem::Refused { origin: origin.clone(), why: why.to_owned() }
}
