//! What the page shows of the ports, and of panics.

use super::instruments::Kind::Counter;
use super::instruments::{Observer, Shown, label};
use crate::telemetry::metrics::{Counts, PortFigures};
use crate::telemetry::panics;

pub(super) const ALL: [Shown; 4] = [
    Shown {
        name: "tollgate.connections.refused",
        help: "connections closed at once because their port had as many as it may, by port",
        kind: Counter,
        read: |counts, observer| {
            each(counts, |port| {
                if port.port != "admin" {
                    observer.observe(port.refused, &[label("port", port.port)]);
                }
            });
        },
    },
    Shown {
        name: "tollgate.tls.handshakes",
        help: "TLS handshakes by port and result",
        kind: Counter,
        read: |counts, observer| {
            each(counts, |port| {
                let results = [("ok", port.done), ("failed", port.failed), ("timeout", port.timed_out)];
                by_result(observer, port, &results);
            });
        },
    },
    Shown {
        name: "tollgate.tls.reloads",
        help: "changed certificates by port and result; after an error those before stay in use",
        kind: Counter,
        read: |counts, observer| {
            each(counts, |port| {
                by_result(observer, port, &[("success", port.reloaded), ("error", port.not_reloaded)]);
            });
        },
    },
    Shown {
        name: "tollgate.panics",
        help: "panics of any thread or task: each is a fault of this program",
        kind: Counter,
        read: |_, observer| observer.observe(panics::count(), &[]),
    },
];

fn each(counts: &Counts, show: impl Fn(&PortFigures)) {
    if let Some(read) = counts.watched.ports.get() {
        read().iter().for_each(show);
    }
}

fn by_result(observer: Observer<'_>, port: &PortFigures, results: &[(&'static str, u64)]) {
    for (result, times) in results.iter().filter(|_| port.speaks_tls) {
        observer.observe(*times, &[label("port", port.port), label("result", *result)]);
    }
}
