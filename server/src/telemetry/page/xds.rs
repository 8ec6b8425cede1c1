//! What the page shows of the management server that rules come from.

use super::instruments::Kind::{Counter, Gauge};
use super::instruments::{Shown, label};

pub(super) const ALL: [Shown; 3] = [
    Shown {
        name: "tollgate.xds.connected",
        help: "1 while there is a connection to the management server",
        kind: Gauge,
        read: |counts, observer| {
            if let Some(read) = counts.watched.xds.get() {
                observer.observe(u64::from(read().connected), &[]);
            }
        },
    },
    Shown {
        name: "tollgate.xds.responses",
        help: "responses of the management server, by what was answered",
        kind: Counter,
        read: |counts, observer| {
            if let Some(read) = counts.watched.xds.get() {
                let read = read();
                observer.observe(read.accepted, &[label("result", "ack")]);
                observer.observe(read.rejected, &[label("result", "nack")]);
            }
        },
    },
    Shown {
        name: "tollgate.xds.in.force",
        help: "1, with the version of the rules that are in force",
        kind: Gauge,
        read: |counts, observer| {
            if let Some(read) = counts.watched.xds.get()
                && let Some(version) = read().version
            {
                observer.observe(1, &[opentelemetry::KeyValue::new("version", version)]);
            }
        },
    },
];
