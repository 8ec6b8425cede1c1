//! What the page shows besides the rules: each instrument reads its counters when the page is rendered.
//!
//! Labels come from configuration or from closed lists, never from requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::{breakers, exports, leases, overload, ports, remote, xds};
use crate::store::Usage;
use crate::telemetry::metrics::{Authorities, Counts};

/// What an instrument is told.
pub(super) type Observer<'o> = &'o dyn AsyncInstrument<u64>;

/// One instrument: what it is called, what it means, how it is read.
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) read: fn(&Counts, Observer<'_>),
}

pub(super) enum Kind {
    Counter,
    Gauge,
}

use Kind::{Counter, Gauge};

const ALL: [Shown; 17] = [
    Shown {
        name: "tollgate.unmatched",
        help: "descriptors that no rule of their domain matches",
        kind: Counter,
        read: |counts, observer| missed(counts, observer, 0),
    },
    Shown {
        name: "tollgate.replaced",
        help: "descriptors whose rule another rule of the request replaces",
        kind: Counter,
        read: |counts, observer| missed(counts, observer, 1),
    },
    Shown {
        name: "tollgate.unknown.domain",
        help: "descriptors of domains that no file names",
        kind: Counter,
        read: |counts, observer| observer.observe(counts.unknown_domains.total(), &[]),
    },
    Shown {
        name: "tollgate.shadowed",
        help: "requests that only the global shadow mode let pass",
        kind: Counter,
        read: |counts, observer| observer.observe(counts.shadowed.sum(0), &[]),
    },
    Shown { name: "tollgate.requests", help: "requests by API and result", kind: Counter, read: requests },
    Shown {
        name: "tollgate.held",
        help: "requests that wait for their turn in a leaky bucket",
        kind: Gauge,
        read: |counts, observer| observer.observe(counts.opened.held_now(), &[]),
    },
    Shown { name: "tollgate.connections", help: "open connections", kind: Gauge, read: connections },
    Shown {
        name: "tollgate.authorities",
        help: "header blocks (stopped: connections) with an :authority that h2 would refuse, by what was done",
        kind: Counter,
        read: authorities,
    },
    Shown { name: "tollgate.config.loads", help: "loads of rules by result", kind: Counter, read: loads },
    Shown {
        name: "tollgate.config.last_load_ok",
        help: "1 if the last load of rules was good, 0 if older rules are in force",
        kind: Gauge,
        read: last_load_ok,
    },
    Shown {
        name: "tollgate.config.last_good_timestamp_seconds",
        help: "when the rules in force were loaded",
        kind: Gauge,
        read: last_good,
    },
    Shown {
        name: "tollgate.config.entries",
        help: "size of the rules in force: rules, domains, warnings",
        kind: Gauge,
        read: entries,
    },
    Shown {
        name: "tollgate.store.keys",
        help: "keys in the store",
        kind: Gauge,
        read: |counts, observer| usage(counts, |usage| observer.observe(usage.keys, &[])),
    },
    Shown {
        name: "tollgate.store.bytes",
        help: "estimated bytes that the store's keys take",
        kind: Gauge,
        read: |counts, observer| usage(counts, |usage| observer.observe(usage.bytes, &[])),
    },
    Shown {
        name: "tollgate.store.full",
        help: "new keys that found no room in the store, by what was done",
        kind: Counter,
        read: |counts, observer| usage(counts, |usage| full(&usage, observer)),
    },
    Shown {
        name: "tollgate.store.swept",
        help: "states dropped from the store because they made no difference any more",
        kind: Counter,
        read: |counts, observer| usage(counts, |usage| observer.observe(usage.swept, &[])),
    },
    Shown {
        name: "tollgate.build.info",
        help: "1, with the version",
        kind: Gauge,
        read: |_, observer| observer.observe(1, &[label("version", env!("CARGO_PKG_VERSION"))]),
    },
];

