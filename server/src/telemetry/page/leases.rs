//! What the page shows of leases.

use super::instruments::Kind::Counter;
use super::instruments::{Shown, label};

pub(super) const ALL: [Shown; 3] = [
    Shown {
        name: "tollgate.leases",
        help: "requests for leases, by result",
        kind: Counter,
        read: |counts, observer| {
            counts
                .leases
                .leases()
                .for_each(|(result, times)| observer.observe(times, &[label("result", result)]));
        },
    },
    Shown {
        name: "tollgate.lease.returns",
        help: "leases that were given back, by result",
        kind: Counter,
        read: |counts, observer| {
            counts
                .leases
                .returns()
                .for_each(|(result, times)| observer.observe(times, &[label("result", result)]));
        },
    },
    Shown {
        name: "tollgate.lease.tokens",
        help: "tokens of leases: granted, and returned unspent",
        kind: Counter,
        read: |counts, observer| {
            counts
                .leases
                .tokens()
                .for_each(|(what, tokens)| observer.observe(tokens, &[label("what", what)]));
        },
    },
];
