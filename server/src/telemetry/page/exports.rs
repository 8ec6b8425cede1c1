//! What the page shows of the way to a collector. Nothing if there is none.

use super::instruments::Kind::Counter;
use super::instruments::{Shown, label};

pub(super) const ALL: [Shown; 2] = [
    Shown {
        name: "tollgate.otlp.exports",
        help: "messages for the collector, by signal and by what became of them",
        kind: Counter,
        read: |counts, observer| {
            for (signal, result, times) in counts.exports.all().filter(|_| counts.exports.is_used()) {
                observer.observe(times, &[label("signal", signal), label("result", result)]);
            }
        },
    },
    Shown {
        name: "tollgate.otlp.dropped_traces",
        help: "traces that no collector will see: the queue was full, or they were not taken",
        kind: Counter,
        read: |counts, observer| {
            if counts.exports.is_used() {
                observer.observe(counts.exports.dropped_so_far(), &[]);
            }
        },
    },
];
