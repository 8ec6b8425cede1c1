//! What the page shows of a store in Redis and of the cache of its refusals. Nothing if there is none.

use super::instruments::Kind::{Counter, Gauge};
use super::instruments::{Observer, Shown, label, usage};
use crate::store::{Denials, Fault, Remote};
use crate::telemetry::metrics::Counts;

pub(super) const ALL: [Shown; 11] = [
    Shown {
        name: "tollgate.store.groups",
        help: "groups of hits sent to Redis: one for each request, or for each slot that a request touches",
        kind: Counter,
        read: |counts, observer| remote(counts, observer, |remote| remote.groups),
    },
    Shown {
        name: "tollgate.store.calls",
        help: "calls of the script in Redis; several groups may share one",
        kind: Counter,
        read: |counts, observer| remote(counts, observer, |remote| remote.calls),
    },
    Shown {
        name: "tollgate.store.faults",
        help: "groups of hits that got no answer, by cause",
        kind: Counter,
        read: faults,
    },
    Shown {
        name: "tollgate.store.replaced",
        help: "values found in Redis that were replaced, by what they were",
        kind: Counter,
        read: replaced,
    },
    Shown {
        name: "tollgate.store.uncancelled",
        help: "charges of refused all_or_nothing requests over several slots that could not be taken back",
        kind: Counter,
        read: |counts, observer| remote(counts, observer, |remote| remote.uncancelled),
    },
    Shown {
        name: "tollgate.store.waiting",
        help: "groups of hits that wait for Redis",
        kind: Gauge,
        read: |counts, observer| remote(counts, observer, |remote| remote.waiting),
    },
    Shown {
        name: "tollgate.store.open",
        help: "Redis servers that are not asked, since they failed and no probe has succeeded yet",
        kind: Gauge,
        read: |counts, observer| remote(counts, observer, |remote| remote.open),
    },
    Shown {
        name: "tollgate.store.servers",
        help: "servers of tollgate that share this Redis",
        kind: Gauge,
        read: |counts, observer| remote(counts, observer, |remote| remote.servers),
    },
    Shown {
        name: "tollgate.denials.keys",
        help: "refusals that are remembered",
        kind: Gauge,
        read: |counts, observer| denials(counts, observer, |denials| denials.keys),
    },
    Shown {
        name: "tollgate.denials.hits",
        help: "descriptors refused by an earlier refusal that still held",
        kind: Counter,
        read: |counts, observer| denials(counts, observer, |denials| denials.hits),
    },
    Shown {
        name: "tollgate.denials.saved",
        help: "requests that were refused without asking the store",
        kind: Counter,
        read: |counts, observer| denials(counts, observer, |denials| denials.saved),
    },
];

fn remote(counts: &Counts, observer: Observer<'_>, figure: fn(&Remote) -> u64) {
    usage(counts, |usage| {
        if let Some(remote) = usage.remote {
            observer.observe(figure(&remote), &[]);
        }
    });
}

fn denials(counts: &Counts, observer: Observer<'_>, figure: fn(&Denials) -> u64) {
    usage(counts, |usage| {
        if let Some(denials) = usage.denials {
            observer.observe(figure(&denials), &[]);
        }
    });
}

fn faults(counts: &Counts, observer: Observer<'_>) {
    usage(counts, |usage| {
        let faults = usage.remote.map_or([0; Fault::ALL.len()], |remote| remote.faults);
        for (fault, times) in Fault::ALL.into_iter().zip(faults).filter(|(_, times)| *times > 0) {
            observer.observe(times, &[label("cause", fault.name())]);
        }
    });
}

fn replaced(counts: &Counts, observer: Observer<'_>) {
    usage(counts, |usage| {
        let Some(Remote { replaced, corrupt, .. }) = usage.remote else { return };
        for (was, times) in [("other_algorithm", replaced), ("corrupt", corrupt)] {
            observer.observe(times, &[label("was", was)]);
        }
    });
}