/// Registers every instrument with `provider`.
pub(super) fn register(provider: &SdkMeterProvider, counts: &Arc<Counts>) {
    let meter = provider.meter("tollgate");
    let all = ALL.into_iter().chain(leases::ALL).chain(remote::ALL).chain(breakers::ALL);
    for shown in all.chain(overload::ALL).chain(ports::ALL).chain(exports::ALL).chain(xds::ALL) {
        shown.register(&meter, counts.clone());
    }
}

/// Families of the page by name, with their names in OpenTelemetry: those with dots.
pub(in crate::telemetry) fn dotted() -> HashMap<String, &'static str> {
    let shown =
        ALL.into_iter().chain(leases::ALL).chain(remote::ALL).chain(breakers::ALL).chain(exports::ALL);
    let collected = ["tollgate.decisions", "tollgate.hits", "tollgate.uncounted", "tollgate.fallbacks"];
    let counters = collected.map(|name| (format!("{}_total", name.replace('.', "_")), name));
    let named = shown.map(|shown| {
        let ending = if matches!(shown.kind, Counter) { "_total" } else { "" };
        (format!("{}{ending}", shown.name.replace('.', "_")), shown.name)
    });
    named.chain(counters).collect()
}

impl Shown {
    fn register(self, meter: &Meter, counts: Arc<Counts>) {
        let read = self.read;
        match self.kind {
            // the instrument lives as long as its provider: its handle is not needed
            Counter => drop(
                meter
                    .u64_observable_counter(self.name)
                    .with_description(self.help)
                    .with_callback(move |observer| read(&counts, observer))
                    .build(),
            ),
            Gauge => drop(
                meter
                    .u64_observable_gauge(self.name)
                    .with_description(self.help)
                    .with_callback(move |observer| read(&counts, observer))
                    .build(),
            ),
        }
    }
}

pub(super) fn label(name: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(name, value)
}

fn missed(counts: &Counts, observer: Observer<'_>, which: usize) {
    for (domain, missed) in counts.registry.missed() {
        observer.observe(missed[which], &[label("domain", domain)]);
    }
}

fn requests(counts: &Counts, observer: Observer<'_>) {
    for requested in counts.requests.all() {
        let labels = [label("api", requested.api_name()), label("result", requested.result_name())];
        observer.observe(requested.times, &labels);
    }
}

fn connections(counts: &Counts, observer: Observer<'_>) {
    for (kind, open) in counts.opened.connections() {
        observer.observe(open, &[label("kind", kind)]);
    }
}

fn authorities(counts: &Counts, observer: Observer<'_>) {
    let Some(read) = counts.watched.authorities.get() else { return };
    let Authorities { mended, reencoded, stopped } = read();
    for (done, times) in [("mended", mended), ("reencoded", reencoded), ("stopped", stopped)] {
        observer.observe(times, &[label("done", done)]);
    }
}

fn loads(counts: &Counts, observer: Observer<'_>) {
    observer.observe(counts.loads.good.load(Relaxed), &[label("result", "success")]);
    observer.observe(counts.loads.bad.load(Relaxed), &[label("result", "error")]);
}

fn last_load_ok(counts: &Counts, observer: Observer<'_>) {
    if let Some(ok) = counts.loads.last_ok() {
        observer.observe(u64::from(ok), &[]);
    }
}

fn last_good(counts: &Counts, observer: Observer<'_>) {
    if counts.loads.good.load(Relaxed) > 0 {
        observer.observe(counts.loads.at_micros.load(Relaxed) / 1_000_000, &[]);
    }
}

fn entries(counts: &Counts, observer: Observer<'_>) {
    let loads = &counts.loads;
    for (kind, number) in
        [("rules", &loads.rules), ("domains", &loads.domains), ("warnings", &loads.warnings)]
    {
        observer.observe(number.load(Relaxed), &[label("kind", kind)]);
    }
}

pub(super) fn usage(counts: &Counts, show: impl FnOnce(Usage)) {
    if let Some(store) = counts.watched.store.get() {
        show(store.usage());
    }
}

fn full(usage: &Usage, observer: Observer<'_>) {
    for (answer, times) in
        [("denied", usage.full.denied), ("allowed", usage.full.allowed), ("evicted", usage.full.evicted)]
    {
        observer.observe(times, &[label("answer", answer)]);
    }
}
