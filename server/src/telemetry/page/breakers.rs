//! What the page shows of circuits that a fleet shares.

use super::instruments::Kind::{Counter, Gauge};
use super::instruments::{Observer, Shown, label};
use crate::telemetry::metrics::{BreakerSeries, Counts};

pub(super) const ALL: [Shown; 15] = [
    Shown {
        name: "tollgate.breaker.circuits",
        help: "circuits that this server owns, by state",
        kind: Gauge,
        read: |counts, observer| figures(counts, |figures| states(&figures, observer)),
    },
    Shown {
        name: "tollgate.breaker.changes",
        help: "changes of state of circuits, by the state before, the state after and the reason",
        kind: Counter,
        read: |counts, observer| figures(counts, |figures| changes(&figures, observer)),
    },
    plain("tollgate.breaker.reports", "messages of clients about circuits", Counter, |counts, observer| {
        show(counts, observer, |figures| figures.reports);
    }),
    plain("tollgate.breaker.deltas", "outcome deltas in these messages", Counter, |counts, observer| {
        show(counts, observer, |figures| figures.deltas);
    }),
    plain(
        "tollgate.breaker.duplicates",
        "deltas that had been counted before",
        Counter,
        |counts, observer| {
            show(counts, observer, |figures| figures.duplicates);
        },
    ),
    plain(
        "tollgate.breaker.late",
        "outcomes of calls admitted under an older state",
        Counter,
        |counts, observer| {
            show(counts, observer, |figures| figures.late);
        },
    ),
    Shown {
        name: "tollgate.breaker.permits",
        help: "permits for probes, by what became of them: issued (all), expired (unused in time)",
        kind: Counter,
        read: |counts, observer| {
            figures(counts, |figures| {
                observer.observe(figures.permits, &[label("what", "issued")]);
                observer.observe(figures.permits_expired, &[label("what", "expired")]);
            });
        },
    },
    plain("tollgate.breaker.local_faults", "reporters found to fail alone", Counter, |counts, observer| {
        show(counts, observer, |figures| figures.local_faults);
    }),
    plain(
        "tollgate.breaker.full",
        "reports on circuits for which there was no room",
        Counter,
        |counts, observer| {
            show(counts, observer, |figures| figures.full);
        },
    ),
    plain(
        "tollgate.breaker.relayed",
        "messages for circuits of other servers",
        Counter,
        |counts, observer| {
            show(counts, observer, |figures| figures.relayed);
        },
    ),
    plain(
        "tollgate.breaker.undelivered",
        "of these, those that found no way",
        Counter,
        |counts, observer| {
            show(counts, observer, |figures| figures.undelivered);
        },
    ),
    plain("tollgate.breaker.streams", "open streams of clients", Gauge, |counts, observer| {
        show(counts, observer, |figures| figures.streams);
    }),
    plain(
        "tollgate.breaker.listening",
        "clients that circuits tell, once for each circuit",
        Gauge,
        |counts, observer| {
            show(counts, observer, |figures| figures.listening);
        },
    ),
    plain("tollgate.breaker.peers", "other servers that share circuits", Gauge, |counts, observer| {
        show(counts, observer, |figures| figures.peers);
    }),
    plain(
        "tollgate.breaker.peers_lost",
        "of these, those that cannot be reached",
        Gauge,
        |counts, observer| {
            show(counts, observer, |figures| figures.peers_lost);
        },
    ),
];

const fn plain(
    name: &'static str,
    help: &'static str,
    kind: super::instruments::Kind,
    read: fn(&Counts, Observer<'_>),
) -> Shown {
    Shown { name, help, kind, read }
}

fn figures(counts: &Counts, show: impl FnOnce(BreakerSeries)) {
    if let Some(read) = counts.watched.breakers.get() {
        show(read());
    }
}

fn show(counts: &Counts, observer: Observer<'_>, figure: fn(&BreakerSeries) -> u64) {
    figures(counts, |figures| observer.observe(figure(&figures), &[]));
}

fn states(figures: &BreakerSeries, observer: Observer<'_>) {
    for (state, count) in &figures.states {
        observer.observe(*count, &[label("state", *state)]);
    }
}

fn changes(figures: &BreakerSeries, observer: Observer<'_>) {
    for (from, to, reason, times) in &figures.changes {
        observer.observe(*times, &[label("from", *from), label("to", *to), label("reason", *reason)]);
    }
}
